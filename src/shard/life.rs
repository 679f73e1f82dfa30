//! Since when a shard runs, and whether it is to end.

use std::cell::Cell;
use std::time::Instant;

use crate::model::MonoMs;
use crate::rt::{self, Notify};

pub(super) struct Life {
    began: Instant,
    stopping: Cell<bool>,
    stop: Notify,
}

impl Life {
    pub(super) fn begin() -> Self {
        Self { began: rt::now(), stopping: Cell::new(false), stop: Notify::new() }
    }

    /// The shard's clock.
    pub(super) fn now(&self) -> MonoMs {
        MonoMs(rt::now().duration_since(self.began).as_millis() as i64)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    pub(super) fn stop(&self) {
        self.stopping.set(true);
        self.stop.notify_all();
    }

    /// Resolves once the shard is to end, also if it is by now.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let (stop, stopping) = (self.stop.listen(), self.is_stopping());
        async move {
            if !stopping {
                stop.await;
            }
        }
    }
}
