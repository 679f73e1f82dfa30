//! Logs that are being cut: a close begins no cut, and waits for those under way.

use std::cell::Cell;
use std::rc::Rc;

use crate::log::JournalFailed;
use crate::rt::Notify;

#[derive(Default)]
pub struct Cuts {
    under_way: Cell<usize>,
    closed: Cell<bool>,
    over: Notify,
}

/// A cut, until it is dropped.
pub struct UnderWay(Rc<Cuts>);

impl Cuts {
    /// Fails once the log is to be closed: the next life cuts it.
    pub fn begin(self: &Rc<Self>) -> Result<UnderWay, JournalFailed> {
        if self.closed.get() {
            return Err(JournalFailed("the log is being closed".into()));
        }
        self.under_way.set(self.under_way.get() + 1);
        Ok(UnderWay(self.clone()))
    }

    /// None is begun from now on.
    pub fn close(&self) {
        self.closed.set(true);
    }

    pub fn are_closed(&self) -> bool {
        self.closed.get()
    }

    /// Returns once none is under way.
    pub async fn over(&self) {
        loop {
            let over = self.over.listen();
            if self.under_way.get() == 0 {
                return;
            }
            over.await;
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
        self.0.over.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt;

    #[test]
    fn a_close_waits_for_what_was_begun_and_lets_nothing_begin() {
        rt::block_on(async {
            let cuts = Rc::new(Cuts::default());
            let (one, other) = (cuts.begin().unwrap(), cuts.begin().unwrap());
            cuts.close();
            assert!(cuts.begin().is_err());
            drop(one);
            let seen = Rc::new(Cell::new(false));
            let (closing, over) = (cuts.clone(), seen.clone());
            let waits = rt::spawn(async move {
                closing.over().await;
                over.set(true);
            });
            rt::yield_now().await;
            assert!(!seen.get(), "one is under way");
            drop(other);
            waits.await;
            cuts.over().await;
        });
    }
}
