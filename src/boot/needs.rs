//! What one broker needs of the limits that a system sets to its processes, and what to do where it does not get it:
//! `weir serve` starts by these figures, and `weir doctor` shows them.

use std::fs;

use super::errors::StartError;
use crate::config::Config;
use crate::rt::Refused;

/// Locked memory of a shard's ring: 1,024 submissions of 64 bytes, 8,192 completions of 16 bytes, their heads.
/// Kernels from 6.14 on count it.
const RING_LOCKED: u64 = 256 << 10;
/// The same of its executor: three small rings, and what is registered for them.
const EXECUTOR_LOCKED: u64 = 192 << 10;
/// Rings beside the shards': one that is tried, one for what is done before they start.
const OTHER_RINGS: u64 = 2;
/// Descriptors that are nobody's in particular: standard streams, lock, listeners, metadata, HTTP, signals.
const FIXED: u64 = 64;
/// A shard's own beside its journal: ring, bell, a file under way and its directory, checkpoints.
const SHARD: u64 = 12;
/// Segment files that a shard would like to keep open, and those without which it does little else than open files.
const SEGMENTS: u64 = 128;
const SEGMENTS_LEAST: u64 = 8;
const CONNECTIONS_LEAST: u64 = 16;
/// The largest segment that a topic may ask for (`segment.bytes`) is just below this.
const LARGEST_SEGMENT: u64 = 2 << 30;
/// Address space beside the budgets: libraries, allocators; and of each shard: stacks, ring, an arena.
const ADDRESSES: u64 = 2 << 30;
const ADDRESSES_SHARD: u64 = 256 << 20;
const CAP_IPC_LOCK: u64 = 1 << 14;

/// What the system allows; `RLIM_INFINITY` where it sets no limit.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub descriptors: u64,
    pub locked_memory: u64,
    pub file_size: u64,
    pub address_space: u64,
}

/// What one broker asks for.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    pub shards: usize,
    pub journal_files: usize,
    pub connections: usize,
    /// The memory budgets together.
    pub budgets: u64,
}

/// How the descriptors are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Client connections; the rest is never theirs.
    pub connections: usize,
    /// Segment files that each shard keeps open.
    pub segments: usize,
}

impl Limits {
    /// The limits of this process, each soft one raised to its hard one.
    pub fn raised() -> Self {
        Self {
            descriptors: raise(libc::RLIMIT_NOFILE),
            locked_memory: raise(libc::RLIMIT_MEMLOCK),
            file_size: raise(libc::RLIMIT_FSIZE),
            address_space: raise(libc::RLIMIT_AS),
        }
    }
}

/// Raises a soft limit to its hard limit and returns what now holds; none at all when it cannot be read.
fn raise(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read or write the struct that outlives them.
    unsafe {
        if libc::getrlimit(resource, &mut limit) != 0 {
            return libc::RLIM_INFINITY;
        }
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        if limit.rlim_cur < limit.rlim_max && libc::setrlimit(resource, &raised) == 0 {
            limit = raised;
        }
    }
    limit.rlim_cur
}

/// The kernel does not count the locked memory of a process with CAP_IPC_LOCK.
pub fn may_lock_any_memory() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|c| c & CAP_IPC_LOCK != 0)
}

impl Needs {
    pub fn of(config: &Config) -> Self {
        Self {
            shards: config.shards,
            journal_files: config
                .journal_max_files
                .unwrap_or(crate::log::journal::sizing::MOST_FILES as usize),
            connections: config.max_connections,
            budgets: config.cache_memory + config.tail_memory + config.request_memory,
        }
    }

    /// Rings that exist at the same time.
    pub fn rings(&self) -> usize {
        self.shards + OTHER_RINGS as usize
    }

    pub fn locked_memory(&self) -> u64 {
        self.rings() as u64 * (RING_LOCKED + EXECUTOR_LOCKED)
    }

    /// Descriptors that are kept for what is no client's.
    fn kept(&self) -> u64 {
        FIXED + self.shards as u64 * (SHARD + self.journal_files as u64)
    }

    /// Without these a broker does not start.
    pub fn descriptors_least(&self) -> u64 {
        self.kept() + self.shards as u64 * SEGMENTS_LEAST + CONNECTIONS_LEAST
    }

    /// With these nobody has less than it would like.
    pub fn descriptors(&self) -> u64 {
        self.kept() + self.shards as u64 * SEGMENTS + self.connections as u64
    }

