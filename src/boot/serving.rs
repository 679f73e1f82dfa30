//! From the first request to the last: the control thread answers HTTP and does what signals ask, until the stop is over.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::signals::{self, Asked, Reload, Signals};
use crate::admin::{self, Door, Health, Phase};
use crate::control::Control;
use crate::shard::message::Stop;
use crate::shard::metrics::MetricsSnapshot;

/// Serves HTTP until SIGTERM or SIGINT, or until this broker can be no member of its cluster any more, then stops the shards; why, if
/// it was that. A second signal ends the process at once, as does
/// a stop that takes longer than `limit`.
pub(super) async fn run_until_stopped(
    control: &Rc<Control>,
    shards: usize,
    http: Option<Door>,
    mut signals: Signals,
    again: &Reload,
    limit: Duration,
) -> Option<String> {
    let health = Health::new();
    if let Some(door) = http {
        serve_http(control.clone(), shards, health.clone(), door);
    }
    health.set(Phase::Serving);
    let ended = loop {
        let asked = tokio::select! {
            asked = signals.next() => asked,
            why = control.ended() => {
                log::error!("this broker cannot keep the cluster's metadata any more, and stops: {why}");
                break Some(why);
            }
        };
        match asked {
            Asked::Reload => signals::reload(again),
            Asked::End(name) => {
                log::info!("{name}: stopping");
                break None;
            }
        }
    };
    health.set(Phase::Stopping);
    tokio::task::spawn_local(async move {
        while signals.next().await == Asked::Reload {}
        log::warn!("second signal: ending at once");
        end_now();
    });
    // The shards end their threads after this; whoever joins them is bounded by this watchdog.
    let watchdog = std::thread::Builder::new().spawn(move || {
        std::thread::sleep(limit);
        log::error!("the stop took longer than {limit:?}: ending; the next start recovers from the journal");
        end_now();
    });
    if let Err(error) = watchdog {
        log::warn!("the stop takes as long as it takes: no thread to watch it: {error}");
    }
    // Who leads on is told before clients lose this broker; one that hears of nothing any more could wait for that in vain.
    if ended.is_none() && control.image().brokers().len() > 1 {
        control.may_stop(limit / 2).await;
        control.hand_over(limit / 4).await;
    }
    control.stop_watching();
    control.broadcast(|| Stop).await;
    ended
}

/// HTTP handlers must be `Send`, and what they ask lives on this thread: they ask by message.
fn serve_http(control: Rc<Control>, shards: usize, health: Health, door: Door) {
    let (questions, mut asked) = mpsc::channel::<oneshot::Sender<Vec<MetricsSnapshot>>>(16);
    tokio::task::spawn_local(async move {
        while let Some(answer) = asked.recv().await {
            let control = control.clone();
            tokio::task::spawn_local(async move { drop(answer.send(control.measure().await)) });
        }
    });
    let source = move || {
        let questions = questions.clone();
        async move {
            let (question, answer) = oneshot::channel();
            match questions.send(question).await {
                Ok(()) => answer.await.unwrap_or_default(),
                Err(_) => Vec::new(),
            }
        }
    };
    tokio::task::spawn_local(async move {
        if let Err(e) = admin::serve(door, shards, health, source, std::future::pending()).await {
            log::error!("HTTP ended: {e}");
        }
    });
}

#[expect(clippy::disallowed_methods, reason = "the operator's second signal, or a stop that hangs")]
fn end_now() -> ! {
    std::process::exit(1)
}

/// The cores that this process may use.
pub(super) fn cores() -> Vec<usize> {
    // SAFETY: a zeroed cpu_set_t is valid, and the call writes no more than its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return Vec::new();
        }
        set
    };
    // SAFETY: the index is below the set's size.
    (0..libc::CPU_SETSIZE as usize).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) }).collect()
}
