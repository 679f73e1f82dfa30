//! Opening a journal: finds out which files hold what, reads back what is needed, and goes on behind it.
//!
//! Damaged is what should be there and cannot be read: a bad entry below the last commit, a whole file that is gone.
//! Files that cannot be needed are not read, so a start after a clean close costs one block a file.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::log::{LogError, Lsn};
use crate::rt::{self, BLOCK};

use super::commit::Inner;
use super::files::{self, Files, Slot};
use super::format::{self, BadHeader, EntryKind, FileHeader};
use super::gather::{Gather, GatherLimits};
use super::replayed::{Damage, Entry, Held, ReplayedFile};
use super::scan::{self, Item, Source};
use super::turns::ReplayTurn;
use super::{Journal, JournalSettings};
use crate::log::error::is_full;

/// What the checkpoint knows about the journal. All zero for a new one.
#[derive(Clone, Copy, Default, Debug)]
pub struct Known {
    /// Entries below are in segments.
    pub floor: Lsn,
    /// Everything up to here was durable when the checkpoint was made.
    pub durable: Lsn,
    pub generation: u64,
    /// There was a file of this generation or of a later one.
    pub lasting: u64,
    pub salt: Option<u32>,
    /// The checkpoint was made at a clean close: nothing up to `generation` is needed.
    pub closed: bool,
}

impl Known {
    /// Whether a start needs nothing of a file; `next` is the header of the one after it.
    pub(super) fn is_dead(&self, header: &FileHeader, next: Option<&FileHeader>) -> bool {
        let closed = self.closed && header.generation <= self.generation;
        let below = next.is_some_and(|next| next.previous_end < self.floor.0);
        header.generation == 0 || closed || below
    }

    /// The position before the first that is needed. What lies below was needed by nobody, so nothing of it can be missing.
    pub(super) fn before_first(&self) -> u64 {
        if self.closed { self.durable.0 } else { self.floor.0.saturating_sub(1) }
    }

    /// Whether the file that was written last is not there, or may be the one that was `cut`. A closed journal needs none.
    pub(super) fn lost_newest(&self, newest: Option<u64>, cut: bool) -> bool {
        !self.closed && (cut || newest.unwrap_or(0) < self.lasting)
    }

    /// Up to where entries are missing behind `last`, the last that was found.
    pub(super) fn missing_end(&self, last: u64, newest_is_gone: bool) -> Option<u64> {
        let durable = self.durable.0;
        if newest_is_gone {
            // How many it had is not known: one at least.
            return Some(durable.max(last) + 1);
        }
        (durable > last && self.durable >= self.floor).then_some(durable)
    }
}

pub struct Recovery {
    dir: PathBuf,
    settings: JournalSettings,
    known: Known,
    salt: u32,
    /// Live files not read yet, oldest first.
    pending: VecDeque<Slot>,
    files: Files,
    /// Files that go once the checkpoint does not count on them.
    dead: Vec<PathBuf>,
    generation: u64,
    /// No position below this may be given out again.
    position: u64,
    last: u64,
    /// The file that was written last is not there.
    newest_is_gone: bool,
    finished: bool,
}

impl Recovery {
    pub async fn open(dir: &Path, settings: JournalSettings, known: Known) -> Result<Self, LogError> {
        rt::fs::create_dir_all(dir).map_err(|e| LogError::io(dir, e))?;
        let names = rt::fs::read_dir_names(dir).map_err(|e| LogError::io(dir, e))?;
        for name in names.iter().filter(|name| files::is_partial(name)) {
            rt::fs::unlink(dir.join(name)).map_err(|e| LogError::io(dir, e))?;
        }
        let mut numbers: Vec<u32> = names.iter().filter_map(|name| files::number_of(name)).collect();
        numbers.sort_unstable();
        let files = Files {
            dir: dir.to_owned(),
            regular_bytes: settings.file_bytes.next_multiple_of(BLOCK as u64).max(2 * BLOCK as u64),
            used: VecDeque::new(),
            free: Vec::new(),
            next_number: numbers.last().map_or(0, |n| n + 1),
        };
        let mut recovery = Self {
            dir: dir.to_owned(),
            settings,
            known,
            salt: known.salt.unwrap_or_default(),
            pending: VecDeque::new(),
            files,
            dead: Vec::new(),
            generation: known.generation,
            position: format::FIRST_POSITION.max(known.durable.0),
            last: 0,
            newest_is_gone: false,
            finished: false,
        };
        recovery.find_files(&numbers).await?;
        Ok(recovery)
    }

    /// The journal's salt: found, known, or drawn just now.
    pub fn salt(&self) -> u32 {
        self.salt
    }

    /// Whether there is any file that stays.
    pub fn has_files(&self) -> bool {
        !(self.pending.is_empty() && self.files.free.is_empty() && self.files.used.is_empty())
    }