    /// Shares `limit` descriptors out: segments get no more than half of what is left beside what is kept, connections
    /// the rest.
    pub fn share(&self, limit: u64) -> Result<Share, StartError> {
        let least = self.descriptors_least();
        if limit < least {
            return Err(StartError::new(
                format!("{} shards need {least} open files at least and the limit is {limit}", self.shards),
                raise_descriptors(self.descriptors()) + ", or run fewer shards with --shards.",
            ));
        }
        let (left, shards) = (limit - self.kept(), self.shards as u64);
        let segments = (left / 2 / shards).clamp(SEGMENTS_LEAST, SEGMENTS);
        let connections = (self.connections as u64).min(left - segments * shards);
        Ok(Share { connections: connections as usize, segments: segments as usize })
    }

    /// A file that may not grow stops a journal or a segment in the middle.
    pub fn file_size(&self, limit: u64) -> Result<(), StartError> {
        if limit >= LARGEST_SEGMENT {
            return Ok(());
        }
        Err(StartError::new(
            format!("files may not grow beyond {} KiB, and segments may reach 2 GiB", limit >> 10),
            "Lift the limit with `ulimit -f unlimited`, or LimitFSIZE=infinity in a systemd unit.",
        ))
    }

    /// Memory that cannot be had ends the process on the spot, wherever it is.
    pub fn address_space(&self, limit: u64) -> Result<(), StartError> {
        let needed = ADDRESSES + self.shards as u64 * ADDRESSES_SHARD + self.budgets;
        if limit >= needed {
            return Ok(());
        }
        Err(StartError::new(
            format!(
                "{} shards and their budgets need {} MiB of address space and the limit is {} MiB",
                self.shards,
                needed >> 20,
                limit >> 20
            ),
            "Lift the limit with `ulimit -v unlimited`, or LimitAS=infinity in a systemd unit; what bounds memory \
             is a cgroup's limit, which the budgets follow.",
        ))
    }

    /// What it means that the kernel refused something, and what to do.
    pub fn explain(&self, refused: &Refused, limits: &Limits) -> StartError {
        let switched_off = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
        self.explain_on(refused, limits, switched_off.ok().as_deref().map(str::trim))
    }

    fn explain_on(&self, refused: &Refused, limits: &Limits, switched_off: Option<&str>) -> StartError {
        let uring = refused.what.starts_with("io_uring");
        let problem = format!("the kernel does not give this process what it needs: {refused}");
        match refused.error.raw_os_error() {
            Some(libc::EPERM) if uring && matches!(switched_off, Some("1" | "2")) => StartError::new(
                problem,
                "Allow io_uring with `sysctl kernel.io_uring_disabled=0` (as root, on the host of a container).",
            ),
            Some(libc::EACCES) if ["mkdir", "open"].contains(&refused.what) => StartError::new(
                format!("the data directory cannot be written to: {refused}"),
                "Give it to the user who runs the broker (`chown -R`), or choose another with --data-dir.",
            ),
            Some(libc::EPERM | libc::EACCES) => StartError::new(problem, forbidden(refused.what)),
            Some(libc::ENOSYS) if uring => StartError::new(
                problem,
                "Linux 6.1 or newer, built with io_uring, is needed; or a seccomp profile hides it.",
            ),
            Some(libc::ENOSYS) => StartError::new(problem, forbidden(refused.what)),
            Some(libc::EINVAL) if uring => StartError::new(problem, "Linux 6.1 or newer is needed."),
            Some(libc::ENOMEM) if uring && limits.locked_memory < self.locked_memory() => {
                self.short_of_locked(limits)
            }
            Some(libc::ENOMEM) => StartError::new(
                problem,
                "The machine, or this container, is out of memory: give it more, or run fewer shards with --shards.",
            ),
            Some(libc::EMFILE | libc::ENFILE) => {
                StartError::new(problem, raise_descriptors(self.descriptors()) + ".")
            }
            Some(libc::EAGAIN) => StartError::new(
                problem,
                "The limit of processes and threads is reached: raise it with `ulimit -u`, TasksMax= in a systemd \
                 unit or `--pids-limit` for docker, or run fewer shards with --shards.",
            ),
            Some(libc::EOPNOTSUPP) => StartError::new(
                problem,
                "Choose a directory on a disk file system such as ext4 or xfs with --data-dir.",
            ),
            _ => StartError::new(problem, "`weir doctor` examines this machine."),
        }
    }

