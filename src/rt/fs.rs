//! Directories and small files: blocking calls, for start-up and for [`super::blocking`].

use std::ffi::CString;
use std::fs;
use std::io::{self, Write};
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

/// Makes creations, renames and removals in a directory durable.
pub fn sync_dir(path: impl AsRef<Path>) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
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
