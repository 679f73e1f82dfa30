//! How far this shard's journal is on disk, and who waits for which part of it.
//!
//! A commit wakes those whose part it covers and nobody else: with many connections most wait for a later one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::log::Lsn;

pub(super) struct Durable {
    upto: Cell<Lsn>,
    /// Sorted by what they wait for; nearly everybody comes in that order.
    waiting: RefCell<VecDeque<(Lsn, u64, Waker)>>,
    next: Cell<u64>,
}

impl Durable {
    pub(super) fn new(upto: Lsn) -> Self {
        Self { upto: Cell::new(upto), waiting: RefCell::default(), next: Cell::new(0) }
    }

    pub(super) fn upto(&self) -> Lsn {
        self.upto.get()
    }

    /// Everything up to `upto` is on disk.
    pub(super) fn advance(&self, upto: Lsn) {
        self.upto.set(upto);
        let mut waiting = self.waiting.borrow_mut();
        while waiting.front().is_some_and(|(lsn, ..)| *lsn <= upto) {
            let (.., waker) = waiting.pop_front().expect("there is a first");
            waker.wake();
        }
    }

    /// Nothing more will be: everybody looks why.
    pub(super) fn give_up(&self) {
        self.waiting.borrow_mut().drain(..).for_each(|(.., waker)| waker.wake());
    }

    /// Resolves when `lsn` is on disk, or nothing will be any more.
    pub(super) fn wait(&self, lsn: Lsn) -> Wait<'_> {
        Wait { durable: self, lsn, number: None }
    }

    fn find(&self, lsn: Lsn, number: u64) -> Option<usize> {
        let waiting = self.waiting.borrow();
        waiting.binary_search_by_key(&(lsn, number), |(lsn, number, _)| (*lsn, *number)).ok()
    }
}

pub(super) struct Wait<'a> {
    durable: &'a Durable,
    lsn: Lsn,
    number: Option<u64>,
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let durable = self.durable;
        let Some(number) = self.number else {
            if durable.upto.get() >= self.lsn {
                return Poll::Ready(());
            }
            let number = durable.next.replace(durable.next.get() + 1);
            self.number = Some(number);
            let mut waiting = durable.waiting.borrow_mut();
            let at = waiting.partition_point(|(lsn, ..)| *lsn <= self.lsn);
            waiting.insert(at, (self.lsn, number, cx.waker().clone()));
            return Poll::Pending;
        };
        let Some(at) = durable.find(self.lsn, number) else {
            self.number = None;
            return Poll::Ready(());
        };
        let waker = &mut durable.waiting.borrow_mut()[at].2;
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

    #[test]
    fn a_commit_wakes_whom_it_covers() {
        rt::block_on(async {
            let durable = Rc::new(Durable::new(Lsn(10)));
            durable.wait(Lsn(10)).await;
            let woken = Rc::new(RefCell::new(Vec::new()));
            let tasks: Vec<_> = [30, 20, 20, 40]
                .into_iter()
                .map(|lsn| {
                    let (durable, woken) = (durable.clone(), woken.clone());
                    rt::spawn(async move {
                        durable.wait(Lsn(lsn)).await;
                        woken.borrow_mut().push(lsn);
                    })
                })
                .collect();
            rt::yield_now().await;
            let dropped = durable.clone();
            let mut dropped = Box::pin(async move { dropped.wait(Lsn(25)).await });
            std::future::poll_fn(|cx| {
                assert!(dropped.as_mut().poll(cx).is_pending());
                assert!(dropped.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            assert_eq!(durable.waiting.borrow().len(), 5);
            drop(dropped);
            assert_eq!(durable.waiting.borrow().len(), 4);
            durable.advance(Lsn(29));
            assert_eq!(durable.waiting.borrow().len(), 2);
            rt::yield_now().await;
            assert_eq!(*woken.borrow(), [20, 20]);
            durable.give_up();
            for task in tasks {
                task.await;
            }
            assert_eq!(*woken.borrow(), [20, 20, 30, 40]);
        });
    }
}
