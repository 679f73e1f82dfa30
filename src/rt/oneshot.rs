//! One value from one task of a shard to another.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

enum State<T> {
    Empty(Option<Waker>),
    Full(T),
    /// The sender is gone, or the value was taken.
    Over,
}

pub struct Sender<T>(Rc<RefCell<State<T>>>);

pub struct Receiver<T>(Rc<RefCell<State<T>>>);

pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let state = Rc::new(RefCell::new(State::Empty(None)));
    (Sender(state.clone()), Receiver(state))
}

impl<T> Sender<T> {
    pub fn send(self, value: T) {
        set(&self.0, State::Full(value));
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if matches!(&*self.0.borrow(), State::Empty(_)) {
            set(&self.0, State::Over);
        }
    }
}

fn set<T>(state: &RefCell<State<T>>, next: State<T>) {
    if let State::Empty(Some(waker)) = state.replace(next) {
        waker.wake();
    }
}

impl<T> Future for Receiver<T> {
    /// `None` if the sender went away.
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.0.borrow_mut();
        if let State::Empty(waker) = &mut *state {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        match std::mem::replace(&mut *state, State::Over) {
            State::Full(value) => Poll::Ready(Some(value)),
            _ => Poll::Ready(None),
        }
    }
}
