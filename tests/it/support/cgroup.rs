//! Memory cgroups for brokers. Needs root and a memory cgroup (v1 or v2) that may be written to.

use std::path::PathBuf;
use std::time::Duration;

use super::unique;

/// A memory cgroup of its own; `None`, said aloud, where this process may not make one.
pub struct MemoryGroup {
    path: PathBuf,
    v1: bool,
}

impl MemoryGroup {
    pub fn new(mib: u64) -> Option<Self> {
        let v1 = PathBuf::from("/sys/fs/cgroup/memory").is_dir();
        let root = if v1 { "/sys/fs/cgroup/memory" } else { "/sys/fs/cgroup" };
        let group = Self { path: PathBuf::from(root).join(unique("weir-it")), v1 };
        let limit = if v1 { "memory.limit_in_bytes" } else { "memory.max" };
        let made = std::fs::create_dir(&group.path)
            .and_then(|()| std::fs::write(group.path.join(limit), (mib << 20).to_string()));
        if let Err(e) = made {
            eprintln!("skipped: no memory cgroup can be made here: {e}");
            return None;
        }
        // Without swap, where that is counted: what does not fit must not be hidden there.
        let _ = std::fs::write(group.path.join("memory.swap.max"), "0");
        Some(group)
    }

    /// The file that lists its processes.
    pub fn processes(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// The most that was in use, in MiB, with what the kernel could have taken back.
    pub fn highest(&self) -> u64 {
        let file = if self.v1 { "memory.max_usage_in_bytes" } else { "memory.peak" };
        let text = std::fs::read_to_string(self.path.join(file)).unwrap_or_default();
        text.trim().parse::<u64>().unwrap_or(0) >> 20
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // The last process may take a moment to leave.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
