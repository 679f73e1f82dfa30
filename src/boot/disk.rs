//! What the file system of the data directory must grant: direct I/O, and room for journals. And what
//! its errors mean: each is told as what it is, with what helps.

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::config::Config;
use crate::log::journal::sizing::{Chosen, NoPlace, Sizing, Volume};
use crate::log::{drop_ballast, is_full};

use super::errors::StartError;

/// What helps against an error of the disk, where the error itself says what is wrong.
pub fn remedy(error: &io::Error) -> Option<&'static str> {
    Some(match error.raw_os_error()? {
        libc::ENOSPC => {
            "The disk is full, or has no inodes left (`df`, `df -i`): make room on it, then start again."
        }
        libc::EDQUOT => "The disk quota is used up (`quota`): raise it or make room, then start again.",
        libc::EROFS => {
            "The file system is read-only; the kernel also makes it so after an error of the disk (`dmesg`). Check \
             it, mount it for writing, then start again."
        }
        libc::EFBIG => {
            "Files may not be as large as that: raise `ulimit -f` (LimitFSIZE= in a systemd unit)."
        }
        libc::EACCES | libc::EPERM => {
            "Let this user read and write there, or choose another directory with --data-dir."
        }
        libc::EIO => "The disk reports an error (`dmesg`): restore the data on a disk that works.",
        libc::EMFILE | libc::ENFILE => "Raise the limit of open files (`ulimit -n`, LimitNOFILE=).",
        _ => return None,
    })
}

/// The error of a system call that an error comes from, if it comes from one.
pub fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>().filter(|io| io.raw_os_error().is_some()) {
            return Some(io);
        }
        next = error.source();
    }
    None
}

/// Tries again once the ballast of every journal was given up, where there was no room. A start needs none otherwise.
pub fn with_ballast<T, E: Error + 'static>(
    data_dir: &Path,
    mut step: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    match step() {
        Err(e) if wants_room(&e) && drop_ballasts(data_dir) => step(),
        done => done,
    }
}

pub fn wants_room(error: &(dyn Error + 'static)) -> bool {
    cause(error).is_some_and(is_full)
}

/// Gives up the ballast of every journal; false if there is none.
pub fn drop_ballasts(data_dir: &Path) -> bool {
    let journals = fs::read_dir(data_dir.join("journal")).into_iter().flatten().flatten();
    journals.filter(|journal| drop_ballast(&journal.path())).count() > 0
}

/// Whether a file, which exists, can be written past the page cache.
pub fn try_direct_io(file: &Path) -> io::Result<()> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(file).map(drop)
}

/// Reads and writes bypass the page cache, which not every file system allows. `file` is one of ours, so that nothing
/// has to be made for this.
pub fn check_direct_io(data_dir: &Path, file: &Path) -> Result<(), StartError> {
    let Err(error) = try_direct_io(file) else { return Ok(()) };
    Err(StartError::new(
        format!("{} cannot be written with direct I/O: {error}", data_dir.display()),
        match error.raw_os_error() {
            Some(libc::EINVAL | libc::EOPNOTSUPP) => {
                "Choose a directory on a disk file system such as ext4 or xfs with --data-dir."
            }
            _ => remedy(&error).unwrap_or("Choose another directory with --data-dir."),
        },
    ))
}

/// The journals' place on the file system of the data directory, which exists.
pub fn size_journals(config: &Config) -> Result<Sizing, StartError> {
    let chosen = Chosen { file_bytes: config.journal_file_size, max_files: config.journal_max_files };
    let mut sizing = place_journals(&config.data_dir, config.shards, chosen)?;
    // A start after a crash reads a file whole.
    if chosen.file_bytes.is_none() {
        sizing.file_bytes = sizing.file_bytes.min(most_file_bytes(config.memory));
    }
    Ok(sizing)
}

/// A power of two, as files of journals are.
fn most_file_bytes(memory: u64) -> u64 {
    1 << (memory / 32).max(4 << 20).ilog2()
}

pub fn place_journals(data_dir: &Path, shards: usize, chosen: Chosen) -> Result<Sizing, StartError> {
    let volume = Volume::of(data_dir).map_err(|e| {
        let problem = format!("the file system of {} cannot be asked for its size: {e}", data_dir.display());
        StartError::new(problem, remedy(&e).unwrap_or("Choose another directory with --data-dir."))
    })?;
    Sizing::of(&volume, shards, chosen).map_err(|no| refuse(data_dir, &volume, shards, no))
}