    /// Whether nothing is left to replay.
    pub fn is_done(&self) -> bool {
        self.pending.is_empty()
    }

    async fn find_files(&mut self, numbers: &[u32]) -> Result<(), LogError> {
        let mut found = Vec::new();
        let mut salt = self.known.salt;
        for number in numbers {
            let path = files::file_path(&self.dir, *number);
            let (slot, header) = open_slot(&path, *number).await?;
            match header {
                Ok((header, its)) if salt.is_none_or(|salt| salt == its) => {
                    salt = Some(its);
                    found.push((slot, Some(header)));
                }
                Ok(_) => return Err(LogError::corrupt(&path, 0, "the file belongs to another journal")),
                Err(BadHeader::Newer(version)) => return Err(LogError::Newer { path, version }),
                Err(BadHeader::Empty | BadHeader::Damaged) => found.push((slot, None)),
            }
        }
        self.salt = salt.unwrap_or_else(draw_salt);
        let mut cut = false;
        for (mut slot, header) in found {
            if files::is_cut(slot.bytes, header.is_some()) {
                log::warn!("{}: {} bytes are left of the file", slot.path.display(), slot.bytes);
                cut = true;
                // Kept until a checkpoint has the marks for what it may have held.
                (slot.damaged, slot.last) = (true, Some(Lsn(self.known.before_first())));
                self.files.used.push_back(slot);
                continue;
            }
            let header = match header {
                Some(header) => Some(header),
                None => self.rebuild(&slot).await?,
            };
            slot.header = header.unwrap_or_default();
            self.generation = self.generation.max(slot.header.generation);
            self.position = self.position.max(slot.header.first);
            self.pending.push_back(slot);
        }
        self.pending.make_contiguous().sort_by_key(|slot| slot.header.generation);
        let newest = self.pending.back().map(|slot| slot.header.generation);
        self.newest_is_gone = self.known.lost_newest(newest, cut);
        self.drop_dead();
        Ok(())
    }

    /// A file without a header is free, unless commits in it say what the header was.
    async fn rebuild(&self, slot: &Slot) -> Result<Option<FileHeader>, LogError> {
        let io = |e| LogError::io(&slot.path, e);
        let first = slot.file.read(BLOCK as u64, BLOCK).await.map_err(io)?;
        if first.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let (bytes, _turn) = self.read(slot).await?;
        let header = scan::rebuild_header(&bytes, self.salt);
        if let Some(header) = &header {
            log::warn!(
                "{}: header block unreadable, generation {} rebuilt",
                slot.path.display(),
                header.generation
            );
        }
        Ok(header)
    }

    /// Frees the files whose entries all lie below the floor.
    fn drop_dead(&mut self) {
        let known = self.known;
        let headers: Vec<FileHeader> = self.pending.iter().map(|slot| slot.header).collect();
        let slots = std::mem::take(&mut self.pending);
        for (i, slot) in slots.into_iter().enumerate() {
            if !known.is_dead(&headers[i], headers.get(i + 1)) {
                self.pending.push_back(slot);
            } else if slot.bytes == self.files.regular_bytes {
                self.files.free.push(slot);
            } else {
                self.dead.push(slot.path);
            }
        }
        self.last = known.before_first();
    }

    /// The entries in all files that are no batches, in order, with what they say. To be asked for before the first
    /// [`next`](Self::next): what they say of logs has to be known when those are opened.
    pub async fn marks(&self) -> Result<Vec<(Entry, Vec<u8>)>, LogError> {
        let mut found = Vec::new();
        for (i, slot) in self.pending.iter().enumerate() {
            let limit = self.pending.get(i + 1).map(|next| next.header.previous_end);
            let (bytes, _turn) = self.read(slot).await?;
            let mut items = Vec::new();
            self.scan(slot, &bytes, limit, &mut items);
            for item in items {
                if let Held::Entry(entry, range) = item
                    && entry.kind != EntryKind::Batch
                {
                    found.push((entry, bytes[range].to_vec()));
                }
            }
        }
        Ok(found)
    }

    /// A whole file, and the turn that its memory takes.
    async fn read(&self, slot: &Slot) -> Result<(Bytes, ReplayTurn), LogError> {
        let turn = ReplayTurn::take(slot.bytes as usize, self.settings.replay_bytes).await;
        let bytes = slot.file.read(0, slot.bytes as usize).await.map_err(|e| LogError::io(&slot.path, e))?;
        Ok((bytes, turn))
    }

