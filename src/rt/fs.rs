//! Directories and small files: blocking calls, for start-up, the control thread and [`super::blocking`].

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::errors::{Op, noted};
use super::file::fallocate;
use super::record::{self, Track};

/// The names in a directory, sorted; empty if there is no such directory.
pub fn read_dir_names(path: impl AsRef<Path>) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

pub fn exists(path: impl AsRef<Path>) -> bool {
    path.as_ref().exists()
}

/// A file's length.
pub fn len(path: impl AsRef<Path>) -> io::Result<u64> {
    Ok(fs::metadata(path)?.len())
}

pub fn read_all(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    noted(Op::Read, fs::read(path))
}

/// How large a file system is, and how much of it this process may still write.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    pub total: u64,
    pub usable: u64,
}

/// The file system that holds `path`.
pub fn space(path: impl AsRef<Path>) -> io::Result<Space> {
    let path = CString::new(path.as_ref().as_os_str().as_bytes())?;
    // SAFETY: a zeroed statvfs is valid, the path ends in a zero byte, and the call writes no more than the struct.
    let stat = unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        if libc::statvfs(path.as_ptr(), &mut stat) != 0 {
            return Err(io::Error::last_os_error());
        }
        stat
    };
    let block = stat.f_frsize;
    Ok(Space { total: stat.f_blocks.saturating_mul(block), usable: stat.f_bavail.saturating_mul(block) })
}

/// Has the space of what was deleted come back now, where that is otherwise a matter of half a minute (btrfs).
pub fn settle_deletions(path: impl AsRef<Path>) -> io::Result<()> {
    const BTRFS: u32 = 0x9123_683e;
    let dir = fs::File::open(path)?;
    // SAFETY: a zeroed statfs is valid, and the call writes no more than the struct; the other takes a descriptor.
    unsafe {
        let mut stat: libc::statfs = std::mem::zeroed();
        if libc::fstatfs(dir.as_raw_fd(), &raw mut stat) == 0 && stat.f_type as u32 == BTRFS {
            libc::syncfs(dir.as_raw_fd());
        }
    }
    Ok(())
}

/// A part of a file; less than asked for only at its end.
pub fn read_range(path: impl AsRef<Path>, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let file = noted(Op::Open, fs::File::open(path))?;
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match noted(Op::Read, file.read_at(&mut bytes[filled..], at + filled as u64)) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

pub fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    if !record::covers(path) {
        return noted(Op::Open, fs::create_dir_all(path));
    }
    let missing = missing(path);
    noted(Op::Open, fs::create_dir_all(path))?;
    missing.into_iter().for_each(record::made_dir);
    Ok(())
}

/// As [`create_dir_all`], and what was made is durable when it returns.
pub fn create_dir_all_durable(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    let missing = missing(path);
    create_dir_all(path)?;
    for dir in missing {
        // Each new name is in its parent.
        match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent)?,
            _ => sync_dir(".")?,
        }
    }
    Ok(())
}

/// The directories on the way to `path` that do not exist, the outermost first.
fn missing(path: &Path) -> Vec<&Path> {
    let is_missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
    let mut missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    missing.reverse();
    missing
}

pub fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    let inside = if record::covers(path) { entries_below(path) } else { Vec::new() };
    noted(Op::Rename, fs::remove_dir_all(path))?;
    inside.iter().for_each(|entry| record::removed(entry));
    record::removed(path);
    Ok(())
}

/// Everything below a directory, what is deeper first.
fn entries_below(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in read_dir_names(path).unwrap_or_default() {
        let entry = path.join(name);
        if entry.is_dir() {
            found.extend(entries_below(&entry));
        }
        found.push(entry);
    }
    found
}

pub fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    noted(Op::Rename, fs::remove_file(&path))?;
    record::removed(path.as_ref());
    Ok(())
}

/// Removes a file; it may be gone already.
pub fn unlink(path: impl AsRef<Path>) -> io::Result<()> {
    match remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    #[cfg(test)]
    noted(Op::Rename, super::fault::check(to.as_ref(), Op::Rename))?;
    noted(Op::Rename, fs::rename(&from, &to))?;
    record::renamed(from.as_ref(), to.as_ref());
    Ok(())
}

/// Makes creations, renames and removals in a directory durable.
pub fn sync_dir(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    record::sync_dir(path, || noted(Op::Sync, fs::File::open(path)?.sync_all()))
}

