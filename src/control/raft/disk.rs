//! The thread that writes a node's metadata log and vote for Raft, one thing after the other, so that nobody on the control thread
//! waits for a disk (Q7). Nothing is said to be done before it is durable (Q2, Q3).

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use flume::{Receiver, Sender};
use openraft::storage::LogFlushed;
use tokio::sync::oneshot;

use super::types::{RaftEntry, Types, to_entry};
use crate::metadata::MetadataError;
use crate::metadata::log::{Entry, MetadataLog, Prepared};
use crate::metadata::quorum::{QuorumState, Vote};

/// Between tries to write to a full disk, and to say that it is.
const AGAIN: Duration = Duration::from_millis(100);
const SAY: Duration = Duration::from_secs(10);

type Done = oneshot::Sender<io::Result<()>>;

/// Something that the thread was given to do.
#[must_use]
pub struct Written(oneshot::Receiver<io::Result<()>>);

impl Written {
    pub async fn durable(self) -> io::Result<()> {
        self.0.await.unwrap_or_else(|_| Err(ended()))
    }
}

enum Job {
    Append(Vec<RaftEntry>, LogFlushed<Types>),
    Vote(Vote, Done),
    /// From this offset on.
    Truncate(u64, Done),
    Committed(u64),
    /// A log that begins with a newer snapshot, and the entries after it.
    Replace(Box<Prepared>, Vec<RaftEntry>, Done),
}

pub struct Disk {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// A snapshot would be much smaller than the log.
    grown: Arc<AtomicBool>,
    /// What it waits for, where it does.
    waits: Arc<Mutex<Option<String>>>,
}

impl Disk {
    pub fn start(log: MetadataLog, state: QuorumState) -> io::Result<Self> {
        // Raft awaits what it gives; no more than a few jobs ever wait.
        let (jobs, queue) = flume::unbounded();
        let grown = Arc::new(AtomicBool::new(false));
        let waits = Arc::new(Mutex::new(None));
        let (says, waiting) = (grown.clone(), waits.clone());
        let body = move || Writer { log, state, grown: says, waits: waiting }.run(&queue);
        let thread = std::thread::Builder::new().name("metadata".into()).spawn(body)?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), grown, waits })
    }

    pub fn has_grown(&self) -> bool {
        self.grown.load(Ordering::Relaxed)
    }

    /// Why it cannot write for now.
    pub fn waits(&self) -> Option<String> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn append(&self, entries: Vec<RaftEntry>, flushed: LogFlushed<Types>) {
        if let Err(flume::SendError(Job::Append(_, flushed))) = self.send(Job::Append(entries, flushed)) {
            flushed.log_io_completed(Err(ended()));
        }
    }

    /// Not durable when this returns: it may be stale after a power cut.
    pub fn note_committed(&self, offset: u64) {
        // A thread that has ended says so to whoever appends.
        drop(self.send(Job::Committed(offset)));
    }

    pub fn vote(&self, vote: Vote) -> Written {
        self.ask(|done| Job::Vote(vote, done))
    }

    pub fn truncate(&self, offset: u64) -> Written {
        self.ask(|done| Job::Truncate(offset, done))
    }

    pub fn replace(&self, prepared: Prepared, entries: Vec<RaftEntry>) -> Written {
        self.ask(|done| Job::Replace(Box::new(prepared), entries, done))
    }

    /// Has the thread end once it has done what it was given; the handle waits for that.
    pub fn close(&mut self) -> Option<JoinHandle<()>> {
        self.jobs = None;
        self.thread.take()
    }

    fn ask(&self, job: impl FnOnce(Done) -> Job) -> Written {
        let (done, waits) = oneshot::channel();
        // Where nobody takes it, whoever waits finds the other end gone.
        drop(self.send(job(done)));
        Written(waits)
    }

    fn send(&self, job: Job) -> Result<(), flume::SendError<Job>> {
        match &self.jobs {
            Some(jobs) => jobs.send(job),
            None => Err(flume::SendError(job)),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.close().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread that writes metadata panicked");
        }
    }
}

fn ended() -> io::Error {
    io::Error::other("the thread that writes metadata has ended")
}

struct Writer {
    log: MetadataLog,
    state: QuorumState,
    grown: Arc<AtomicBool>,
    waits: Arc<Mutex<Option<String>>>,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Job>) {
        while let Ok(job) = queue.recv() {
            match job {
                Job::Append(entries, flushed) => {
                    let entries: Vec<Entry> = entries.iter().map(to_entry).collect();
                    let appended = with_room(queue, &self.waits, || self.log.append(&entries));
                    flushed.log_io_completed(appended.map_err(io_error));
                }
                Job::Vote(vote, done) => tell(done, with_room(queue, &self.waits, || self.state.set(vote))),
                Job::Truncate(offset, done) => {
                    tell(done, with_room(queue, &self.waits, || self.log.truncate(offset)))
                }
                // Of what a failed write has not taken there is nothing to note.
                Job::Committed(offset) if offset < self.log.next_offset() => self.log.note_committed(offset),
                Job::Committed(_) => {}
                Job::Replace(prepared, entries, done) => {
                    let entries: Vec<Entry> = entries.iter().map(to_entry).collect();
                    tell(done, self.log.replace(*prepared, &entries));
                }
            }
            self.grown.store(self.log.wants_rewrite(), Ordering::Relaxed);
        }
    }
}

/// Does something as soon as there is room for it: a member whose disk is full is a slow one, and no reason to end. Until then it
/// has no part in what the others decide. Any other error is for good.
fn with_room(
    queue: &Receiver<Job>,
    waits: &Mutex<Option<String>>,
    mut what: impl FnMut() -> Result<(), MetadataError>,
) -> Result<(), MetadataError> {
    let mut said: Option<Instant> = None;
    loop {
        match what() {
            Err(error) if error.is_full() && !queue.is_disconnected() => {
                if said.is_none_or(|at| at.elapsed() > SAY) {
                    said = Some(Instant::now());
                    log::error!("{error}: this broker has no part in the metadata until there is room");
                    *waits.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                }
            }
            done => {
                if said.is_some() {
                    log::info!("the metadata waits for room no more: {done:?}");
                    *waits.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
                return done;
            }
        }
        std::thread::sleep(AGAIN);
    }
}

fn tell(done: Done, result: Result<(), MetadataError>) {
    // Whoever asked may have gone.
    drop(done.send(result.map_err(io_error)));
}

/// As an error of ours, and of its kind.
pub fn io_error(error: MetadataError) -> io::Error {
    let kind = if error.is_full() { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
    io::Error::new(kind, error.to_string())
}
