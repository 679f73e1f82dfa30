//! One request under way on a connection, and the time that it takes where somebody's time is limited.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use kafka_wire_core::StrBytes;

use crate::api::{Outcome, Pending};
use crate::rt;
use crate::security::quota::Kind;
use crate::shard::Shard;

pub(super) struct InFlight {
    pending: Pending,
    pub ready: Option<Outcome>,
    pub api_key: i16,
    pub bytes: usize,
    pub started: Instant,
    timed: Option<(Option<StrBytes>, Duration)>,
}

impl InFlight {
    /// Takes up what `begin` starts.
    pub fn new(
        shard: &Shard,
        (api_key, bytes): (i16, usize),
        client_id: &Option<StrBytes>,
        started: Instant,
        begin: impl FnOnce() -> Pending,
    ) -> Self {
        let client = shard.quotas.is_limited(Kind::Request).then(|| client_id.clone());
        let pending = begin();
        let timed = client.map(|client| (client, started.elapsed()));
        Self { pending, ready: None, api_key, bytes, started, timed }
    }

    pub fn poll(&mut self, cx: &mut Context<'_>) {
        let began = self.timed.is_some().then(rt::now);
        if let Poll::Ready(outcome) = self.pending.as_mut().poll(cx) {
            self.ready = Some(outcome);
        }
        if let (Some(began), Some((_, spent))) = (began, &mut self.timed) {
            *spent += began.elapsed();
        }
    }

    /// Counts the time that it took.
    pub fn settle(&self, shard: &Shard) {
        if let Some((client, spent)) = &self.timed {
            shard.quotas.spent(client.as_deref().unwrap_or_default(), *spent);
        }
    }
}
