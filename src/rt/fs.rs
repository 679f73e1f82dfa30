//! Directories and small files: blocking calls, for start-up and for [`super::blocking`].

use std::fs;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub use std::fs::{create_dir_all, remove_dir_all, remove_file, rename};

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
    fs::read(path)
}

/// Makes creations, renames and removals in a directory durable.
pub fn sync_dir(path: impl AsRef<Path>) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// What the file system of `path` has left for this process, and its size, in bytes.
pub fn room(path: impl AsRef<Path>) -> io::Result<(u64, u64)> {
    let path = std::ffi::CString::new(path.as_ref().as_os_str().as_bytes())?;
    // SAFETY: all zeros is a value of this plain struct.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the call reads the path and writes the struct, both of which outlive it.
    match unsafe { libc::statvfs(path.as_ptr(), &mut stat) } {
        0 => Ok((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes a file of `len` bytes whose space is reserved.
pub fn allocate(path: impl AsRef<Path>, len: u64) -> io::Result<()> {
    let file = fs::File::create(path)?;
    // SAFETY: a plain system call on an open descriptor.
    match unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len as i64) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Replaces a file's content at once: after a crash it is either the old or the new.
pub fn write_atomic(path: impl AsRef<Path>, content: &[u8]) -> io::Result<()> {
    let path = path.as_ref();
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let partial = path.with_extension("partial");
    let mut file = fs::File::create(&partial)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    sync_dir(parent)
}
