//! How far this shard's journal is on disk, and who waits for which part of it.
//!
//! A commit wakes those whose part it covers and nobody else: with many connections most wait for a later one.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::deadline::Due;
use crate::log::Lsn;

struct Waiter {
    lsn: Lsn,
    number: u64,
    due: Due,
    waker: Waker,
    /// It is due: not to be waited for any longer.
    over: bool,
}

pub(super) struct Durable {
    /// Entries are, up to here.
    upto: Cell<Lsn>,
    /// What was promised and is not.
    promised: RefCell<BTreeSet<Lsn>>,
    /// Sorted by what they wait for; nearly everybody comes in that order.
    waiting: RefCell<VecDeque<Waiter>>,
    next: Cell<u64>,
}

impl Durable {
    pub(super) fn new(upto: Lsn) -> Self {
        let (promised, waiting) = (RefCell::default(), RefCell::default());
        Self { upto: Cell::new(upto), promised, waiting, next: Cell::new(0) }
    }

    /// What has this lsn was appended.
    pub(super) fn expect(&self, lsn: Lsn) {
        if lsn.is_promised() {
            self.promised.borrow_mut().insert(lsn);
        }
    }

    /// Whether what has this lsn is on disk.
    pub(super) fn has(&self, lsn: Lsn) -> bool {
        if lsn.is_promised() { !self.promised.borrow().contains(&lsn) } else { lsn <= self.upto.get() }
    }

    /// Entries up to `upto` are on disk, and of what was promised what `is_durable` says.
    pub(super) fn advance(&self, upto: Lsn, is_durable: impl Fn(Lsn) -> bool) {
        self.upto.set(upto);
        self.promised.borrow_mut().retain(|lsn| !is_durable(*lsn));
        let mut waiting = self.waiting.borrow_mut();
        while waiting.front().is_some_and(|waiter| self.has(waiter.lsn)) {
            waiting.pop_front().expect("there is a first").waker.wake();
        }
        // What was promised does not come in order.
        if waiting.front().is_some_and(|waiter| waiter.lsn <= upto) {
            waiting.retain(|waiter| {
                let done = self.has(waiter.lsn);
                if done {
                    waiter.waker.wake_by_ref();
                }
                !done
            });
        }
    }

    pub(super) fn is_waited_for(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// Ends the waits that are due.
    pub(super) fn wake_due(&self, is_over: impl Fn(Due) -> bool) {
        for waiter in self.waiting.borrow_mut().iter_mut().filter(|waiter| is_over(waiter.due)) {
            waiter.over = true;
            waiter.waker.wake_by_ref();
        }
    }

    /// Nothing more will be: everybody looks why.
    pub(super) fn give_up(&self) {
        self.waiting.borrow_mut().drain(..).for_each(|waiter| waiter.waker.wake());
    }

    /// Resolves when `lsn` is on disk, or nothing will be any more, or it is due.
    pub(super) fn wait(&self, lsn: Lsn, due: Due) -> Wait<'_> {
        Wait { durable: self, lsn, due, number: None }
    }

    fn find(&self, lsn: Lsn, number: u64) -> Option<usize> {
        let waiting = self.waiting.borrow();
        waiting.binary_search_by_key(&(lsn, number), |waiter| (waiter.lsn, waiter.number)).ok()
    }
}

