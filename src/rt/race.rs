//! Waiting for the first of two.

use std::pin::pin;
use std::task::Poll;

/// Which of two was first, and what came of it.
#[derive(Debug, PartialEq, Eq)]
pub enum First<A, B> {
    A(A),
    B(B),
}

impl<A, B> First<A, B> {
    pub fn a(self) -> Option<A> {
        match self {
            Self::A(a) => Some(a),
            Self::B(_) => None,
        }
    }
}

/// Returns what the first of the two comes to, `a` if both are ready; the other is dropped.
pub async fn race<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> First<A, B> {
    let (mut a, mut b) = (pin!(a), pin!(b));
    std::future::poll_fn(|cx| match a.as_mut().poll(cx) {
        Poll::Ready(a) => Poll::Ready(First::A(a)),
        Poll::Pending => b.as_mut().poll(cx).map(First::B),
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::rt;

    #[test]
    fn the_first_wins_and_of_two_the_left_one() {
        rt::block_on(async {
            assert_eq!(race(ready(1), ready(2)).await, First::A(1));
            assert_eq!(race(pending::<i32>(), ready(2)).await, First::B(2));
            let (sender, receiver) = rt::oneshot::channel();
            let task = rt::spawn(race(receiver, pending::<()>()));
            sender.send(3);
            assert_eq!(task.await.a(), Some(Some(3)));
        });
    }
}
