//! Files, read and written through the shard's ring. The seam below which faults are injected and writes recorded.

use std::fs::File as StdFile;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use io_uring::{opcode, types::FsyncFlags};

use super::aligned::{AlignedBuf, BLOCK};
use super::driver::{Driver, Held};
use super::errors::{self, Kind, Op, noted};
use super::record::Track;

/// How to open a file. `direct` bypasses the page cache (O_DIRECT).
#[derive(Clone, Copy, Default, Debug)]
pub struct OpenOptions {
    pub write: bool,
    pub create: bool,
    pub truncate: bool,
    pub direct: bool,
}

/// An open file; clones share the descriptor, which closes with the last of them or of their operations.
#[derive(Clone)]
pub struct File {
    fd: Rc<OwnedFd>,
    driver: Rc<Driver>,
    track: Option<Rc<Track>>,
    #[cfg(test)]
    path: Rc<Path>,
}

impl File {
    pub fn open(path: impl AsRef<Path>, options: OpenOptions) -> io::Result<Self> {
        let path = path.as_ref();
        let open = || {
            #[cfg(test)]
            super::fault::check(path, Op::Open)?;
            std::fs::OpenOptions::new()
                .read(true)
                .write(options.write)
                .create(options.create)
                .truncate(options.truncate)
                .custom_flags(if options.direct { libc::O_DIRECT } else { 0 })
                .mode(0o644)
                .open(path)
        };
        let file = noted(Op::Open, open())?;
        let track = Track::open(path, options.create, options.truncate).map(Rc::new);
        Ok(Self {
            fd: Rc::new(file.into()),
            driver: Driver::current(),
            track,
            #[cfg(test)]
            path: path.into(),
        })
    }

    /// How much of `len` bytes an operation may do, after whatever stands in its way.
    #[cfg(test)]
    async fn faulted(&self, op: Op, len: usize) -> io::Result<usize> {
        use super::fault::{Fault, of};
        match of(&self.path, op) {
            None => Ok(len),
            Some(Fault::Error(number)) => noted(op, Err(io::Error::from_raw_os_error(number))),
            Some(Fault::Short(most)) => Ok(len.min(most)),
            Some(Fault::Slow(time)) => {
                super::sleep(time).await;
                Ok(len)
            }
        }
    }

    /// Notes a write as begun; what it returns is for [`Self::note_done`].
    fn note_write(&self, pos: u64, buf: &AlignedBuf) -> Option<u64> {
        self.track.as_ref().map(|track| track.write(pos, buf.as_slice()))
    }

    fn note_done(&self, op: Option<u64>) {
        if let (Some(track), Some(op)) = (&self.track, op) {
            track.done(op);
        }
    }

    /// Reads `len` bytes at `pos`, whatever their alignment; fewer only at the end of the file.
    pub async fn read(&self, pos: u64, len: usize) -> io::Result<Bytes> {
        let start = pos / BLOCK as u64 * BLOCK as u64;
        let skip = (pos - start) as usize;
        let wanted = (skip + len).next_multiple_of(BLOCK);
        let mut buf = AlignedBuf::recycled(wanted);
        let mut filled = 0;
        while filled < skip + len {
            let (got, back) = self.read_some(start + filled as u64, buf, filled..wanted).await;
            buf = back;
            match got? {
                0 => break,
                n => filled += n,
            }
            // Direct I/O goes on only from a block boundary; off it, the end of the file was reached.
            if filled % BLOCK != 0 {
                break;
            }
        }
        buf.set_len(filled);
        let end = filled.min(skip + len);
        Ok(if end <= skip { Bytes::new() } else { buf.freeze().slice(skip..end) })
    }

