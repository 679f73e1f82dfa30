//! HTTP for operators: health, metrics, and an index of both.
//!
//! Runs on the control thread and asks the shards for snapshots only when it is asked itself; between
//! requests it costs nothing. It knows the shards only as a function that returns their snapshots.
//!
//! - `/health/live`: 200 while the process answers at all.
//! - `/health/ready`: 200 when every shard serves; otherwise 503 and the reason as JSON.
//! - `/metrics`: for Prometheus, as text or, where the scraper asks for it, as protobuf with native histograms.
//! - `/debug/slow`: the slowest recent requests, with where their time went, as JSON.

mod door;
mod names;
pub mod process;
mod prometheus;
mod render;
mod stages;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use crate::shard::metrics::MetricsSnapshot;
pub use door::Door;
use prometheus::Format;

/// A shard that takes longer than this to answer is stuck.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the process is doing, as its main line of work last said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Recovering = 0,
    Serving = 1,
    Stopping = 2,
}

/// Shared between the starting thread, which sets the phase, and the server, which reports it.
#[derive(Clone, Debug, Default)]
pub struct Health {
    phase: Arc<AtomicU8>,
}

impl Health {
    /// Starts in [`Phase::Recovering`].
    pub fn new() -> Self {
        Self::default()
    }

    pub fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Recovering,
            1 => Phase::Serving,
            _ => Phase::Stopping,
        }
    }
}

struct Server<F> {
    source: F,
    shards: usize,
    health: Health,
}

/// Serves until `stop` completes. `source` returns a snapshot of each of `shards` shards; one that is
/// missing counts as not answering.
pub async fn serve<F, Fut>(
    door: Door,
    shards: usize,
    health: Health,
    source: F,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Vec<MetricsSnapshot>> + Send + 'static,
{
    axum::serve(door, router(shards, health, source)).with_graceful_shutdown(stop).await
}

fn router<F, Fut>(shards: usize, health: Health, source: F) -> Router
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Vec<MetricsSnapshot>> + Send + 'static,
{
    Router::new()
        .route("/", get(index))
        .route("/health/live", get(|| async { json_response(StatusCode::OK, &json!({"status": "live"})) }))
        .route("/health/ready", get(ready::<F, Fut>))
        .route("/metrics", get(metrics::<F, Fut>))
        .route("/debug/slow", get(slow::<F, Fut>))
        .fallback(not_found)
        .with_state(Arc::new(Server { source, shards, health }))
}

impl<F, Fut> Server<F>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Vec<MetricsSnapshot>>,
{
    async fn snapshots(&self) -> Vec<MetricsSnapshot> {
        let mut snapshots = tokio::time::timeout(PATIENCE, (self.source)()).await.unwrap_or_default();
        snapshots.sort_by_key(|s| s.shard);
        snapshots
    }

    /// Why this broker should not be given work, if it should not.
    async fn unready(&self) -> Option<String> {
        match self.health.phase() {
            Phase::Recovering => return Some("recovering: reading journals and segments".to_owned()),
            Phase::Stopping => return Some("stopping".to_owned()),
            Phase::Serving => {}
        }
        let snapshots = self.snapshots().await;
        let failed = snapshots.iter().find_map(|s| Some((s.shard, s.journal.failed.as_ref()?)));
        if let Some((shard, reason)) = failed {
            return Some(format!("the journal of shard {shard} failed: {reason}"));
        }
        let waits = snapshots.iter().find_map(|s| Some((s.shard, s.journal.waits.as_ref()?)));
        if let Some((shard, reason)) = waits {
            return Some(format!("the journal of shard {shard} waits: {reason}"));
        }
        if let Some(reason) = snapshots.iter().find_map(|s| s.gauges.metadata_waits.as_ref()) {
            return Some(format!("this broker has no part in the metadata: {reason}"));
        }
        if let Some(silent) = snapshots.iter().find_map(|s| s.gauges.coordinators_silent) {
            return Some(format!(
                "no controller answers this broker: for {} ms its groups and transactions have been refused \
                 (NOT_COORDINATOR); produce and fetch go on",
                silent.as_millis()
            ));
        }
        let silent = (0..self.shards).find(|shard| !snapshots.iter().any(|s| s.shard == *shard));
        silent.map(|shard| format!("shard {shard} does not answer"))
    }
}

async fn index() -> &'static str {
    concat!(
        "Weir ",
        env!("CARGO_PKG_VERSION"),
        "\n\n/health/live   the process answers\n/health/ready  every shard serves\n/metrics       Prometheus text\n/debug/slow    slowest recent requests\n"
    )
}

async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "Not here. GET / lists what is.\n").into_response()
}

async fn ready<F, Fut>(State(server): State<Arc<Server<F>>>) -> Response
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Vec<MetricsSnapshot>> + Send + 'static,
{
    match server.unready().await {
        None => json_response(StatusCode::OK, &json!({"status": "ready"})),
        Some(reason) => {
            json_response(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "not ready", "reason": reason}))
        }
    }
}

async fn metrics<F, Fut>(State(server): State<Arc<Server<F>>>, headers: HeaderMap) -> Response
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Vec<MetricsSnapshot>> + Send + 'static,
{
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(accept);
    let families = render::metrics(&server.snapshots().await, &process::Process::here());
    ([(header::CONTENT_TYPE, format.content_type())], families.encode(format)).into_response()
}

async fn slow<F, Fut>(State(server): State<Arc<Server<F>>>) -> Response
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Vec<MetricsSnapshot>> + Send + 'static,
{
    json_response(StatusCode::OK, &stages::slow(&server.snapshots().await))
}

fn json_response(status: StatusCode, value: &serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}

#[cfg(test)]
mod tests;
