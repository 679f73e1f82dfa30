//! Weir: a Kafka-compatible log broker for Linux. This is the architecture page: what the code is made of, what
//! holds everywhere, and what is absent on purpose.
//!
//! # Where to start
//!
//! - A produced batch passes `server/connection.rs`, `api/dispatch.rs`, `api/produce.rs`, `shard/produce.rs`,
//!   `partition/append.rs`, `log/shard_log/mod.rs`, `log/journal/gather.rs` and `log/journal/commit.rs`. Its answer
//!   comes from `partition/replica.rs` and `partition/waits.rs`. Read in this order, they are the broker.
//! - A change of the metadata passes `api/create_topics.rs`, `control/mod.rs`, `controller/mod.rs`,
//!   `metadata/apply.rs`, `control/local.rs` or `control/raft`, and `shard/assign.rs`.
//! - A follower's copy passes `shard/replication/fetcher.rs`, the leader's `shard/replication/serve.rs`, and
//!   `partition/following.rs`. Changes of the ISR go to the controller by `shard/replication/proposals.rs` and come
//!   back as metadata.
//! - A request to a coordinator passes `api/join_group.rs`, `shard/coordinator/requests.rs`,
//!   `shard/coordinator/step.rs`, `coordinator/group/mod.rs` and `shard/coordinator/settle.rs`.
//! - Code that decides takes an event and the time and returns effects: [`coordinator::Machine`], [`controller`],
//!   `partition/leader.rs` and `partition/follower.rs`. Everything else carries them out.
//!
//! Boundaries, behind which anything may be rearranged:
//!
//! | boundary | only it knows |
//! |---|---|
//! | [`rt`] | the kernel |
//! | [`log::ShardLog`] | files |
//! | [`partition::Replica`] | how offsets move |
//! | [`metadata::Image`] and [`metadata::Delta`] | records of metadata |
//! | `control/quorum.rs` | whether one broker's disk or a majority agrees on metadata |
//! | [`shard::message`] | what crosses from one shard to another |
//! | [`api::table`] | which APIs there are |
//!
//! # Layers
//!
//! A module imports only from layers to its left; modules in braces do not import each other, and the files of a
//! module do not import each other in a loop. `tests/tidy.rs` holds the table and fails where the code does not.
//!
//! ```text
//! model ← {config, rt, wire, security} ← {log, metadata} ← {partition, coordinator, controller, peer} ← shard
//!       ← api ← {server, admin, control} ← boot ← cli
//!                      wire ← client ← cli, weir-perf
//! ```
//!
//! | module | is | runs on |
//! |---|---|---|
//! | [`config`] | settings from flags, `WEIR_*` and TOML, validated once; the only place of defaults | start-up |
//! | [`model`] | ids, quantities, limits, configs by Kafka's names: the words of the domain | anywhere |
//! | [`rt`] | tasks, timers, files, sockets, the mesh; the only importer of glommio and io_uring | shards |
//! | [`wire`] | frames, batch headers, Produce and Fetch without copies; Kafka's error codes | anywhere |
//! | [`security`] | whom a connection speaks for and what it may do; quotas; pure | anywhere |
//! | [`log`] | one shard's journal, segments, cache, checkpoint, recovery, compaction | shards |
//! | [`metadata`] | what there is in the cluster: records, image, metadata log | made on the control thread |
//! | [`partition`] | one replica: role, offsets, appends, reads, producers; leader and follower, pure | shards |
//! | [`coordinator`] | groups and transactions as state machines over a partition of an internal topic; pure | shards |
//! | [`controller`] | requests to records of metadata; pure | control thread |
//! | [`peer`] | how brokers talk to each other: the wire, and its client | shards, control thread |
//! | [`shard`] | what one core owns, and the messages that reach it | shards |
//! | [`api`] | one file per Kafka API, all of them in one table | shards |
//! | [`server`] | connections: framing, overlap, answers in order | shards |
//! | [`admin`] | HTTP: health, metrics | control thread |
//! | [`control`] | commits what the controller decides, tells the shards | control thread |
//! | [`boot`] | start and stop of the process | main thread |
//! | [`client`], [`cli`] | a small Kafka client, and the commands on it | command line |
//!
//! # The path of a record
//!
//! ```text
//! socket ─ server::connection ─ api::produce ─┬─ same shard ─────────── shard::produce ─ partition::Replica::append
//!            (frame split, no copy)           └─ mesh ─ owner's shard ─┘      │ every record read (wire::validate; what
//!                                                                             │ is much work on the codec thread), then
//!                                                                             │ ordered: offset given, in memory
//!                                                                             ▼
//!                             log::ShardLog::append: journal buffer (one copy) + tail (the frame's bytes)
//!                                                                             │ one synchronous write for all partitions;
//!                                                                             │ a backlog goes to its segment first, then
//!                                                                             │ its place to the journal (direct write)
//!                                                                             ▼
//!                 shard::produce::follow_commits: high watermarks advance, then producers are answered
//! ```
//!
//! A connection whose requests lead to one other shard, request after request, moves there ([`shard::affinity`]).
//!
//! A fetch answers with the same bytes: tail and cache hold slices of the frames that producers sent, the response
//! is a header buffer with those slices between, and it leaves in one vectored send; with `send_zerocopy`, to another
//! machine, from where it is.
//!
//! # Positions
//!
//! Of a partition, in records (offsets); of a shard's journal, in bytes of its endless logical space ([`log::Lsn`]):
//!
//! ```text
//! offsets   log start ≤ last stable ≤ high watermark ≤ durable end ≤ end,  segment durable ≤ written, durable end
//! lsns      floor ≤ checkpoint ≤ durable ≤ last
//!
//! partition     log start            segment durable        written        durable end          end
//!                   ├───── segments ──────────┼── unsynced ────┼──────── tail ──┼── in flight ───┤
//!                   ├─ consumers read ─ high watermark ┤   (with one replica: the durable end)
//! journal                        floor                 checkpoint             durable           last
//!                ── given back ────┼── batches of tails ───┼───── and newer ─────┼── in flight ───┤
//! ```
//! Who keeps them: [`partition::offsets`] those of a replica, `log/partition/ends.rs` and `log/partition/segments.rs`
//! those of its files, `log/journal` the lsns. *Written* and *durable end* have no order of their own: a batch is
//! durable by the journal, long before it is in a segment, or by its segment.
//!
//! A start finds each offset in exactly one place: below *segment durable* in a segment that the checkpoint or a
//! placement lists, from there up to the *durable end* in the journal at or past its *floor*.
//!
//! # Invariants
//!
//! - **An ack means on disk.** A produce with acks=1 or all is answered after the synchronous write that holds it, or
//!   that says where in a synced segment it is ([`shard::Shard::produce_for`], `log/direct`). A topic opts out with
//!   `write.caching`. A failed write or fsync ends the journal for good.
//! - **One task owns a partition.** Nothing on the data path is shared between threads but [`bytes::Bytes`], the
//!   mesh's lanes and connection counters. No borrow of a `RefCell` lives across an `.await`.
//! - **Order.** Requests of a connection are started in order. What they append is ordered before the next one is
//!   looked at, or in line for its partitions, where nothing passes it. Their responses leave in order.
//! - **What is acknowledged can be read.** A batch is appended only as [`wire::validate::Sound`], which only a check of
//!   every record makes, unless its topic asks for less. What is decompressed is never whole in memory.
//! - **A consumer reads below the high watermark**, up to which every replica in the ISR has the log on disk, be it
//!   one: what it saw survives a crash ([`partition::offsets`]).
//! - **A buffer lent to the kernel** stays owned by its operation until its completion, also when its future is dropped.
//! - **Every length from outside is bounded** before anything is reserved for it; a frame's buffer grows as its bytes
//!   arrive.
//! - **Memory that grows with what clients do is taken from a budget before it is used** ([`rt::Budget`],
//!   [`shard::memory`], [`log::Resources`]). Short of it, sockets are not read, answers are smaller, or somebody waits
//!   his turn. Who holds memory waits for a budget further down only, never in a circle.
//! - **A partition that nobody uses costs little**: what only a busy, compacted, damaged or transactional one needs is
//!   allocated when that happens.
//! - **No change of the metadata is answered, applied or told before it is committed** ([`controller`]). The control
//!   thread waits for no disk, and a shard applies what a [`metadata::Delta`] names without awaiting files.
//! - **Metadata is agreed on, or one broker's.** Behind [`control`]'s port is the broker's own disk, or Raft among
//!   brokers on the same files. The first that joins turns the one into the other while it runs.
//! - **Metadata that is missing is not an empty cluster.** What does not belong together (`log/directory/belongs.rs`) is
//!   refused before anything is changed. Only metadata that says so deletes; directories that it does not know stay.
//! - **Every byte that a checkpoint or a placement covers has a checksum**, in a segment's sidecar or in the checkpoint,
//!   and is held against it before it is served. What can be made again (sidecars, either copy of a checkpoint, a
//!   journal file's header) is. What cannot is an error that names file, place and offsets, and a durable mark; the rest
//!   is served. Only an operator gives data up, with `weir log repair` ([`log::Mending`]); a start never does.
//! - **Data directories of earlier formats open.** One of each is in `tests/fixtures`.
//! - **Clients' records never take the last of the disk** ([`log::DiskFull`]): what makes room can always be written.
//! - **Compaction replaces segments at once** (`log/compact/replace.rs`): a start finds the old ones or the new one.
//! - **A log is cut by the journal first** (`log/shard_log/history.rs`): truncations and resets are entries, which void
//!   what is before them past their offset. Files follow once the entry is on disk, and nothing is written behind a cut
//!   before they did.
//!
//! # Absences
//!
//! - `log` knows no source of topic configs, no connection and no Kafka error code; `partition` knows no request.
//! - The broker keeps nothing of a record: validation reads through a batch and judges ([`wire::scan`]). Records are
//!   opened only for the one batch that holds a looked-up timestamp, for what its own coordinators have stored, and by
//!   compaction, which runs beside the data path.
//! - A coordinator never asks the log what it knows: it holds its partition's state in memory, and reads the log only
//!   when it is loaded.
//! - A start reads no segment that a checkpoint lists. Two exceptions: `weir log repair`, for a checkpoint that is lost,
//!   makes log ends, leader epochs, producers and aborted transactions again of the batches; and of a log that was cut
//!   behind its checkpoint, the batches behind the last snapshot of producers' state are read
//!   (`log/partition/snapshots.rs`).
//! - Shards never block on a lock, and never on a file operation that can be slow outside of start-up.

#![cfg_attr(
    not(test),
    deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic where nobody reads")
)]

pub mod config;
pub mod model;

pub mod rt;
pub mod security;
pub mod wire;

pub mod log;
pub mod metadata;

pub mod controller;
pub mod coordinator;
pub mod partition;
pub mod peer;

pub mod shard;

pub mod api;

pub mod admin;
pub mod control;
pub mod server;

pub mod client;

pub mod boot;

pub mod cli;
