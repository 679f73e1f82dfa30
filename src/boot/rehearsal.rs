//! Every kind of system call that a broker lives by, made once before it starts: what a sandbox refuses is told then,
//! by name, and not by whoever needs it first.
//!
//! Only that a call is forbidden or unknown is a failure here. A full disk, an odd file system or a missing interface
//! are for those who know what to do about them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::rt::{self, Refused};

/// Tries what is done to files, in a directory of its own below `data_dir`, then to sockets, then by the control thread.
pub fn run(data_dir: &Path) -> Result<(), Refused> {
    let dir = data_dir.join(".rehearsal");
    let _ = fs::remove_dir_all(&dir);
    let outcome = files(&dir);
    let _ = fs::remove_dir_all(&dir);
    outcome?;
    sockets()?;
    control()
}

/// The result of a call, unless it may not be made at all.
fn tried<T>(what: &'static str, result: io::Result<T>) -> Result<Option<T>, Refused> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.raw_os_error() {
            Some(libc::EPERM | libc::ENOSYS | libc::EACCES) => Err(Refused { what, error }),
            Some(libc::EOPNOTSUPP) if what == "fallocate" => Err(Refused { what, error }),
            _ => Ok(None),
        },
    }
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn files(dir: &Path) -> Result<(), Refused> {
    let Some(()) = tried("mkdir", fs::create_dir(dir))? else { return Ok(()) };
    let (path, other) = (dir.join("file"), dir.join("other"));
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
    let Some(file) = tried("open", open)? else { return Ok(()) };
    tried("fallocate", rt::fs::allocate(&other, 4096))?;
    tried("pwrite", file.write_all_at(&[1; 8], 0))?;
    tried("pread", file.read_exact_at(&mut [0; 8], 0))?;
    tried("ftruncate", file.set_len(4))?;
    tried("fdatasync", file.sync_data())?;
    // SAFETY: a plain system call on an open descriptor whose position nobody uses.
    tried("lseek", checked(unsafe { libc::lseek(file.as_raw_fd(), 0, libc::SEEK_HOLE) }.min(0) as i32))?;
    tried("stat", file.metadata())?;
    tried("stat", fs::metadata(dir))?;
    tried("statfs", rt::fs::space(dir))?;
    tried("rename", fs::rename(&other, &path))?;
    tried("fsync", File::open(dir).and_then(|dir| dir.sync_all()))?;
    tried("getdents", fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>))?;
    tried("fcntl", file.try_clone())?;
    // SAFETY: the descriptor is given up to the call.
    tried("close", checked(unsafe { libc::close(file.into_raw_fd()) }))?;
    tried("unlink", fs::remove_file(&path))?;
    tried("rmdir", fs::remove_dir(dir))?;
    Ok(())
}

/// What is done to a client's connection. Where this machine cannot talk to itself there is nothing to try it on.
fn sockets() -> Result<(), Refused> {
    let bound = tried("socket, setsockopt, bind or listen", TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let Some(listener) = bound else { return Ok(()) };
    let Some(address) = tried("getsockname", listener.local_addr())? else { return Ok(()) };
    let Ok(mut client) = TcpStream::connect(address) else { return Ok(()) };
    let Some((mut served, _)) = tried("accept4", listener.accept())? else { return Ok(()) };
    tried("setsockopt", served.set_nodelay(true))?;
    tried("getpeername", served.peer_addr())?;
    tried("getsockname", served.local_addr())?;
    tried("ioctl", served.set_nonblocking(false))?;
    tried("sendto", client.write_all(b"1"))?;
    tried("writev", client.write_vectored(&[IoSlice::new(b"2"), IoSlice::new(b"3")]))?;
    tried("recvfrom", served.read(&mut [0; 3]))?;
    // SAFETY: a zeroed message header is valid, and it has no parts.
    tried("sendmsg", unsafe {
        let empty: libc::msghdr = std::mem::zeroed();
        checked(libc::sendmsg(served.as_raw_fd(), &raw const empty, libc::MSG_NOSIGNAL) as i32)
    })?;
    tried("shutdown", served.shutdown(std::net::Shutdown::Both))?;
    Ok(())
}

/// What the control thread does while it waits.
fn control() -> Result<(), Refused> {
    // SAFETY: plain system calls on a fresh descriptor and on structs that outlive them.
    unsafe {
        let now = libc::timespec { tv_sec: 0, tv_nsec: 1 };
        let slept = libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &raw const now, std::ptr::null_mut());
        let slept = if slept == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(slept)) };
        tried("clock_nanosleep", slept)?;
        let Some(epoll) = tried("epoll_create1", checked(libc::epoll_create1(libc::EPOLL_CLOEXEC)))? else {
            return Ok(());
        };
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        if let Some((one, _other)) = tried("socketpair", UnixStream::pair())? {
            let added = libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, one.as_raw_fd(), &raw mut event);
            tried("epoll_ctl", checked(added))?;
        }
        let waited = checked(libc::epoll_wait(epoll, &raw mut event, 1, 0));
        libc::close(epoll);
        tried("epoll_wait", waited).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_refused_here_and_nothing_stays_behind() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path()).unwrap();
        assert!(fs::read_dir(dir.path()).unwrap().next().is_none());
    }

    #[test]
    fn only_what_is_forbidden_counts() {
        let result = |errno| tried::<()>("fallocate", Err(io::Error::from_raw_os_error(errno)));
        for errno in [libc::EPERM, libc::ENOSYS, libc::EACCES, libc::EOPNOTSUPP] {
            assert!(result(errno).is_err());
        }
        assert!(result(libc::ENOSPC).is_ok_and(|made| made.is_none()), "a full disk is no sandbox");
        assert!(tried("lseek", Err::<(), _>(io::Error::from_raw_os_error(libc::EOPNOTSUPP))).is_ok());
    }
}
