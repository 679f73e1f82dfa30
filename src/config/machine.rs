//! What this process may use of the machine: cores and memory, as containers limit them.

use std::fs;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    pub cores: usize,
    pub memory: u64,
}

/// What a shard needs of the memory; with less for each core there are fewer shards than cores.
const MEMORY_PER_SHARD: u64 = 64 << 20;
const MOST_SHARDS: usize = 256;
/// Assumed when /proc cannot be read: small enough to be safe anywhere.
const FALLBACK_MEMORY: u64 = 1 << 30;

impl Machine {
    /// How many shards suit it.
    pub fn shards(&self) -> usize {
        let fit = usize::try_from(self.memory / MEMORY_PER_SHARD).unwrap_or(usize::MAX);
        self.cores.min(fit).clamp(1, MOST_SHARDS)
    }

    pub fn here() -> Machine {
        // Follows the affinity mask and the cgroup's CPU quota.
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let total = fs::read_to_string("/proc/meminfo").ok().and_then(|t| mem_total(&t));
        let total = total.unwrap_or(FALLBACK_MEMORY);
        Machine { cores, memory: cgroup_limit().map_or(total, |limit| limit.min(total)) }
    }
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The smallest memory limit on the way from this process's cgroup to the root, v2 and v1.
fn cgroup_limit() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let v2 = own.lines().find_map(|l| l.strip_prefix("0::"));
    let v1 = own.lines().find_map(|l| l.split_once(":memory:").map(|(_, path)| path));
    let v2 = v2.and_then(|path| smallest(Path::new("/sys/fs/cgroup"), path, "memory.max"));
    let v1 = v1.and_then(|path| smallest(Path::new("/sys/fs/cgroup/memory"), path, "memory.limit_in_bytes"));
    [v2, v1].into_iter().flatten().min()
}

fn smallest(root: &Path, cgroup: &str, file: &str) -> Option<u64> {
    let mut directory: PathBuf = root.join(cgroup.trim_start_matches('/'));
    let mut limit: Option<u64> = None;
    loop {
        // `max` and a missing file both mean that this level sets no limit.
        let here = fs::read_to_string(directory.join(file)).ok().and_then(|t| t.trim().parse().ok());
        limit = [limit, here].into_iter().flatten().min();
        if directory == root || !directory.pop() || !directory.starts_with(root) {
            return limit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_meminfo() {
        assert_eq!(mem_total("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!(mem_total("MemFree: 1 kB\n"), None);
        assert_eq!(mem_total("MemTotal: lots kB\n"), None);
    }

    #[test]
    fn the_tightest_cgroup_on_the_path_counts() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(root.path().join("a/memory.max"), "1000\n").unwrap();
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        assert_eq!(smallest(root.path(), "/a/b", "memory.max"), Some(1000));
        fs::write(inner.join("memory.max"), "400\n").unwrap();
        assert_eq!(smallest(root.path(), "/a/b", "memory.max"), Some(400));
        assert_eq!(smallest(root.path(), "/", "memory.max"), None);
    }

    #[test]
    fn this_machine_has_something() {
        let here = Machine::here();
        assert!(here.cores >= 1 && here.memory > 1 << 20, "{here:?}");
    }
}