    fn short_of_locked(&self, limits: &Limits) -> StartError {
        let needed = self.locked_memory() >> 10;
        StartError::new(
            format!(
                "the rings of {} shards do not fit into the locked memory that this user may have: up to {needed} KiB \
                 are needed, the limit is {} KiB, and whatever else the user runs counts",
                self.shards,
                limits.locked_memory >> 10
            ),
            format!("{} Or run fewer shards with --shards.", raise_locked(needed)),
        )
    }
}

pub fn raise_locked(kib: u64) -> String {
    format!(
        "Raise the limit of locked memory with `ulimit -l {kib}`, LimitMEMLOCK= in a systemd unit or \
         `--ulimit memlock=-1` for docker."
    )
}

/// Without its last stop.
pub fn raise_descriptors(count: u64) -> String {
    format!(
        "Raise the limit of open files with `ulimit -n {count}`, LimitNOFILE={count} in a systemd unit or `--ulimit \
         nofile={count}` for docker"
    )
}

/// Who forbids a system call.
pub fn forbidden(what: &str) -> String {
    let allow = match what {
        w if w.starts_with("io_uring") => "io_uring_setup, io_uring_enter and io_uring_register",
        "a thread" => "clone and clone3",
        other => other,
    };
    format!(
        "A seccomp profile forbids it: allow {allow} in it, or run the container with `--security-opt \
         seccomp=unconfined`."
    )
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const NEEDS: Needs = Needs { shards: 12, journal_files: 16, connections: 20_000, budgets: 1 << 30 };

    fn limits(locked_memory: u64) -> Limits {
        let none = libc::RLIM_INFINITY;
        Limits { descriptors: none, locked_memory, file_size: none, address_space: none }
    }

    fn explain(what: &'static str, errno: i32, switched_off: Option<&str>) -> String {
        let refused = Refused { what, error: io::Error::from_raw_os_error(errno) };
        NEEDS.explain_on(&refused, &limits(1 << 20), switched_off).to_string()
    }

    #[test]
    fn what_the_kernel_refuses_is_told_with_who_refuses_it() {
        for (what, errno, switched_off, says) in [
            ("io_uring_setup", libc::EPERM, Some("2"), "sysctl kernel.io_uring_disabled=0"),
            ("io_uring_setup", libc::EPERM, Some("0"), "seccomp profile forbids it: allow io_uring_setup"),
            ("io_uring_enter", libc::EACCES, None, "io_uring_enter and"),
            ("io_uring_setup", libc::ENOSYS, None, "Linux 6.1"),
            ("io_uring_setup", libc::EINVAL, None, "Linux 6.1"),
            ("io_uring_setup", libc::ENOMEM, None, "ulimit -l 6272"),
            ("io_uring_setup", libc::EMFILE, None, "ulimit -n"),
            ("eventfd", libc::EMFILE, None, "ulimit -n"),
            ("a thread", libc::EAGAIN, None, "ulimit -u"),
            ("a thread", libc::EPERM, None, "clone3"),
            ("fallocate", libc::EPERM, None, "allow fallocate"),
            ("fallocate", libc::EOPNOTSUPP, None, "ext4"),
            ("epoll_wait", libc::ENOSYS, None, "allow epoll_wait"),
        ] {
            let text = explain(what, errno, switched_off);
            assert!(text.contains(says), "{what} {errno}: {text}");
            assert!(text.contains(what) || errno == libc::ENOMEM, "{text}");
        }
    }

    #[test]
    fn descriptors_are_kept_for_what_is_no_clients() {
        let few = Needs { shards: 2, ..NEEDS };
        assert_eq!(few.share(1 << 20).unwrap(), Share { connections: 20_000, segments: 128 });
        for limit in [few.descriptors_least(), 400, 1024, 4096, 65_536] {
            let share = few.share(limit).unwrap();
            let used = few.kept() + 2 * share.segments as u64 + share.connections as u64;
            assert!(used <= limit && share.connections >= 16 && share.segments >= 8, "{limit}: {share:?}");
        }
        let error = few.share(few.descriptors_least() - 1).unwrap_err();
        assert!(error.problem.contains("open files") && error.remedy.contains("ulimit -n"), "{error}");
        assert!(few.share(few.descriptors()).unwrap().connections == 20_000);
    }

    #[test]
    fn files_and_addresses_have_room() {
        assert!(NEEDS.file_size(1 << 20).is_err() && NEEDS.file_size(libc::RLIM_INFINITY).is_ok());
        assert!(NEEDS.address_space(1 << 30).is_err() && NEEDS.address_space(libc::RLIM_INFINITY).is_ok());
    }
}
