//! A client that takes nothing of its answers. It may, for as long as nobody needs the memory they hold.

use std::pin::Pin;
use std::task::Context;
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

    /// It has `unsent` bytes to take. An error says why it has to go; until then its task is woken when others wait.
    pub fn poll(&mut self, memory: &Memory, unsent: usize, cx: &mut Context<'_>) -> Result<(), String> {
        let (since, call) = self.0.get_or_insert_with(|| (Ticks::now(), memory.stalled().listen()));
        while Pin::new(&mut *call).poll(cx).is_ready() {
            let taken_nothing = Duration::from_nanos(Ticks::now().since(*since));
            if taken_nothing >= STALLED {
                let seconds = taken_nothing.as_secs();
                return Err(format!("{unsent} bytes of answers not taken for {seconds} s, and others wait"));
            }
            *call = memory.stalled().listen();
        }
        Ok(())
    }
}
