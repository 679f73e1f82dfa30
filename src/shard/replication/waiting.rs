//! Waiting for one of two things.

use std::pin::{Pin, pin};
use std::task::Poll;

use crate::rt;

/// Whether the sleep was over before somebody woke.
pub(super) async fn first(woken: rt::Listen, mut sleep: Pin<&mut rt::Sleep>) -> bool {
    let mut woken = pin!(woken);
    std::future::poll_fn(move |cx| {
        if woken.as_mut().poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        sleep.as_mut().poll(cx).map(|()| true)
    })
    .await
}
