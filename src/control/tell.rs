//! What the shards are told of the metadata and of the controller, and when they have applied it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Control;
use super::answer::Answer;
use super::history::Answers;
use super::quorum::Quorum;
use crate::controller::Settled;
use crate::metadata::Image;
use crate::model::report::{LONGEST_WAIT_MS, Watch};
use crate::rt::mesh::To;
use crate::shard::message::{self, Leads, Measure, Metadata, Removals};
use crate::shard::metrics::MetricsSnapshot;

impl Control {
    /// The metadata that shards are to start from: every change from now on is told them.
    pub(crate) fn begin_to_tell(&self) -> Arc<Image> {
        let image = self.image();
        self.telling.set(true);
        self.tell_leadership();
        self.applied_to(image.version);
        image
    }

    /// Tells the shards who the controller is, if that is news.
    pub(super) fn tell_leadership(&self) {
        let leadership = self.leadership();
        self.reporting.turn(leadership.epoch);
        if self.telling.get() && self.leads.replace(Some(leadership)) != Some(leadership) {
            (0..self.shards).for_each(|shard| drop(self.port.call(shard, Leads(leadership))));
        }
    }

    pub(crate) async fn measure(&self) -> Vec<MetricsSnapshot> {
        let waits = self.quorum.waits();
        let all = self.broadcast(|| Measure).await.into_iter();
        let say = |mut snapshot: Box<MetricsSnapshot>| {
            snapshot.gauges.metadata_waits.clone_from(&waits);
            *snapshot
        };
        all.map(say).collect()
    }

    /// Tells every shard of a commit, and answers once they have applied it.
    pub(super) fn publish(self: &Rc<Self>, settled: Settled<Answer>) {
        let Settled { image, delta, answers } = settled;
        let version = image.version;
        let deletes = !delta.deleted.is_empty();
        self.leaving
            .borrow_mut()
            .extend(delta.deleted.values().map(|topic| (topic.name.to_string(), version)));
        self.left.add(delta.deleted.values().map(|topic| topic.name.to_string()));
        let shown = !delta.is_empty();
        let delta = Arc::new(delta);
        let told = if self.telling.get() { self.shards } else { 0 };
        let calls: Vec<_> =
            (0..told).map(|shard| self.port.call(shard, Metadata(image.clone(), delta.clone()))).collect();
        let (now, later) = if shown { (Vec::new(), answers) } else { (answers, Vec::new()) };
        self.answer(now);
        let control = self.clone();
        tokio::task::spawn_local(async move {
            for call in calls {
                call.await;
            }
            // What they are not told they start from.
            if told > 0 {
                control.applied_to(version);
            }
            control.answer(later);
            if deletes {
                control.broadcast(|| Removals).await;
                control.leaving.borrow_mut().retain(|_, of| *of > version);
                control.unpark();
            }
        });
    }

    /// Answers who watches the cluster, once there is something to tell.
    pub(super) fn watch(&self, watch: Watch, to: To<message::WatchCluster>) {
        let now = Instant::now();
        let until = now + Duration::from_millis(watch.wait_ms.min(LONGEST_WAIT_MS).into());
        self.history.borrow_mut().follow_quorum(&self.quorum.status());
        let answers = self.history.borrow_mut().ask(watch.after, now, until, to);
        self.tell_watchers(answers);
    }

    /// Notes a change for those who watch.
    pub(super) fn show(&self, before: &Image, settled: &Settled<Answer>) {
        if self.history.borrow().is_watched(Instant::now()) {
            let answers = self.history.borrow_mut().follow(before, &settled.image, &settled.delta);
            self.tell_watchers(answers);
        }
    }

    pub(super) fn show_quorum(&self) {
        if self.history.borrow().is_watched(Instant::now()) {
            let answers = self.history.borrow_mut().follow_quorum(&self.quorum.status());
            self.tell_watchers(answers);
        }
    }

    pub(super) fn tell_watchers(&self, answers: Answers<To<message::WatchCluster>>) {
        for (to, changes) in answers {
            self.port.reply(to, Box::new(changes));
        }
    }

    /// Lets those go who watch.
    pub(crate) fn stop_watching(&self) {
        let answers = self.history.borrow_mut().end();
        self.tell_watchers(answers);
    }

    /// Every shard has applied the metadata up to an offset.
    pub(super) fn applied_to(&self, offset: u64) {
        let applied = self.applied.get().max(offset);
        self.applied.set(applied);
        let mut waiting = self.appliers.borrow_mut();
        for (_, to) in waiting.extract_if(.., |(offset, _)| *offset <= applied) {
            self.port.reply(to, ());
        }
        self.applied_more.notify_waiters();
    }

    /// Returns once every shard has applied the metadata up to an offset.
    pub(super) async fn applied_here(&self, offset: u64) {
        loop {
            let mut more = std::pin::pin!(self.applied_more.notified());
            more.as_mut().enable();
            // Shards that have not started start from what there is.
            if !self.telling.get() || self.applied.get() >= offset {
                return;
            }
            more.await;
        }
    }
}