/// Makes a file of `len` bytes whose space is reserved.
pub fn allocate(path: impl AsRef<Path>, len: u64) -> io::Result<()> {
    #[cfg(test)]
    noted(Op::Allocate, super::fault::check(path.as_ref(), Op::Allocate))?;
    let file = noted(Op::Open, fs::File::create(path))?;
    noted(Op::Allocate, fallocate(file.as_fd(), len))
}

/// Cuts a file that is longer than `size`, durably; it may be gone.
pub fn cut(path: impl AsRef<Path>, size: u64) -> io::Result<()> {
    match len(&path) {
        Ok(len) if len > size => {
            let file = BlockingFile::open(path.as_ref())?;
            file.set_len(size)?;
            file.sync()
        }
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Writes behind the end of a file, which is at `at`. Durable when it returns; after an error there may be some of it.
pub fn append(path: impl AsRef<Path>, at: u64, content: &[u8]) -> io::Result<()> {
    let file = BlockingFile::open(path.as_ref())?;
    file.write_all_at(content, at)?;
    file.sync()
}

/// Replaces a file's content at once: after a crash it is either the old or the new.
pub fn write_atomic(path: impl AsRef<Path>, content: &[u8]) -> io::Result<()> {
    write_atomic_each(&[path.as_ref()], content)
}

/// As [`write_atomic`] for files of one directory, each by itself; the names differ before their extensions.
pub fn write_atomic_each(paths: &[impl AsRef<Path>], content: &[u8]) -> io::Result<()> {
    let partial = |path: &Path| path.with_extension("partial");
    for path in paths {
        let file = BlockingFile::create(&partial(path.as_ref()))?;
        file.write_all_at(content, 0)?;
        file.sync()?;
    }
    for path in paths {
        rename(partial(path.as_ref()), path)?;
    }
    let Some(first) = paths.first() else { return Ok(()) };
    sync_dir(first.as_ref().parent().ok_or(io::ErrorKind::InvalidInput)?)
}

/// A file that is read and written by blocking calls, from any thread.
pub struct BlockingFile {
    file: fs::File,
    track: Option<Track>,
    #[cfg(test)]
    path: PathBuf,
}

impl std::fmt::Debug for BlockingFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.file.fmt(f)
    }
}

impl BlockingFile {
    /// Makes a new file, or empties the one there is; open for reading and writing.
    pub fn create(path: &Path) -> io::Result<Self> {
        #[cfg(test)]
        noted(Op::Open, super::fault::check(path, Op::Open))?;
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
        let file = noted(Op::Open, file)?;
        Ok(Self::of(file, path, Track::open(path, true, true)))
    }

    /// Opens an existing file for reading and writing.
    pub fn open(path: &Path) -> io::Result<Self> {
        #[cfg(test)]
        noted(Op::Open, super::fault::check(path, Op::Open))?;
        let file = noted(Op::Open, fs::OpenOptions::new().read(true).write(true).open(path))?;
        Ok(Self::of(file, path, Track::open(path, false, false)))
    }

    #[cfg_attr(not(test), expect(unused_variables))]
    fn of(file: fs::File, path: &Path, track: Option<Track>) -> Self {
        Self {
            file,
            track,
            #[cfg(test)]
            path: path.to_owned(),
        }
    }

    pub fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        #[cfg(test)]
        noted(Op::Write, super::fault::check(&self.path, Op::Write))?;
        let op = self.track.as_ref().map(|track| track.write(at, bytes));
        noted(Op::Write, self.file.write_all_at(bytes, at))?;
        self.done(op);
        Ok(())
    }

    /// Reserves disk space for the first `len` bytes; the length stays.
    pub fn reserve(&self, len: u64) -> io::Result<()> {
        // SAFETY: a plain system call on an open descriptor.
        let done =
            match unsafe { libc::fallocate(self.file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, 0, len as i64) }
            {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            };
        noted(Op::Allocate, done)
    }

    pub fn set_len(&self, len: u64) -> io::Result<()> {
        noted(Op::Allocate, self.file.set_len(len))?;
        self.track.iter().for_each(|track| track.resize(len));
        Ok(())
    }

    /// Makes content and length durable.
    pub fn sync(&self) -> io::Result<()> {
        let op = self.track.as_ref().map(|track| track.sync(None));
        #[cfg(test)]
        noted(Op::Sync, super::fault::check(&self.path, Op::Sync))?;
        noted(Op::Sync, self.file.sync_data())?;
        self.done(op);
        Ok(())
    }

    fn done(&self, op: Option<u64>) {
        if let (Some(track), Some(op)) = (&self.track, op) {
            track.done(op);
        }
    }
}