    /// The next file's entries; `None` when all were read.
    pub async fn next(&mut self) -> Result<Option<ReplayedFile>, LogError> {
        let Some(mut slot) = self.pending.pop_front() else { return Ok(self.missing_end()) };
        let io = |e| LogError::io(&slot.path, e);
        let limit = self.pending.front().map(|next| next.header.previous_end);
        if limit.is_none() {
            // What a killed process wrote without its fdatasync is about to count: it has to be durable first.
            slot.file.fdatasync().await.map_err(io)?;
        }
        let (bytes, turn) = self.read(&slot).await?;
        let mut items = Vec::new();
        if slot.header.previous_end > self.last {
            items.push(Held::Damage(self.missing(slot.header.previous_end)));
        }
        let end = self.scan(&slot, &bytes, limit, &mut items);
        slot.damaged = items.iter().any(|item| matches!(item, Held::Damage(_)));
        slot.last = Some(Lsn(limit.unwrap_or(end)));
        self.last = self.last.max(end);
        self.files.used.push_back(slot);
        Ok(Some(ReplayedFile { bytes, items, _turn: Some(turn) }))
    }

    fn scan(&self, slot: &Slot, bytes: &Bytes, limit: Option<u64>, items: &mut Vec<Held>) -> u64 {
        let floor = self.known.floor;
        let header = slot.header;
        let source = Source { bytes, header, salt: self.salt, limit, known_durable: self.known.durable.0 };
        let end = scan::scan(&source, &mut |item| match item {
            Item::Entry(entry, batch) if entry.lsn >= floor => {
                let at = batch.as_ptr() as usize - bytes.as_ptr() as usize;
                items.push(Held::Entry(entry.into(), at..at + batch.len()));
            }
            Item::Damage { from, to, entry } if Lsn(to) >= floor => items.push(Held::Damage(Damage {
                path: slot.path.clone(),
                offset: header.file_offset(from),
                from: Lsn(from),
                to: Lsn(to),
                entry: entry.map(Into::into),
            })),
            _ => {}
        });
        if let Some(at) = end.torn_at {
            let offset = header.file_offset(at);
            log::info!("{}: a commit that never completed ends at offset {offset}", slot.path.display());
        }
        end.last
    }

    /// After the last file: whether the checkpoint knows of more.
    fn missing_end(&mut self) -> Option<ReplayedFile> {
        let end = self.known.missing_end(self.last, self.newest_is_gone);
        if std::mem::replace(&mut self.finished, true) || end.is_none() {
            return None;
        }
        let end = end?;
        let items = vec![Held::Damage(self.missing(end))];
        self.last = end;
        Some(ReplayedFile { bytes: Bytes::new(), items, _turn: None })
    }

    fn missing(&self, to: u64) -> Damage {
        Damage { path: self.dir.clone(), offset: 0, from: Lsn(self.last), to: Lsn(to), entry: None }
    }

    /// The journal, which goes on in a new generation.
    pub fn finish(self) -> Journal {
        assert!(self.pending.is_empty(), "a journal is replayed before it is written to");
        for path in &self.dead {
            if let Err(e) = rt::fs::remove_file(path) {
                log::warn!("{}: {e}", path.display());
            }
        }
        let last = self.last.max(self.known.durable.0);
        let position = self.position.max(last).next_multiple_of(BLOCK as u64);
        let limits = GatherLimits {
            max_commit_bytes: self.settings.max_commit_bytes,
            file_capacity: self.files.regular_bytes - BLOCK as u64,
        };
        let gather = Gather::new(self.salt, limits, self.generation, position, Lsn(last));
        Journal::start(Inner::new(self.settings, self.salt, gather, self.files))
    }
}

type Header = Result<(FileHeader, u32), BadHeader>;

async fn open_slot(path: &Path, number: u32) -> Result<(Slot, Header), LogError> {
    let io = |e| LogError::io(path, e);
    let file = files::open_file(path, false).map_err(io)?;
    let bytes = file.len().map_err(io)?;
    // A killed process leaves writes in flight that its ring finishes after it is gone. Reserving what is reserved
    // already changes nothing, but waits for them: none may land on what is read and written from here on. A full disk
    // may refuse it, after the wait.
    if bytes > 0
        && let Err(e) = file.allocate(bytes).await
        && e.kind() != std::io::ErrorKind::Unsupported
        && !is_full(&e)
    {
        return Err(io(e));
    }
    let block = file.read(0, BLOCK).await.map_err(io)?;
    let header = format::decode_file_header(&block);
    // A file is written front to back, so that its first hole is where writing stopped.
    let written = file.first_hole().unwrap_or(0) / BLOCK as u64 * BLOCK as u64;
    let slot = Slot {
        number,
        path: path.to_owned(),
        file,
        bytes,
        header: FileHeader::default(),
        last: None,
        written,
        damaged: false,
    };
    Ok((slot, header))
}

/// Different for each journal; needs to be unpredictable only to clients.
pub fn draw_salt() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(std::process::id()) as u32).max(1)
}
