//! Weir: a Kafka-compatible log broker for Linux. This is the architecture page: what the code is made of, what holds
//! everywhere, and what is absent on purpose.
//!
//! # Where to start
//!
//! - A produced batch passes `server/connection.rs`, `api/produce.rs`, `shard/produce.rs`, `partition/append.rs`,
//!   `log/shard_log/mod.rs`, `log/journal/gather.rs` and `log/journal/commit.rs`, and its answer comes from
//!   `partition/replica.rs` and `partition/waits.rs`. Read in this order, they are the broker.
//! - A change of the metadata passes `api/create_topics.rs`, `control/mod.rs`, `controller/mod.rs`, `metadata/apply.rs`,
//!   `control/local.rs` and `shard/assign.rs`.
//! - What decides takes an event and the time and gives back effects: [`coordinator::Machine`], [`controller`],
//!   `partition/leader.rs` and `partition/follower.rs`. Everything else carries that out.
//! - What a follower copies passes `shard/replication/fetcher.rs`, the leader's `shard/replication/serve.rs`, and
//!   `partition/following.rs`; changes of the ISR go by `shard/replication/proposals.rs` to the controller, and come back as
//!   metadata.
//! - Boundaries, behind which anything may be rearranged: [`rt`] (nobody else knows the kernel), [`log::ShardLog`] (nobody
//!   else knows files), [`metadata::Image`] with [`metadata::Delta`] (nobody else knows records), [`partition::Replica`]
//!   (nobody else moves offsets), and the mesh's calls in [`shard::message`] (shards share nothing else).
//!
//! # Layers
//!
//! A module imports only from layers to its left; modules in braces do not import each other. `tests/tidy.rs` holds
//! the table and fails where the code does not.
//!
//! ```text
//! model ← {config, rt, wire, security} ← {log, metadata} ← {partition, coordinator, controller, peer} ← shard ← api
//!       ← {server, admin, control} ← boot ← cli
//!                      wire ← client ← cli, weir-perf
//! ```
//!
//! | module | is | runs on |
//! |---|---|---|
//! | [`config`] | settings from flags, `WEIR_*` and TOML, validated once; the only place of defaults | start-up |
//! | [`model`] | ids, limits, the configs of topics and brokers by Kafka's names: the words of the domain | anywhere |
//! | [`rt`] | tasks, timers, files, sockets, the mesh; the only importer of glommio and io_uring | shards |
//! | [`wire`] | frames, batch headers, Produce and Fetch without copies; Kafka's error codes | anywhere |
//! | [`security`] | who a connection speaks for and what it may do; quotas: whose limit applies, how long to wait; pure | anywhere |
//! | [`log`] | one shard's journal, segments, cache, checkpoint, recovery, compaction | shards |
//! | [`metadata`] | what there is in the cluster: records, image, metadata log | read anywhere, made on the control thread |
//! | [`partition`] | one replica: its role, its offsets, what may be appended and read, producers; leader and follower as pure machines | shards |
//! | [`coordinator`] | consumer groups and transactions as pure state machines over an internal topic's partition | shards |
//! | [`controller`] | what becomes of the metadata: requests to records; pure | control thread |
//! | [`peer`] | how brokers talk to each other: the wire, and its client | shards, control thread |
//! | [`shard`] | what one core owns, and the messages that reach it | shards |
//! | [`api`] | one file per Kafka API; [`api::table`] is the only registry | shards |
//! | [`server`] | connections: framing, overlap, answers in order | shards |
//! | [`admin`] | HTTP: health, metrics | control thread |
//! | [`control`] | commits what the controller decides, tells the shards | control thread |
//! | [`boot`] | start and stop of the process | main thread |
//! | [`client`], [`cli`] | a small Kafka client, and the commands on it | command line |
//!
//! # The path of a record
//!
//! ```text
//! socket ─ server::connection ─ api::produce ─┬─ same shard ────────── shard::produce ─ partition::Replica::append
//!            (frame split, no copy)           └─ mesh ─ owner shard ─┘       │ every record read (wire::validate; what is
//!                                                                           │ much work on the codec thread), then
//!                                                                           │ ordered: offset given, in memory
//!                                                                           ▼
//!                                       log::ShardLog::append: journal buffer (one copy) + tail (the frame's bytes)
//!                                                                           │ one synchronous write for all partitions; of
//!                                                                           │ what comes too fast to be written twice, the
//!                                                                           │ segment first, then its place in the journal
//!                                                                           ▼
//!                          shard::produce::follow_commits: high watermarks advance, then producers are answered
//! ```
//!
//! A connection whose requests lead to one other shard, request after request, moves there ([`shard::affinity`]).
//!
//! A fetch answers with the same bytes: tail and cache hold slices of the frames that producers sent, the response is
//! a header buffer with those slices between, and it leaves in one vectored send; with `send_zerocopy`, to another machine,
//! from where it is.
//!
//! # Positions
//!
//! Of a partition, in records; of a shard's journal, in bytes of its endless logical space ([`log::Lsn`]):
//!
//! ```text
//! replica   log start ≤ last stable ≤ high watermark ≤ durable end ≤ end        [`partition::offsets`]
//! files     log start ≤ segment durable ≤ written ≤ end                         segments hold what is below written,
//!                                                                               the tail what is from there on
//! journal   floor ≤ checkpoint ≤ durable ≤ last                                 a start reads from the floor on
//!
//! partition     log start            segment durable      written                             end
//!                   ├───── segments ──────────┼── unsynced ───┼──────────── tail ───────────────┤
//!                   ├─ consumers read ─ high watermark ┤        (with one replica: the durable end)
//! journal                        floor                checkpoint             durable          last
//!                ── given back ────┼── batches of tails ───┼───── and newer ─────┼── in flight ──┤
//! ```
//! An offset is in exactly one place that a start finds: below *segment durable* in a segment that the checkpoint or a
//! placement lists, from there up to the *durable end* in the journal at or past its *floor*.
//!
//! # Invariants
//!
//! - **An ack means on disk.** A produce with acks=1 or all is answered after the synchronous write that holds it, or that
//!   says where in a synced segment it is ([`shard::Shard::produce`], [`log::placement`]); a topic opts out with `write.caching`. A failed write or fsync ends the journal for good.
//! - **One task owns a partition.** Nothing on the data path is shared between threads but [`bytes::Bytes`], the mesh's
//!   lanes and connection counters. No borrow of a `RefCell` lives across an `.await`.
//! - **Order.** Requests of a connection are started in order, and what they append is ordered before the next one is
//!   looked at, or in line for its partitions, where nothing passes it; their responses leave in order.
//! - **What is acknowledged can be read**: no batch is appended but as [`wire::validate::Sound`], which only a check of every
//!   record makes, unless its topic asks for less. What is decompressed is never whole in memory.
//! - **A consumer reads below the high watermark**, up to which every replica in the ISR has the log on disk, be it one: what
//!   it saw survives a crash ([`partition::offsets`]).
//! - **A buffer lent to the kernel** stays owned by its operation until its completion, also when its future is dropped.
//! - **Every length from outside is bounded** before anything is reserved for it; a frame's buffer grows as its bytes
//!   arrive.
//! - **Memory that grows with what clients do is taken from a budget before it is used** ([`rt::Budget`],
//!   [`shard::memory`], [`log::cache`]): short of it, sockets are not read, answers are smaller, or somebody waits his turn.
//!   Who holds memory waits for a budget further down only, never in a circle.
//! - **No change of the metadata is answered, applied or told before it is committed** ([`controller`]). The control thread
//!   waits for no disk, and a shard applies what a [`metadata::Delta`] names without awaiting files.
//! - **Metadata that is missing is not an empty cluster.** What does not belong together ([`log::belongs`]) is refused before
//!   anything is changed; only metadata that says so deletes; directories that it does not know stay where they are.
//! - **Every byte that a checkpoint or a placement covers has a checksum** in a segment's sidecar or in the checkpoint, and is held against
//!   it before it is served. What can be made again (sidecars, either copy of a checkpoint, a journal file's header) is;
//!   what cannot is an error that names file, place and offsets, and a durable mark; the rest is served. Who gives data up
//!   is an operator, with `weir log repair` ([`log::Mending`]), never a start.
//! - **Data directories of earlier formats open.** One of each is in `tests/fixtures`.
//! - **Clients' records never take the last of the disk** ([`log::DiskFull`]): what makes room can always be written.
//! - **What compaction replaces, it replaces at once** (`log/compact/replace.rs`): a start finds the old segments or the new one.
//! - **A log is cut by the journal first** ([`log::history`]): truncations and resets are entries, which void what is before
//!   them past their offset; files follow once the entry is on disk, and nothing is written behind a cut before they did.
//!
//! - **Metadata is agreed on, or one broker's.** Behind [`control`]'s port is the broker's own disk, or Raft among brokers on
//!   the same files: the first that joins turns the one into the other while it runs.
//!
//! # Absences
//!
//! - `log` knows no topic configuration source, no connection and no Kafka error code; `partition` knows no request.
//! - The broker keeps nothing of a record: validation reads through a batch and judges ([`wire::scan`]). Records are opened
//!   only for the one batch that holds a looked-up timestamp, for what its own coordinators have stored, and by
//!   compaction, which runs beside the data path.
//! - A coordinator never asks the log what it knows: it holds its partition's state in memory, and reads the log only
//!   when it is loaded.
//! - A start reads no segment that a checkpoint lists: only `weir log repair`, for a checkpoint that is lost, makes log ends, leader epochs,
//!   producers and aborted transactions again of the batches; and of a log that was cut behind its checkpoint, the batches
//!   behind the last snapshot of producers' state are read ([`log::snapshots`]).
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
