//! A client that takes nothing of its answers. It may, for as long as nobody needs the memory they hold.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::rt::{Listen, Ticks};
use crate::shard::memory::{Memory, STALLED};

/// Since when, and the call that such connections have to go.
#[derive(Default)]
pub(super) struct Blocked(Option<(Ticks, Listen)>);

impl Blocked {
    /// It took something.
    pub fn end(&mut self) {
        self.0 = None;
    }

    /// Returns for how long it has taken nothing, once that is too long while others wait; pending until then.
    pub fn poll(&mut self, memory: &Memory, cx: &mut Context<'_>) -> Poll<Duration> {
        let (since, call) = self.0.get_or_insert_with(|| (Ticks::now(), memory.stalled().listen()));
        while Pin::new(&mut *call).poll(cx).is_ready() {
            let taken_nothing = Duration::from_nanos(Ticks::now().since(*since));
            if taken_nothing >= STALLED {
                return Poll::Ready(taken_nothing);
            }
            *call = memory.stalled().listen();
        }
        Poll::Pending
    }
}
