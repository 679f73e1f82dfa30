//! One request under way on a connection, and the time that it takes where somebody's time is limited.

use std::task::{Context, Poll};
use std::time::Duration;

use kafka_wire_core::StrBytes;

use crate::api::{Outcome, Pending};
use crate::rt::{Charge, Ticks};
use crate::security::quota::Kind;
use crate::shard::Shard;
use crate::shard::context::ConnectionContext;
use crate::shard::quotas::Who;
use crate::shard::timing::Timed;

pub(super) struct InFlight {
    pending: Pending,
    pub ready: Option<Outcome>,
    /// Its moments; `ready` and `appending` hold once there is an answer.
    pub timed: Timed,
    /// Its frame's.
    _memory: Charge,
    /// Whose time it takes, and how much so far, where that is limited.
    limited: Option<(Option<StrBytes>, Duration)>,
}

impl InFlight {
    /// Takes up what `begin` starts.
    pub fn new(
        shard: &Shard,
        mut timed: Timed,
        memory: Charge,
        client_id: &Option<StrBytes>,
        begin: impl FnOnce() -> Pending,
    ) -> Self {
        let client = shard.quotas.is_limited(Kind::Request).then(|| client_id.clone());
        let pending = begin();
        let (appended_ns, appended) = shard.metrics.timing.take_append();
        timed.appended_here_ns = appended_ns;
        // An append is the last that is done before a request has to wait. Reading the clock again would be felt.
        timed.routed = appended.unwrap_or_else(Ticks::now);
        let limited = client.map(|client| (client, Duration::from_nanos(timed.routed.since(timed.started))));
        Self { pending, ready: None, timed, _memory: memory, limited }
    }

    pub fn poll(&mut self, shard: &Shard, cx: &mut Context<'_>) {
        let began = self.limited.is_some().then(Ticks::now);
        if let Poll::Ready(outcome) = self.pending.as_mut().poll(cx) {
            self.ready = Some(outcome);
            self.timed.appending = shard.metrics.timing.take_appending();
            self.timed.ready = Ticks::now();
        }
        if let (Some(began), Some((_, spent))) = (began, &mut self.limited) {
            *spent += Duration::from_nanos(Ticks::now().since(began));
        }
    }

    /// Counts the time that it took; its moments go on with the answer.
    pub fn settle(self, shard: &Shard, connection: &ConnectionContext) -> Timed {
        if let Some((client, spent)) = &self.limited {
            let (principal, client_id) = (connection.principal(), client.as_deref().unwrap_or_default());
            shard.quotas.spent(Who { principal, client_id }, *spent);
        }
        self.timed
    }
}
