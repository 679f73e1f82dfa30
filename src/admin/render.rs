//! Which metrics there are: one block a family.

use super::names::api_name;
use super::process::Process;
use super::prometheus::{Families, Kind};
use super::stages;
use crate::rt::{BudgetFigures, errors};
use crate::shard::metrics::{ApiSnapshot, JournalSnapshot, MetricsSnapshot};
use crate::shard::strangers::{Door, seen};
use crate::wire::error_code::ErrorCode;
use crate::wire::stranger::Speaks;

/// Bucket bounds of durations, in microseconds.
const DURATIONS: &[u64] = &[
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];
/// Bucket bounds of commit sizes, in bytes.
const SIZES: &[u64] = &[4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20];
const MICROSECOND: f64 = 1e-6;

pub fn metrics(shards: &[MetricsSnapshot], process: &Process) -> Families {
    let mut out = Families::default();
    out.family("weir_build_info", Kind::Gauge, "Version of the running broker; always 1.");
    out.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    requests(&mut out, shards);
    errors(&mut out, shards);
    misdirected(&mut out);
    durations(&mut out, shards);
    connections(&mut out, shards);
    records(&mut out, shards);
    stages::metrics(&mut out, shards);
    compaction(&mut out, shards);
    storage(&mut out, shards);
    throttled(&mut out, shards);
    journal(&mut out, shards);
    memory(&mut out, shards);
    integrity(&mut out, shards);
    coordinators(&mut out, shards);
    of_process(&mut out, process);
    out
}