    async fn read_some(
        &self,
        pos: u64,
        mut buf: AlignedBuf,
        range: Range<usize>,
    ) -> (io::Result<usize>, AlignedBuf) {
        #[cfg(test)]
        if let Err(e) = self.faulted(Op::Read, range.len()).await {
            return (Err(e), buf);
        }
        // SAFETY: the range is within the capacity; the buffer is held by the operation until its completion.
        let ptr = unsafe { buf.as_mut_ptr().add(range.start) };
        let op = self.driver.submit_file(self.fd.clone(), Held::Buffer(buf), |fd| {
            opcode::Read::new(fd, ptr, clamp(range.len())).offset(pos).build()
        });
        let (result, held) = op.await;
        let (result, mut buf) = (noted(Op::Read, result), held.buffer());
        if let Ok(n) = result {
            // SAFETY: the kernel wrote so much behind what it or its predecessors had written.
            unsafe { buf.assume_written(range.start + n) };
        }
        (result, buf)
    }

    /// Writes the whole buffer at `pos`. For direct files both `pos` and the length are multiples of [`BLOCK`].
    pub async fn write(&self, pos: u64, buf: AlignedBuf) -> (io::Result<()>, AlignedBuf) {
        let op = self.note_write(pos, &buf);
        let (written, buf) = self.write_from(pos, buf, 0).await;
        if written.is_ok() {
            self.note_done(op);
        }
        (written, buf)
    }

    async fn write_from(
        &self,
        pos: u64,
        mut buf: AlignedBuf,
        mut done: usize,
    ) -> (io::Result<()>, AlignedBuf) {
        while done < buf.len() {
            let (result, back) = self.write_some(pos, buf, done, 0).await;
            buf = back;
            match result {
                Ok(n) => done += n,
                Err(e) => return (Err(e), buf),
            }
        }
        (Ok(()), buf)
    }

    /// Writes what the buffer holds after `done` bytes, or the first part of it.
    async fn write_some(
        &self,
        pos: u64,
        buf: AlignedBuf,
        done: usize,
        flags: i32,
    ) -> (io::Result<usize>, AlignedBuf) {
        let most = buf.len() - done;
        #[cfg(test)]
        let most = match self.faulted(Op::Write, most).await {
            Ok(most) => most,
            Err(e) => return (Err(e), buf),
        };
        let (ptr, wanted) = (buf.as_slice()[done..].as_ptr(), clamp(buf.len() - done));
        let op = self.driver.submit_file(self.fd.clone(), Held::Buffer(buf), |fd| {
            opcode::Write::new(fd, ptr, clamp(most)).offset(pos + done as u64).rw_flags(flags).build()
        });
        let (result, held) = op.await;
        let result = match result {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            other => other,
        };
        if result.as_ref().is_ok_and(|n| *n < wanted as usize) {
            errors::count(Op::Write, Kind::Short);
        }
        (noted(Op::Write, result), held.buffer())
    }

    /// Writes the buffer and makes it durable, in one operation: a synchronous write costs the shard one wake-up, a
    /// write and an fdatasync linked in the kernel two.
    pub async fn write_durable(&self, pos: u64, buf: AlignedBuf) -> (io::Result<()>, AlignedBuf) {
        let noted = self.note_write(pos, &buf);
        let synced = self.track.as_ref().map(|track| track.sync(noted));
        let len = buf.len();
        let (result, buf) = self.write_some(pos, buf, 0, libc::RWF_DSYNC).await;
        match result {
            Ok(n) if n == len => {
                self.note_done(noted);
                self.note_done(synced);
                (Ok(()), buf)
            }
            Err(e) => (Err(e), buf),
            Ok(n) => {
                let (written, buf) = self.write_from(pos, buf, n).await;
                match written {
                    Ok(()) => {
                        self.note_done(noted);
                        (self.fdatasync().await, buf)
                    }
                    Err(e) => (Err(e), buf),
                }
            }
        }
    }

    pub async fn fdatasync(&self) -> io::Result<()> {
        #[cfg(test)]
        self.faulted(Op::Sync, 0).await?;
        let track = self.track.as_ref().map(|track| track.sync(None));
        let op = self.driver.submit_file(self.fd.clone(), Held::Nothing, |fd| {
            opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build()
        });
        noted(Op::Sync, op.await.0)?;
        self.note_done(track);
        Ok(())
    }

    #[expect(clippy::len_without_is_empty, reason = "a file's length is a system call that can fail")]
    pub fn len(&self) -> io::Result<u64> {
        self.with_std(|f| f.metadata().map(|m| m.len()))
    }

