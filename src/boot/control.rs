//! The control thread: commits metadata, tells the shards, answers HTTP, does what signals ask.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use flume::Receiver;
use tokio::sync::{Notify, mpsc, oneshot};

use super::signals::{self, Asked, Reload, Signals};
use crate::admin::{self, Door, Health, Phase};
use crate::cluster::{ControlRequest, Controller};
use crate::rt::{self, mesh};
use crate::shard::message::{End, Port, Reply, Request};
use crate::shard::metrics::MetricsSnapshot;

pub(super) struct Control {
    port: Rc<Port>,
    shards: usize,
    controller: RefCell<Controller>,
    queue: RefCell<VecDeque<(mesh::From, ControlRequest)>>,
    queued: Notify,
    health: Health,
}

impl Control {
    pub(super) fn new(end: End, shards: usize, controller: Controller) -> Self {
        Self {
            port: Port::new(end),
            shards,
            controller: RefCell::new(controller),
            queue: RefCell::default(),
            queued: Notify::new(),
            health: Health::new(),
        }
    }

    pub(super) fn start(self: Rc<Self>, bell: Receiver<()>) {
        let control = self.clone();
        tokio::task::spawn_local(async move {
            while bell.recv_async().await.is_ok() {
                control.take_mail();
            }
        });
        tokio::task::spawn_local(self.decide());
    }

    fn take_mail(&self) {
        self.port.drain(|from, request| match request {
            Request::Control(request) => {
                self.queue.borrow_mut().push_back((from, request));
                self.queued.notify_one();
            }
            _ => unreachable!("not for the control thread"),
        });
    }

    /// Commits one change after another; each is answered once every shard has applied it.
    async fn decide(self: Rc<Self>) {
        loop {
            let next = self.queue.borrow_mut().pop_front();
            let Some((from, request)) = next else {
                self.queued.notified().await;
                continue;
            };
            let (reply, image) = {
                let mut controller = self.controller.borrow_mut();
                let before = controller.image();
                let reply = controller.handle(request, rt::unix_ms());
                let after = controller.image();
                (reply, (!Arc::ptr_eq(&before, &after)).then_some(after))
            };
            if let Some(image) = image {
                self.broadcast(|| Request::Image(image.clone())).await;
            }
            self.port.reply(from, Reply::Control(reply));
        }
    }

    async fn broadcast(&self, request: impl Fn() -> Request) -> Vec<Reply> {
        let calls: Vec<_> = (0..self.shards).map(|shard| self.port.call(shard, request())).collect();
        let mut replies = Vec::with_capacity(calls.len());
        for call in calls {
            replies.push(call.await);
        }
        replies
    }

    async fn measure(&self) -> Vec<MetricsSnapshot> {
        let replies = self.broadcast(|| Request::Metrics).await;
        let snapshots = replies.into_iter().filter_map(|reply| match reply {
            Reply::Metrics(snapshot) => Some(*snapshot),
            _ => None,
        });
        snapshots.collect()
    }

    /// Serves HTTP until SIGTERM or SIGINT, then stops the shards. A second signal ends the process at once, as does
    /// a stop that takes longer than `limit`.
    pub(super) async fn run_until_stopped(
        self: &Rc<Self>,
        http: Option<Door>,
        mut signals: Signals,
        again: &Reload,
        limit: Duration,
    ) {
        if let Some(door) = http {
            self.clone().serve_http(door);
        }
        self.health.set(Phase::Serving);
        loop {
            match signals.next().await {
                Asked::Reload => signals::reload(again),
                Asked::End(name) => break log::info!("{name}: stopping"),
            }
        }
        self.health.set(Phase::Stopping);
        tokio::task::spawn_local(async move {
            while signals.next().await == Asked::Reload {}
            log::warn!("second signal: ending at once");
            end_now();
        });
        // The shards end their threads after this; whoever joins them is bounded by this watchdog.
        let watchdog = std::thread::Builder::new().spawn(move || {
            std::thread::sleep(limit);
            log::error!(
                "the stop took longer than {limit:?}: ending; the next start recovers from the journal"
            );
            end_now();
        });
        if let Err(error) = watchdog {
            log::warn!("the stop takes as long as it takes: no thread to watch it: {error}");
        }
        self.broadcast(|| Request::Stop).await;
    }

    /// HTTP handlers must be `Send`, and what they ask lives on this thread: they ask by message.
    fn serve_http(self: Rc<Self>, door: Door) {
        let (questions, mut asked) = mpsc::channel::<oneshot::Sender<Vec<MetricsSnapshot>>>(16);
        let (shards, health) = (self.shards, self.health.clone());
        tokio::task::spawn_local(async move {
            while let Some(answer) = asked.recv().await {
                let control = self.clone();
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