/// One sample for each API of each shard.
fn each_api(
    out: &mut Families,
    shards: &[MetricsSnapshot],
    (name, kind, help): (&'static str, Kind, &str),
    value: impl Fn(&ApiSnapshot) -> f64,
) {
    out.family(name, kind, help);
    for shard in shards {
        for api in &shard.apis {
            let labels = [("shard", &*shard.shard.to_string()), ("api", &*api_name(api.key))];
            out.sample(&labels, value(api));
        }
    }
}

/// One sample for each shard.
fn each_shard(
    out: &mut Families,
    shards: &[MetricsSnapshot],
    (name, kind, help): (&'static str, Kind, &str),
    value: impl Fn(&MetricsSnapshot) -> u64,
) {
    out.family(name, kind, help);
    for shard in shards {
        out.sample(&[("shard", &shard.shard.to_string())], value(shard) as f64);
    }
}

fn requests(out: &mut Families, shards: &[MetricsSnapshot]) {
    let counter = Kind::Counter;
    each_api(out, shards, ("weir_requests_total", counter, "Requests received."), |a| a.requests as f64);
    each_api(
        out,
        shards,
        ("weir_request_bytes_total", counter, "Bytes of requests, frames included."),
        |a| a.bytes_in as f64,
    );
    each_api(
        out,
        shards,
        ("weir_response_bytes_total", counter, "Bytes of responses, frames included."),
        |a| a.bytes_out as f64,
    );
    each_api(
        out,
        shards,
        ("weir_requests_in_flight", Kind::Gauge, "Requests received and not answered yet."),
        |a| a.in_flight as f64,
    );
}

fn errors(out: &mut Families, shards: &[MetricsSnapshot]) {
    out.family(
        "weir_request_errors_total",
        Kind::Counter,
        "Error codes answered, one for each partition or resource.",
    );
    for shard in shards {
        for api in &shard.apis {
            for (code, count) in &api.errors {
                let labels = [
                    ("shard", &*shard.shard.to_string()),
                    ("api", &*api_name(api.key)),
                    ("error", ErrorCode::from_code(*code).name()),
                ];
                out.sample(&labels, *count as f64);
            }
        }
    }
    out.family(
        "weir_protocol_errors_total",
        Kind::Counter,
        "Frames that could not be answered as a request.",
    );
    for shard in shards {
        for (reason, count) in shard.protocol_errors {
            out.sample(&[("shard", &shard.shard.to_string()), ("reason", reason)], count as f64);
        }
    }
}

/// What came to a port that speaks something else.
fn misdirected(out: &mut Families) {
    let help = "Connections given up because what came was no request, by the port and by what they spoke.";
    out.family("weir_misdirected_connections_total", Kind::Counter, help);
    for door in Door::ALL {
        for speaks in Speaks::ALL {
            out.sample(&[("port", door.name()), ("speaks", speaks.name())], seen(door, speaks) as f64);
        }
    }
}

fn durations(out: &mut Families, shards: &[MetricsSnapshot]) {
    let help = "From a request's last byte to handing its response to the socket.";
    out.family("weir_request_duration_seconds", Kind::Histogram, help);
    for shard in shards {
        for api in &shard.apis {
            let labels = [("shard", &*shard.shard.to_string()), ("api", &*api_name(api.key))];
            out.histogram(&labels, &api.latency, api.sum_us, DURATIONS, MICROSECOND);
        }
    }
}

fn connections(out: &mut Families, shards: &[MetricsSnapshot]) {
    each_shard(out, shards, ("weir_connections", Kind::Gauge, "Client connections open."), |s| {
        s.connections_opened.saturating_sub(s.connections_closed)
    });
    each_shard(
        out,
        shards,
        (
            "weir_connections_opened_total",
            Kind::Counter,
            "Client connections that a shard began to serve, accepted or taken over from another.",
        ),
        |s| s.connections_opened,
    );
    each_shard(
        out,
        shards,
        (
            "weir_connections_refused_total",
            Kind::Counter,
            "Client connections closed at once for being too many.",
        ),
        |s| s.connections_refused,
    );
}

fn records(out: &mut Families, shards: &[MetricsSnapshot]) {
    let counter = Kind::Counter;
    each_shard(out, shards, ("weir_produced_batches_total", counter, "Batches appended."), |s| {
        s.produced_batches
    });
    each_shard(out, shards, ("weir_produced_records_total", counter, "Records appended."), |s| {
        s.produced_records
    });
    each_shard(out, shards, ("weir_produced_bytes_total", counter, "Bytes of batches appended."), |s| {
        s.produced_bytes
    });
    each_shard(
        out,
        shards,
        ("weir_fetched_bytes_total", counter, "Bytes of batches handed to readers."),
        |s| s.fetched_bytes,
    );
    let help = "Bytes of segments read from disk for readers, read-ahead included.";
    each_shard(out, shards, ("weir_fetched_from_disk_bytes_total", counter, help), |s| {
        s.read_from_disk_bytes
    });
    let help = "Bytes of responses that were sent without a copy (send_zerocopy).";
    each_shard(out, shards, ("weir_zerocopy_bytes_total", counter, help), |s| s.zerocopy_bytes);
}

fn compaction(out: &mut Families, shards: &[MetricsSnapshot]) {
    let counter = Kind::Counter;
    each_shard(out, shards, ("weir_compaction_passes_total", counter, "Logs compacted."), |s| {
        s.compaction.passes
    });
    each_shard(
        out,
        shards,
        ("weir_compaction_failures_total", counter, "Compactions that ended with an error."),
        |s| s.compaction.failures,
    );
    let help = "Bytes of segments read to be compacted.";
    each_shard(out, shards, ("weir_compaction_read_bytes_total", counter, help), |s| s.compaction.bytes_read);
    let help = "Bytes of segments written by compaction.";
    each_shard(out, shards, ("weir_compaction_written_bytes_total", counter, help), |s| {
        s.compaction.bytes_written
    });
    let help = "Records that compaction dropped.";
    each_shard(out, shards, ("weir_compaction_removed_records_total", counter, help), |s| {
        s.compaction.records_removed
    });
}

fn throttled(out: &mut Families, shards: &[MetricsSnapshot]) {
    let mut family = |name, help, value: fn(&(&'static str, u64, u64)) -> f64| {
        out.family(name, Kind::Counter, help);
        for shard in shards {
            for throttled in &shard.throttled {
                let labels = [("shard", &*shard.shard.to_string()), ("quota", throttled.0)];
                out.sample(&labels, value(throttled));
            }
        }
    };
    let help = "Responses that told a client over its quota to wait.";
    family("weir_throttled_responses_total", help, |t| t.1 as f64);
    let help = "How long clients over their quota were told to wait, in all.";
    family("weir_throttle_seconds_total", help, |t| t.2 as f64 / 1000.0);
}

fn journal(out: &mut Families, shards: &[MetricsSnapshot]) {
    each_shard(
        out,
        shards,
        ("weir_journal_commits_total", Kind::Counter, "Journal commits made durable."),
        |s| s.journal.commits,
    );
    each_shard(
        out,
        shards,
        ("weir_journal_bytes_total", Kind::Counter, "Bytes written to the journal."),
        |s| s.journal.bytes,
    );
    let help = "Bytes of batches that went to their segment at once, and of which the journal has the place.";
    each_shard(out, shards, ("weir_journal_bypass_bytes_total", Kind::Counter, help), |s| s.bypass_bytes);
    each_shard(out, shards, ("weir_journal_files", Kind::Gauge, "Journal files on disk."), |s| {
        s.journal.files
    });
    let help = "Bytes appended and not durable yet.";
    each_shard(out, shards, ("weir_journal_backlog_bytes", Kind::Gauge, help), |s| s.journal.backlog_bytes);
    let help = "1 once a write failed; the shard acknowledges nothing any more.";
    each_shard(out, shards, ("weir_journal_failed", Kind::Gauge, help), |s| {
        u64::from(s.journal.failed.is_some())
    });
    let help = "1 while commits wait for room on the disk or for descriptors.";
    each_shard(out, shards, ("weir_journal_waits", Kind::Gauge, help), |s| {
        u64::from(s.journal.waits.is_some())
    });
    let help = "From submitting a commit to its being durable.";
    out.family("weir_journal_commit_duration_seconds", Kind::Histogram, help);
    for (shard, journal) in journals(shards) {
        if let Some(times) = &journal.commit_us {
            out.histogram(&[("shard", &shard)], times, journal.commit_us_sum, DURATIONS, MICROSECOND);
        }
    }
    out.family("weir_journal_commit_size_bytes", Kind::Histogram, "Bytes of one commit.");
    for (shard, journal) in journals(shards) {
        if let Some(sizes) = &journal.commit_bytes {
            out.histogram(&[("shard", &shard)], sizes, journal.bytes, SIZES, 1.0);
        }
    }
}

fn journals(shards: &[MetricsSnapshot]) -> impl Iterator<Item = (String, &JournalSnapshot)> {
    shards.iter().map(|s| (s.shard.to_string(), &s.journal))
}

fn memory(out: &mut Families, shards: &[MetricsSnapshot]) {
    let gauge = Kind::Gauge;
    each_shard(out, shards, ("weir_partitions", gauge, "Partitions this shard owns."), |s| {
        s.gauges.partitions
    });
    let help = "Batches that only the journal and memory hold.";
    each_shard(out, shards, ("weir_tail_bytes", gauge, help), |s| s.gauges.tail_bytes);
    each_shard(out, shards, ("weir_cache_bytes", gauge, "Batches kept for readers."), |s| {
        s.gauges.cache_bytes
    });
    let help = "Memory of requests being received or answered.";
    let requests = |s: &MetricsSnapshot| {
        let of = |name| s.gauges.memory.iter().find(|(budget, _)| *budget == name).map_or(0, |(_, m)| m.used);
        of("requests") + of("answers")
    };
    each_shard(out, shards, ("weir_request_memory_bytes", gauge, help), requests);
    let counter = Kind::Counter;
    type Figure = fn(&BudgetFigures) -> u64;
    let families: [(&'static str, Kind, &str, Figure); 4] = [
        ("weir_memory_bytes", gauge, "Memory taken of each budget.", |m| m.used),
        ("weir_memory_limit_bytes", gauge, "What each budget allows.", |m| m.limit),
        ("weir_memory_waits_total", counter, "How often something waited for memory of a budget.", |m| {
            m.waits
        }),
        ("weir_memory_waiting", gauge, "How much waits for memory of a budget now.", |m| m.waiting),
    ];
    for (name, kind, help, figure) in families {
        out.family(name, kind, help);
        for shard in shards {
            for (budget, figures) in &shard.gauges.memory {
                let labels = [("shard", &*shard.shard.to_string()), ("budget", *budget)];
                out.sample(&labels, figure(figures) as f64);
            }
        }
    }
}

fn storage(out: &mut Families, shards: &[MetricsSnapshot]) {
    let (counter, gauge) = (Kind::Counter, Kind::Gauge);
    each_shard(out, shards, ("weir_open_segments", gauge, "Segment files open."), |s| s.gauges.open_segments);
    let help = "Times a segment could not be opened for want of descriptors.";
    each_shard(out, shards, ("weir_out_of_files_total", counter, help), |s| s.gauges.out_of_files);
    let help = "Bytes the data directory's file system had left when it was last looked.";
    each_shard(out, shards, ("weir_disk_free_bytes", gauge, help), |s| s.gauges.disk_free_bytes);
    let help = "Batches refused for want of room on the disk.";
    each_shard(out, shards, ("weir_disk_full_refusals_total", counter, help), |s| {
        s.gauges.disk_full_refusals
    });
    let help = "File operations that failed, and writes that ended early and were finished.";
    out.family("weir_disk_errors_total", counter, help);
    for op in errors::Op::ALL {
        for kind in errors::Kind::ALL {
            let labels = [("operation", op.name()), ("error", kind.name())];
            out.sample(&labels, errors::seen(op, kind) as f64);
        }
    }
}

fn integrity(out: &mut Families, shards: &[MetricsSnapshot]) {
    let (gauge, counter) = (Kind::Gauge, Kind::Counter);
    let help = "Bytes of cold segments read back and checked.";
    each_shard(out, shards, ("weir_scrubbed_bytes_total", counter, help), |s| s.gauges.scrub.bytes);
    let help = "Extents of cold segments read back and checked.";
    each_shard(out, shards, ("weir_scrubbed_extents_total", counter, help), |s| s.gauges.scrub.extents);
    let help = "Extents that did not read back as they were written.";
    each_shard(out, shards, ("weir_scrub_damaged_total", counter, help), |s| s.gauges.scrub.damaged);
    let help = "Times that all cold segments were read back.";
    each_shard(out, shards, ("weir_scrub_passes_total", counter, help), |s| s.gauges.scrub.passes);
    let help = "Partitions with records that cannot be read; the rest of them is served.";
    each_shard(out, shards, ("weir_damaged_partitions", gauge, help), |s| s.gauges.damaged);
    let help = "Partitions that are not served until they are repaired.";
    each_shard(out, shards, ("weir_unrepaired_partitions", gauge, help), |s| s.gauges.unrepaired);
    let help =
        "Directories below topics/ that belonged to no topic at the start; they were left as they are.";
    each_shard(out, shards, ("weir_unknown_directories", gauge, help), |s| s.gauges.strays);
}

fn coordinators(out: &mut Families, shards: &[MetricsSnapshot]) {
    let help = "Partitions of internal topics, by the state of their coordinator.";
    out.family("weir_coordinators", Kind::Gauge, help);
    for shard in shards {
        for (of, counts) in ["groups", "transactions"].into_iter().zip(shard.gauges.coordinators) {
            for (state, count) in ["loading", "serving", "failed"].into_iter().zip(counts) {
                let labels = [("shard", &*shard.shard.to_string()), ("of", of), ("state", state)];
                out.sample(&labels, count as f64);
            }
        }
    }
    let help = "Transactions that have ended and whose markers some partition lacks yet.";
    each_shard(out, shards, ("weir_transactions_ending", Kind::Gauge, help), |s| s.gauges.ends);
}

fn of_process(out: &mut Families, process: &Process) {
    let mut one = |name, kind, help, value| {
        out.family(name, kind, help);
        out.sample(&[], value);
    };
    one("process_resident_memory_bytes", Kind::Gauge, "Resident memory.", process.resident_bytes as f64);
    one("process_cpu_seconds_total", Kind::Counter, "CPU time, user and system.", process.cpu_seconds);
    one("process_open_fds", Kind::Gauge, "Open file descriptors.", process.open_fds as f64);
    one("process_max_fds", Kind::Gauge, "Most file descriptors allowed.", process.max_fds as f64);
    one("process_threads", Kind::Gauge, "Threads.", process.threads as f64);
    one(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the process started, since 1970.",
        process.start_time_seconds,
    );
}