pub(super) struct Wait<'a> {
    durable: &'a Durable,
    lsn: Lsn,
    due: Due,
    number: Option<u64>,
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let durable = self.durable;
        let Some(number) = self.number else {
            if durable.has(self.lsn) {
                return Poll::Ready(());
            }
            let number = durable.next.replace(durable.next.get() + 1);
            self.number = Some(number);
            let mut waiting = durable.waiting.borrow_mut();
            let at = waiting.partition_point(|waiter| waiter.lsn <= self.lsn);
            let (lsn, due, waker) = (self.lsn, self.due, cx.waker().clone());
            waiting.insert(at, Waiter { lsn, number, due, waker, over: false });
            return Poll::Pending;
        };
        let Some(at) = durable.find(self.lsn, number) else {
            self.number = None;
            return Poll::Ready(());
        };
        let mut waiting = durable.waiting.borrow_mut();
        if waiting[at].over {
            waiting.remove(at);
            self.number = None;
            return Poll::Ready(());
        }
        let waker = &mut waiting[at].waker;
        if !waker.will_wake(cx.waker()) {
            waker.clone_from(cx.waker());
        }
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number.take()
            && let Some(at) = self.durable.find(self.lsn, number)
        {
            self.durable.waiting.borrow_mut().remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::rt;

    /// A task for each, that waits and then says so in `woken`.
    async fn wait_for_each(
        durable: &Rc<Durable>,
        woken: &Rc<RefCell<Vec<u64>>>,
        lsns: [u64; 4],
    ) -> Vec<rt::Task<()>> {
        let tasks = lsns.map(|lsn| {
            let (durable, woken) = (durable.clone(), woken.clone());
            rt::spawn(async move {
                durable.wait(Lsn(lsn), Due::NEVER).await;
                woken.borrow_mut().push(lsn);
            })
        });
        rt::yield_now().await;
        tasks.into()
    }

    #[test]
    fn a_commit_wakes_whom_it_covers() {
        rt::block_on(async {
            let durable = Rc::new(Durable::new(Lsn(8)));
            durable.wait(Lsn(8), Due::NEVER).await;
            let woken = Rc::new(RefCell::new(Vec::new()));
            let tasks = wait_for_each(&durable, &woken, [24, 16, 16, 32]).await;
            let dropped = durable.clone();
            let mut dropped = Box::pin(async move { dropped.wait(Lsn(24), Due::NEVER).await });
            std::future::poll_fn(|cx| {
                assert!(dropped.as_mut().poll(cx).is_pending());
                assert!(dropped.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            assert_eq!(durable.waiting.borrow().len(), 5);
            drop(dropped);
            assert_eq!(durable.waiting.borrow().len(), 4);
            durable.advance(Lsn(16), |_| false);
            assert_eq!(durable.waiting.borrow().len(), 2);
            rt::yield_now().await;
            assert_eq!(*woken.borrow(), [16, 16]);
            durable.give_up();
            for task in tasks {
                task.await;
            }
            assert_eq!(*woken.borrow(), [16, 16, 24, 32]);
        });
    }

    #[test]
    fn who_is_due_goes_and_the_others_stay() {
        rt::block_on(async {
            let durable = Rc::new(Durable::new(Lsn(8)));
            let deadlines = super::super::deadline::Deadlines::default();
            let (soon, waits) = (deadlines.after(std::time::Duration::ZERO), durable.clone());
            let task = rt::spawn(async move { waits.wait(Lsn(16), soon).await });
            let woken = Rc::new(RefCell::new(Vec::new()));
            let tasks = wait_for_each(&durable, &woken, [16, 16, 24, 32]).await;
            durable.wake_due(|due| due <= soon);
            task.await;
            assert!(!durable.has(Lsn(16)) && woken.borrow().is_empty());
            assert_eq!(durable.waiting.borrow().len(), 4);
            durable.give_up();
            for task in tasks {
                task.await;
            }
            assert!(!durable.is_waited_for());
        });
    }

    #[test]
    fn what_was_promised_is_waited_for_by_itself() {
        rt::block_on(async {
            let durable = Rc::new(Durable::new(Lsn(8)));
            for lsn in [9, 10, 11] {
                assert!(durable.has(Lsn(lsn)), "nobody appended it");
                durable.expect(Lsn(lsn));
            }
            let woken = Rc::new(RefCell::new(Vec::new()));
            let tasks = wait_for_each(&durable, &woken, [9, 10, 10, 11]).await;
            let mut left = Box::pin(durable.wait(Lsn(10), Due::NEVER));
            std::future::poll_fn(|cx| {
                assert!(left.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            drop(left);
            durable.advance(Lsn(64), |lsn| lsn == Lsn(10));
            rt::yield_now().await;
            assert_eq!(*woken.borrow(), [10, 10]);
            assert!(durable.has(Lsn(10)) && !durable.has(Lsn(9)) && durable.has(Lsn(64)));
            durable.give_up();
            for task in tasks {
                task.await;
            }
            assert_eq!(*woken.borrow(), [10, 10, 9, 11]);
        });
    }
}
