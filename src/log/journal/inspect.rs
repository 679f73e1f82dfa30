//! A journal's files as they are on disk, read without changing anything: for tools, while no broker runs.

use std::path::{Path, PathBuf};

use crate::log::{LogError, Lsn};
use crate::rt;

use super::files;
use super::format::{self, BadHeader, EntryKind, FileHeader};
use super::scan::{self, Item, Source};
use super::{Damage, Entry, Known, draw_salt};

/// One file.
#[derive(Debug)]
pub struct Inspected {
    pub path: PathBuf,
    /// Zero if the file is free.
    pub generation: u64,
    /// Whether a start would read it.
    pub needed: bool,
    pub entries: Vec<(Entry, u32)>,
    /// Those of the entries that are no batches, with what they say.
    pub marks: Vec<(Entry, Vec<u8>)>,
    pub damage: Vec<Damage>,
    /// Where a commit that never completed was cut off.
    pub torn_at: Option<u64>,
}

impl Inspected {
    /// The offset that the partition goes on at behind a damaged entry, as far as this file tells.
    pub fn next_of(&self, damaged: &Entry) -> i64 {
        let next = |entry: &Entry| entry.partition == damaged.partition && entry.lsn > damaged.lsn;
        let next = self.entries.iter().find(|(entry, _)| next(entry));
        next.map_or(damaged.base_offset + 1, |(entry, _)| entry.base_offset)
    }
}

/// What the files themselves say, for want of a checkpoint: all that they hold is needed.
pub fn survivors(dir: &Path) -> Result<Known, LogError> {
    let (salt, files) = load(dir, None)?;
    let mut live = files.iter().map(|(_, _, header)| header).filter(|header| header.generation > 0);
    let oldest = live.next().copied().unwrap_or_default();
    let newest = live.next_back().copied().unwrap_or(oldest);
    Ok(Known {
        floor: Lsn(oldest.previous_end).next(),
        generation: newest.generation,
        salt: Some(salt),
        ..Known::default()
    })
}

type Loaded = (PathBuf, Vec<u8>, FileHeader);

/// Every file's content, oldest generation first, and the journal's salt.
fn load(dir: &Path, salt: Option<u32>) -> Result<(u32, Vec<Loaded>), LogError> {
    let names = rt::fs::read_dir_names(dir).map_err(|e| LogError::io(dir, e))?;
    let mut found = Vec::new();
    let mut salt = salt;
    for number in names.iter().filter_map(|name| files::number_of(name)) {
        let path = files::file_path(dir, number);
        let bytes = rt::fs::read_all(&path).map_err(|e| LogError::io(&path, e))?;
        let header = match format::decode_file_header(&bytes) {
            Ok((header, its)) => {
                salt = salt.or(Some(its));
                Some(header)
            }
            Err(BadHeader::Newer(version)) => return Err(LogError::Newer { path, version }),
            Err(BadHeader::Empty | BadHeader::Damaged) => None,
        };
        found.push((path, bytes, header));
    }
    let salt = salt.unwrap_or_else(draw_salt);
    let mut files: Vec<Loaded> = found
        .into_iter()
        .map(|(path, bytes, header)| {
            let header = header.or_else(|| scan::rebuild_header(&bytes, salt)).unwrap_or_default();
            (path, bytes, header)
        })
        .collect();
    files.sort_by_key(|(_, _, header)| header.generation);
    Ok((salt, files))
}

/// Reads every file of the journal in `dir`, oldest generation first.
pub fn inspect(dir: &Path, known: Known) -> Result<Vec<Inspected>, LogError> {
    let (salt, files) = load(dir, known.salt)?;
    let headers: Vec<FileHeader> = files.iter().map(|(_, _, header)| *header).collect();
    let cut = files.iter().any(|(_, bytes, header)| files::is_cut(bytes.len() as u64, header.generation > 0));
    let mut last = known.before_first();
    let mut out = Vec::new();
    for (i, (path, bytes, header)) in files.into_iter().enumerate() {
        let next = headers.get(i + 1);
        let (limit, dead) = (next.map(|next| next.previous_end), known.is_dead(&header, next));
        let mut file = Inspected {
            path,
            generation: header.generation,
            needed: !dead,
            entries: Vec::new(),
            marks: Vec::new(),
            damage: Vec::new(),
            torn_at: None,
        };
        if header.generation > 0 {
            if !dead && header.previous_end > last {
                file.damage.push(missing(dir, last, header.previous_end));
            }
            let end = read(&mut file, &bytes, header, salt, limit, known);
            if !dead {
                last = last.max(end);
            }
        }
        out.push(file);
    }
    let newest_is_gone = known.lost_newest(headers.last().map(|header| header.generation), cut);
    if !known.closed
        && let Some(end) = known.missing_end(last, newest_is_gone)
    {
        let damage = missing(dir, last, end);
        match out.last_mut() {
            Some(file) => file.damage.push(damage),
            None => return Err(LogError::corrupt(dir, 0, "the journal's files are missing")),
        }
    }
    Ok(out)
}

fn missing(dir: &Path, from: u64, to: u64) -> Damage {
    Damage { path: dir.to_owned(), offset: 0, from: Lsn(from), to: Lsn(to), entry: None }
}

fn read(
    file: &mut Inspected,
    bytes: &[u8],
    header: FileHeader,
    salt: u32,
    limit: Option<u64>,
    known: Known,
) -> u64 {
    let source = Source { bytes, header, salt, limit, known_durable: known.durable.0 };
    let end = scan::scan(&source, &mut |item| match item {
        Item::Entry(entry, bytes) => {
            if entry.kind != EntryKind::Batch {
                file.marks.push((entry.into(), bytes.to_vec()));
            }
            file.entries.push((entry.into(), bytes.len() as u32));
        }
        Item::Damage { from, to, entry } if Lsn(to) >= known.floor => file.damage.push(Damage {
            path: file.path.clone(),
            offset: header.file_offset(from),
            from: Lsn(from),
            to: Lsn(to),
            entry: entry.map(Into::into),
        }),
        Item::Damage { .. } => {}
    });
    file.torn_at = end.torn_at.map(|at| header.file_offset(at));
    end.last
}
