//! Watching descriptors: a multishot poll for reading that stays, one poll for each wait to write.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::driver::{Driver, Slot};
use super::watch::Watch;

impl Driver {
    /// Starts to watch a descriptor's readiness, edge-triggered.
    pub(super) fn watch(self: &Rc<Self>, fd: OwnedFd) -> Rc<Watch> {
        let watch = Rc::new(Watch::new(fd));
        self.watch_read(&watch);
        watch
    }

    pub(super) fn poll_writable(&self, watch: &Rc<Watch>, cx: &mut Context<'_>) -> Poll<()> {
        let ready = watch.poll_writable(cx);
        if ready.is_pending() && watch.wants_write() {
            let key = self.insert(Slot::Watch(watch.clone()));
            self.push(watch.begin_write(key).user_data(u64::from(key)));
        }
        ready
    }

    /// Ends a watch: the kernel lets go of the descriptor once its polls are cancelled.
    pub(super) fn unwatch(&self, watch: &Watch) {
        watch.close().for_each(|key| self.cancel(key));
    }
}
