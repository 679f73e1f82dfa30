//! This broker's life in the cluster: it says that it lives, as long as every shard of its turns, and stops when it may.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Control, Quorum};
use crate::controller::{ControlErrorKind, ControlReply, ControlRequest, Heartbeat};
use crate::shard::message::Ping;

/// How often a broker says that it lives.
const INTERVAL: Duration = Duration::from_secs(1);
/// After how long a silence it is fenced.
const SESSION: Duration = Duration::from_secs(6);
/// How often the controller does what time asks for.
const TICK: Duration = Duration::from_millis(500);

impl<Q: Quorum + 'static> Control<Q> {
    /// Says that this broker lives, until the process ends. Its registration is committed.
    pub(crate) async fn live(self: Rc<Self>) {
        let mut next = tokio::time::Instant::now();
        loop {
            self.ping_shards();
            if self.shards_turn() {
                self.heartbeat().await;
            }
            next += INTERVAL;
            let now = tokio::time::Instant::now();
            next = next.max(now + INTERVAL / 4);
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.standing.hurry.notified() => {}
            }
        }
    }

    fn ping_shards(self: &Rc<Self>) {
        if !self.serving.get() {
            return;
        }
        for shard in 0..self.shards {
            let (control, pong) = (self.clone(), self.port.call(shard, Ping));
            tokio::task::spawn_local(async move {
                pong.await;
                control.standing.turned.borrow_mut()[shard] = Instant::now();
            });
        }
    }

    /// Whether every shard has answered lately. One that still recovers has nothing to answer yet.
    fn shards_turn(&self) -> bool {
        let turned = self.standing.turned.borrow();
        let late = turned.iter().position(|at| at.elapsed() > SESSION / 2);
        match late {
            Some(shard) if self.serving.get() => {
                log::error!(
                    "shard {shard} has not answered for {:?}: this broker does not say that it lives",
                    SESSION / 2
                );
                false
            }
            _ => true,
        }
    }

    async fn heartbeat(&self) {
        let image = self.image();
        let Some(me) = image.broker(self.me.id).filter(|me| me.incarnation == self.me.incarnation) else {
            return;
        };
        let heartbeat = Heartbeat {
            id: me.id,
            epoch: me.epoch,
            applied: self.applied.get(),
            wants_fence: !self.serving.get(),
            wants_shutdown: self.standing.wants_shutdown.get(),
            needs_repair: Vec::new(),
        };
        let sent = Instant::now();
        let standing = &self.standing;
        match self.ask_controller(ControlRequest::Heartbeat(heartbeat), SESSION / 2).await {
            ControlReply::Heard(heard) => {
                standing.heard.set(sent);
                standing.fenced.set(heard.fenced);
                standing.may_stop.set(heard.may_stop);
                standing.changed.notify_waiters();
            }
            ControlReply::Failed(error) if error.kind == ControlErrorKind::NotController => {}
            other => log::warn!("this broker said that it lives, and was answered: {other:?}"),
        }
    }

    /// Asks to have what this broker leads led by others, and returns when it may stop, or after `limit`.
    pub(crate) async fn may_stop(&self, limit: Duration) {
        self.standing.wants_shutdown.set(true);
        let wait = async {
            while !self.standing.may_stop.get() {
                self.standing.hurry.notify_one();
                let again = tokio::time::sleep(Duration::from_millis(100));
                tokio::select! {
                    () = self.standing.changed.notified() => {}
                    () = again => {}
                }
            }
        };
        if tokio::time::timeout(limit, wait).await.is_err() {
            log::warn!("nobody has said within {limit:?} that this broker may stop: it stops all the same");
        }
    }

    /// Has the controller do what time asks for, for as long as the process lives.
    pub(super) async fn tick(self: Rc<Self>) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.quorum.ready().await;
            if let Some(epoch) = self.quorum.leads() {
                let step = self.controller.borrow_mut().tick(self.now());
                self.take(epoch, step);
            }
        }
    }
}