fn refuse(data_dir: &Path, volume: &Volume, shards: usize, no: NoPlace) -> StartError {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let (dir, has) = (data_dir.display(), mib(volume.total));
    match no {
        NoPlace::TooSmall { needs } => StartError::new(
            format!(
                "the file system of {dir} has {has} MiB, and {shards} shards need {} MiB at least",
                mib(needs)
            ),
            "Choose a directory on a larger one with --data-dir, or run fewer shards with --shards.",
        ),
        NoPlace::ChosenTooLarge { needs } => StartError::new(
            format!(
                "the file system of {dir} has {has} MiB, and journals of {shards} shards as journal_file_size and \
                 journal_max_files ask for need {} MiB at least, half of it for records",
                mib(needs)
            ),
            "Leave journal_file_size and journal_max_files at auto, or choose smaller ones, a larger file system with \
             --data-dir or fewer shards with --shards.",
        ),
        NoPlace::TooFull { needs } => StartError::new(
            format!(
                "the file system of {dir} has {} MiB free, and a new data directory of {shards} shards needs {} MiB",
                volume.free >> 20,
                mib(needs)
            ),
            "Make room on it, or choose another directory with --data-dir.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogError;

    fn of(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    #[test]
    fn an_error_is_told_as_what_it_is() {
        for (number, word) in [
            (libc::ENOSPC, "df -i"),
            (libc::EDQUOT, "quota"),
            (libc::EROFS, "read-only"),
            (libc::EFBIG, "ulimit -f"),
            (libc::EACCES, "this user"),
            (libc::EIO, "dmesg"),
        ] {
            let error = LogError::io("/data/journal/0/checkpoint", of(number));
            let found = cause(&error).and_then(remedy);
            assert!(found.is_some_and(|remedy| remedy.contains(word)), "{number}: {found:?}");
        }
        assert!(cause(&LogError::corrupt("a", 0, "damaged")).is_none());
        assert_eq!(remedy(&of(libc::EINVAL)), None);
    }

    #[test]
    fn ballast_makes_room_for_a_start_once() {
        let dir = tempfile::tempdir().unwrap();
        let tries = std::cell::Cell::new(0);
        let step = || {
            tries.set(tries.get() + 1);
            if tries.get() < 3 { Err(LogError::io("meta", of(libc::ENOSPC))) } else { Ok(()) }
        };
        assert!(with_ballast(dir.path(), step).is_err());
        assert_eq!(tries.get(), 1, "there is no ballast");
        for shard in ["0", "1"] {
            let journal = dir.path().join("journal").join(shard);
            fs::create_dir_all(&journal).unwrap();
            fs::write(journal.join("ballast"), "b").unwrap();
        }
        assert!(with_ballast(dir.path(), step).is_ok());
        assert_eq!(tries.get(), 3);
        assert!(!dir.path().join("journal/1/ballast").exists());
        tries.set(0);
        let failed = with_ballast(dir.path(), || {
            tries.set(tries.get() + 1);
            Err::<(), _>(LogError::io("meta", of(libc::EIO)))
        });
        assert!(failed.is_err() && tries.get() == 1, "room is not what it lacked");
    }

    #[test]
    fn what_a_volume_lacks_is_told_in_figures() {
        let volume = Volume { total: 20 << 20, free: 5 << 20, is_new: true, file_bytes: None };
        let told = |no| refuse(Path::new("/data"), &volume, 2, no).to_string();
        let small = told(NoPlace::TooSmall { needs: 32 << 20 });
        assert!(small.contains("has 20 MiB, and 2 shards need 32 MiB"), "{small}");
        let chosen = told(NoPlace::ChosenTooLarge { needs: 512 << 20 });
        assert!(chosen.contains("journal_file_size") && chosen.contains("need 512 MiB"), "{chosen}");
        let full = told(NoPlace::TooFull { needs: 12 << 20 });
        assert!(full.contains("has 5 MiB free") && full.contains("needs 12 MiB"), "{full}");
    }

    #[test]
    fn direct_io_is_tried_without_making_a_file() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let file = dir.path().join("lock");
        let missing = check_direct_io(dir.path(), &file).unwrap_err();
        assert!(!missing.remedy.contains("ext4"), "{missing}");
        fs::write(&file, "1\n").unwrap();
        assert_eq!(check_direct_io(dir.path(), &file), Ok(()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
