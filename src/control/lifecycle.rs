//! This broker's life in the cluster: it says that it lives, as long as every shard of its turns, and stops when it may.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Control;
use super::quorum::Quorum;
use super::voters::{self, Gone, View};
use crate::controller::{ControlErrorKind as Kind, ControlReply, ControlRequest, Heartbeat, Registration};
use crate::model::BrokerEpoch;
use crate::model::settings::ClusterSettings;
use crate::rt;
use crate::shard::message::{self, Ping};

/// How often members are looked after, for some time after the metadata changed, and otherwise.
const LOOK: Duration = Duration::from_millis(50);
const LOOK_LONG: Duration = Duration::from_secs(5);
const LOOK_IDLE: Duration = Duration::from_secs(1);
/// How often the controller does what time asks for.
const TICK: Duration = Duration::from_millis(500);

impl Control {
    /// Says that this broker lives, until the process ends. Its registration is committed.
    pub(crate) async fn live(self: Rc<Self>) {
        tokio::task::spawn_local(self.clone().keep_pinging());
        tokio::task::spawn_local(self.clone().keep_loads());
        let mut next = tokio::time::Instant::now();
        loop {
            if self.shards_turn() {
                self.heartbeat().await;
            }
            next += self.heartbeat;
            let now = tokio::time::Instant::now();
            next = next.max(now + self.heartbeat / 4);
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.standing.hurry.notified() => {}
            }
        }
    }

    /// However long the controller takes to answer.
    async fn keep_pinging(self: Rc<Self>) {
        let mut interval = tokio::time::interval(self.heartbeat);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.ping_shards();
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
        let late = turned.iter().position(|at| at.elapsed() > self.session / 2);
        match late {
            Some(shard) if self.serving.get() => {
                log::error!(
                    "shard {shard} has not answered for {:?}: this broker does not say that it lives",
                    self.session / 2
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
            load: self.reporting.next(),
        };
        let (epoch, load) = (self.reporting.epoch(), heartbeat.load.clone());
        let sent = Instant::now();
        let standing = &self.standing;
        match self.ask_controller(ControlRequest::Heartbeat(heartbeat), self.session / 2).await {
            ControlReply::Heard(heard) => {
                load.iter().for_each(|load| self.reporting.heard(epoch, load));
                standing.heard.set(sent);
                // For so long it takes itself for who coordinates (C7): sooner than anybody else is told to.
                let until = sent + self.session * 4 / 5;
                (0..self.shards).for_each(|shard| drop(self.port.call(shard, message::Heard(until))));
                standing.fenced.set(heard.fenced);
                standing.may_stop.set(heard.may_stop);
                standing.changed.notify_waiters();
            }
            ControlReply::Failed(error) if error.kind == Kind::NotController => {}
            other => log::warn!("this broker said that it lives, and was answered: {other:?}"),
        }
    }

    /// Returns when this broker is unfenced, or after `limit`; whether it is.
    pub(crate) async fn unfenced(&self, limit: Duration) -> bool {
        self.standing.hurry.notify_one();
        let wait = async {
            while self.standing.fenced.get() {
                self.standing.changed.notified().await;
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
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

    /// Has another voter lead the quorum, if this one does and is about to stop: nobody has to find out that it is gone. Where
    /// that fails it goes on leading.
    pub(crate) async fn hand_over(&self, limit: Duration) {
        if self.quorum.leads().is_none() {
            return;
        }
        let Some(to) = voters::successor(&self.quorum.status(), &self.image()) else { return };
        match tokio::time::timeout(limit, self.quorum.hand_over(to)).await {
            Ok(Ok(())) => log::info!("broker {} is the controller from now on", to.node),
            Ok(Err(why)) => log::warn!("broker {} has not become the controller: {why}", to.node),
            Err(_) => log::warn!("broker {} has not become the controller within {limit:?}", to.node),
        }
    }

    /// Has the controller do what time asks for, for as long as the process lives.
    pub(super) async fn tick(self: Rc<Self>) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let over = self.history.borrow_mut().pass(Instant::now());
            self.tell_watchers(over);
            self.show_quorum();
            self.quorum.ready().await;
            if let Some(epoch) = self.quorum.leads() {
                let step = self.controller.borrow_mut().tick(self.now());
                self.take(epoch, step);
                let silent =
                    self.controller.borrow().silent(self.now(), 2 * self.heartbeat.as_millis() as i64);
                self.look_for_all(silent);
            }
        }
    }

    /// Has every registered broker be a member of the quorum, and as many vote as there should, while this one leads.
    pub(super) async fn keep_members(self: Rc<Self>) {
        let (mut version, mut since) = (0, Instant::now());
        let ClusterSettings { quorum_voters, quorum_replace_after_ms, .. } = self.cluster;
        let mut gone = Gone::default();
        loop {
            let pause = if since.elapsed() < LOOK_LONG { LOOK } else { LOOK_IDLE };
            drop(tokio::time::timeout(pause, self.applied_more.notified()).await);
            let now = self.image().version;
            if version != now {
                (version, since) = (now, Instant::now());
                tokio::time::sleep(LOOK).await;
            }
            if self.quorum.leads().is_none() {
                // Who has just come to lead does not know since when.
                gone = Gone::default();
                continue;
            }
            let (status, image) = (self.quorum.status(), self.image());
            let view = View { status: &status, image: &image, now_ms: rt::unix_ms() };
            let lost = gone.look(&view, self.now(), quorum_replace_after_ms);
            let Some(change) = voters::next_change(view, quorum_voters, &lost) else { continue };
            let said = format!("{change:?}");
            since = Instant::now();
            match self.quorum.change(change).await {
                Ok(()) => log::debug!("members of the quorum: {said}"),
                Err(why) => log::debug!("members of the quorum, not yet: {said}: {why}"),
            }
        }
    }

    /// Registers this life of a broker that is a member of the cluster: its epoch. Returns once the controller has taken it, or
    /// says why it never will.
    pub(crate) async fn register(&self, registration: Registration) -> Result<BrokerEpoch, String> {
        let request = ControlRequest::Register(Box::new(registration));
        let began = Instant::now();
        loop {
            match self.ask_controller(request.clone(), self.session).await {
                ControlReply::Registered { epoch, .. } => return Ok(epoch),
                ControlReply::Failed(error) => match error.kind {
                    Kind::NotController | Kind::Unavailable => {
                        let shut_out = self.standing.shut_out.take();
                        let why = shut_out.unwrap_or_else(|| error.to_string());
                        log::warn!("waiting to register, for {} s: {why}", began.elapsed().as_secs());
                    }
                    // The last life of this broker may be taken to live until its session is over.
                    Kind::DuplicateRegistration if began.elapsed() < 2 * self.session => {
                        tokio::time::sleep(self.heartbeat / 4).await;
                    }
                    _ => return Err(error.message),
                },
                other => return Err(format!("the controller answered something else: {other:?}")),
            }
        }
    }

    /// Returns once the metadata here has the registration of this life.
    pub(crate) async fn follow_to(&self, epoch: BrokerEpoch) {
        let mut said = Instant::now();
        loop {
            let image = self.image();
            let here = image.broker(self.me.id).is_some_and(|me| me.incarnation == self.me.incarnation);
            if here && i64::try_from(image.version).is_ok_and(|version| version >= epoch.0) {
                return;
            }
            if said.elapsed() > self.session {
                said = Instant::now();
                log::warn!(
                    "waiting for the cluster's metadata up to offset {}, and there is it up to {}",
                    epoch.0,
                    image.version
                );
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Returns once this broker can be no member of the quorum any more, and why: it must not live on as one.
    pub(crate) async fn ended(&self) -> String {
        loop {
            let ended = self.has_ended.notified();
            if let Some(why) = &*self.ended.borrow() {
                return why.clone();
            }
            ended.await;
        }
    }

    /// Ends the quorum here: what was proposed is written.
    pub(crate) async fn stop(&self) {
        self.quorum.stop().await;
    }
}