    /// Cuts the file, or makes it longer. In the ring; on the helper thread where the kernel is older than 6.9.
    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faulted(Op::Allocate, 0).await?;
        let fd = self.fd.clone();
        let op = self.driver.submit_file(fd, Held::Nothing, |fd| opcode::Ftruncate::new(fd, len).build());
        let done = match op.await.0 {
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                let file = StdFile::from(self.fd.try_clone()?);
                super::blocking(move || file.set_len(len)).await
            }
            done => done.map(drop),
        };
        noted(Op::Allocate, done)?;
        self.track.iter().for_each(|track| track.resize(len));
        Ok(())
    }

    /// As [`set_len`](Self::set_len), blocking: for start-up.
    pub fn set_len_blocking(&self, len: u64) -> io::Result<()> {
        noted(Op::Allocate, self.with_std(|f| f.set_len(len)))?;
        self.track.iter().for_each(|track| track.resize(len));
        Ok(())
    }

    /// Reserves disk space for the first `len` bytes and makes the file at least that long.
    pub async fn allocate(&self, len: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faulted(Op::Allocate, 0).await?;
        let op = self
            .driver
            .submit_file(self.fd.clone(), Held::Nothing, |fd| opcode::Fallocate::new(fd, len).build());
        noted(Op::Allocate, op.await.0)?;
        self.track.iter().for_each(|track| track.reserve(len));
        Ok(())
    }

    /// Has a file that is still empty written in place, where the file system would otherwise copy what is overwritten
    /// (btrfs) and could then refuse it for want of room. Where that cannot be had, nothing changes.
    pub fn write_in_place(&self) {
        const GET_FLAGS: libc::Ioctl = 0x8008_6601_u32 as libc::Ioctl;
        const SET_FLAGS: libc::Ioctl = 0x4008_6602;
        const NO_COPIES: libc::c_long = 0x0080_0000;
        let mut flags: libc::c_long = 0;
        // SAFETY: both calls read or write one long at most, which outlives them.
        unsafe {
            if libc::ioctl(self.fd.as_raw_fd(), GET_FLAGS, &raw mut flags) == 0 {
                flags |= NO_COPIES;
                libc::ioctl(self.fd.as_raw_fd(), SET_FLAGS, &raw const flags);
            }
        }
    }

    /// Where the first hole begins: everything before it was written once, which reserving space does not do. The
    /// length where the file system knows no holes.
    pub fn first_hole(&self) -> io::Result<u64> {
        // SAFETY: a plain system call on an owned descriptor, whose position nobody uses.
        match unsafe { libc::lseek(self.fd.as_raw_fd(), 0, libc::SEEK_HOLE) } {
            at if at >= 0 => Ok(at as u64),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Reads without the ring, blocking: for start-up.
    pub fn read_blocking(&self, pos: u64, buf: &mut AlignedBuf) -> io::Result<usize> {
        let capacity = buf.capacity();
        buf.set_len(capacity);
        let n = noted(Op::Read, self.with_std(|f| f.read_at(buf.as_mut_slice(), pos)))?;
        buf.truncate(n);
        Ok(n)
    }

    fn with_std<T>(&self, f: impl FnOnce(&StdFile) -> io::Result<T>) -> io::Result<T> {
        let file = StdFile::from(self.fd.try_clone()?);
        f(&file)
    }
}

/// Reserves disk space for a file's first `len` bytes.
pub(super) fn fallocate(fd: BorrowedFd<'_>, len: u64) -> io::Result<()> {
    // SAFETY: a plain system call on an open descriptor.
    match unsafe { libc::fallocate(fd.as_raw_fd(), 0, 0, len as i64) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// One submission carries at most 1 GiB: the kernel's own limit is just below 2 GiB.
fn clamp(len: usize) -> u32 {
    len.min(1 << 30) as u32
}

impl Held {
    fn buffer(self) -> AlignedBuf {
        match self {
            Self::Buffer(buf) => buf,
            Self::Nothing | Self::Address(_) => unreachable!("the operation was given a buffer"),
        }
    }
}
