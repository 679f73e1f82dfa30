//! The control thread's part in metadata: takes what shards ask, has it decided and committed, tells the shards.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use flume::Receiver;
use tokio::sync::Notify;

use crate::controller::{ControlRequest, Controller};
use crate::rt;
use crate::rt::mesh::{Call, To};
use crate::shard::message::{self, Asked, End, Port, Reply, Request};
use crate::shard::metrics::MetricsSnapshot;

pub(crate) struct Control {
    port: Rc<Port>,
    shards: usize,
    controller: RefCell<Controller>,
    queue: RefCell<VecDeque<(To<message::Control>, ControlRequest)>>,
    queued: Notify,
}

impl Control {
    pub(crate) fn new(end: End, shards: usize, controller: Controller) -> Self {
        Self {
            port: Port::new(end),
            shards,
            controller: RefCell::new(controller),
            queue: RefCell::default(),
            queued: Notify::new(),
        }
    }

    pub(crate) fn start(self: Rc<Self>, bell: Receiver<()>) {
        let control = self.clone();
        tokio::task::spawn_local(async move {
            while bell.recv_async().await.is_ok() {
                control.take_mail();
            }
        });
        tokio::task::spawn_local(self.decide());
    }

    fn take_mail(&self) {
        self.port.drain(|from, request| match Asked::new(from, request) {
            Asked::Control(message::Control(request), to) => {
                self.queue.borrow_mut().push_back((to, request));
                self.queued.notify_one();
            }
            _ => unreachable!("not for the control thread"),
        });
    }

    /// Commits one change after another; each is answered once every shard has applied it.
    async fn decide(self: Rc<Self>) {
        loop {
            let next = self.queue.borrow_mut().pop_front();
            let Some((to, request)) = next else {
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
                self.broadcast(|| message::Metadata(image.clone())).await;
            }
            self.port.reply(to, reply);
        }
    }

    pub(crate) async fn broadcast<C: Call<Request, Reply>>(&self, request: impl Fn() -> C) -> Vec<C::Reply> {
        let calls: Vec<_> = (0..self.shards).map(|shard| self.port.call(shard, request())).collect();
        let mut replies = Vec::with_capacity(calls.len());
        for call in calls {
            replies.push(call.await);
        }
        replies
    }

    pub(crate) async fn measure(&self) -> Vec<MetricsSnapshot> {
        let snapshots = self.broadcast(|| message::Measure).await;
        snapshots.into_iter().map(|snapshot| *snapshot).collect()
    }
}
