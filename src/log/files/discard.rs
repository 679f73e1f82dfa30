//! Giving the space of large files back in pieces.
//!
//! What a file frees is told to the disk when the file system commits (mount option `discard`, thin volumes), and every
//! sync of anything waits for that: a gigabyte at once holds acknowledgements up for tens of milliseconds. So a file
//! that nobody needs is cut shorter piece by piece, and its disk has time for others in between.

use std::io;
use std::path::{Path, PathBuf};

use crate::rt;
use crate::rt::fs::BlockingFile;

/// Freed at once; a file no larger than this is simply removed.
const PIECE: u64 = 16 << 20;
/// The rest after a piece, in times that it took.
const REST: u32 = 4;

/// Cuts a file until no more than a piece is left, which is quick to remove. Its name must be durable as that of a file
/// that nobody needs.
pub async fn shrink(path: PathBuf) -> io::Result<()> {
    loop {
        let (file, began) = (path.clone(), rt::now());
        if rt::blocking(move || cut_piece(&file)).await? {
            return Ok(());
        }
        rt::sleep(began.elapsed() * REST).await;
    }
}

/// Whether the file is small enough, or gone.
fn cut_piece(path: &Path) -> io::Result<bool> {
    let len = match rt::fs::len(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
        len => len?,
    };
    if len <= PIECE {
        return Ok(true);
    }
    let file = BlockingFile::open(path)?;
    file.set_len(len - PIECE)?;
    file.sync()?;
    Ok(false)
}

/// Removes a directory with the files in it, which may be large.
pub async fn remove_directory(dir: PathBuf) -> io::Result<()> {
    let list = dir.clone();
    for name in rt::blocking(move || rt::fs::read_dir_names(list)).await? {
        shrink(dir.join(name)).await?;
    }
    rt::blocking(move || rt::fs::remove_dir_all(dir)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_goes_in_pieces_and_a_small_one_stays_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let make = |name: &str, len| std::fs::File::create(path(name)).unwrap().set_len(len).unwrap();
        make("large", 3 * PIECE + 5);
        make("small", PIECE);
        let (large, small, missing) = (path("large"), path("small"), path("missing"));
        assert!(!cut_piece(&large).unwrap());
        assert_eq!(rt::fs::len(&large).unwrap(), 2 * PIECE + 5);
        let root = dir.path().to_owned();
        rt::block_on(async move {
            shrink(large.clone()).await.unwrap();
            shrink(small.clone()).await.unwrap();
            shrink(missing).await.unwrap();
            assert_eq!(rt::fs::len(&large).unwrap(), 5);
            assert_eq!(rt::fs::len(&small).unwrap(), PIECE);
            std::fs::File::options().write(true).open(&large).unwrap().set_len(5 * PIECE).unwrap();
            remove_directory(root.clone()).await.unwrap();
            assert!(!root.exists());
        });
    }
}
