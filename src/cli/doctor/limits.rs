//! What this process may have: locked memory, descriptors, cores and memory of its cgroup.

use super::host::{self, Host};
use super::{Check, manual};

/// Locked memory that one shard's rings may need.
const MEMLOCK_PER_SHARD: u64 = 512 << 10;
/// Descriptors below which connections and segments get in each other's way.
const DESCRIPTORS: u64 = 65_536;
const DESCRIPTORS_LEAST: u64 = 4_096;
/// Memory that a shard should have.
const MEMORY_PER_SHARD: u64 = 256 << 20;
const CAP_IPC_LOCK: u64 = 1 << 14;

pub fn checks(host: &Host, shards: usize) -> Vec<Check> {
    let mut checks = vec![
        memlock(limit(libc::RLIMIT_MEMLOCK), may_lock_any(host), shards),
        descriptors(limit(libc::RLIMIT_NOFILE)),
        memory(host::memory(), shards),
    ];
    checks.extend(cpu_quota(host, shards));
    checks
}

/// The hard limit, to which the broker raises its own.
fn limit(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one struct that is alive for the call.
    match unsafe { libc::getrlimit(resource, &mut limit) } {
        0 => limit.rlim_max,
        _ => 0,
    }
}

/// The kernel does not count for a process with CAP_IPC_LOCK.
fn may_lock_any(host: &Host) -> bool {
    let status = host.read("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|c| c & CAP_IPC_LOCK != 0)
}

fn amount(bytes: u64) -> String {
    match bytes {
        libc::RLIM_INFINITY => "unlimited".to_owned(),
        b if b >= 1 << 30 => format!("{:.1} GiB", b as f64 / f64::from(1 << 30)),
        b if b >= 1 << 20 => format!("{} MiB", b >> 20),
        b => format!("{} KiB", b >> 10),
    }
}

pub fn memlock(limit: u64, exempt: bool, shards: usize) -> Check {
    const NAME: &str = "locked memory";
    let needed = MEMLOCK_PER_SHARD * shards as u64;
    if exempt {
        return Check::good(NAME, "unlimited (CAP_IPC_LOCK)");
    }
    if limit >= needed {
        return Check::good(NAME, amount(limit));
    }
    let fix = manual(format!(
        "Raise it with `ulimit -l {}`, LimitMEMLOCK= in a systemd unit or `--ulimit memlock=-1` for docker, or run \
         fewer shards with --shards.",
        needed >> 10
    ));
    Check::bad(NAME, format!("{}; {shards} shards need {}", amount(limit), amount(needed)), fix)
}

pub fn descriptors(limit: u64) -> Check {
    const NAME: &str = "open files";
    let fix = || {
        manual(format!(
            "Raise it: LimitNOFILE={DESCRIPTORS} in a systemd unit, `--ulimit nofile={DESCRIPTORS}` for docker, \
             /etc/security/limits.conf for logins."
        ))
    };
    let found = format!("{limit}: each connection and each open segment is one");
    match limit {
        n if n >= DESCRIPTORS => Check::good(NAME, limit.to_string()),
        n if n >= DESCRIPTORS_LEAST => Check::poor(NAME, found, fix()),
        _ => Check::bad(NAME, found, fix()),
    }
}

pub fn memory(bytes: u64, shards: usize) -> Check {
    const NAME: &str = "memory";
    let wanted = MEMORY_PER_SHARD * shards as u64;
    if bytes >= wanted {
        return Check::good(NAME, format!("{} for {shards} shards", amount(bytes)));
    }
    let fix = manual("Give the machine, or the container, more memory, or run fewer shards with --shards.");
    Check::poor(
        NAME,
        format!("{} for {shards} shards; {} would be right", amount(bytes), amount(wanted)),
        fix,
    )
}

/// A quota is a share of time: a shard that has used its share stands still until the period is over.
fn cpu_quota(host: &Host, shards: usize) -> Option<Check> {
    const NAME: &str = "CPU quota";
    let own = host.read("/proc/self/cgroup")?;
    let group = own.lines().find_map(|l| l.strip_prefix("0::"))?;
    let base = format!("/sys/fs/cgroup{}", group.trim_end_matches('/'));
    let max = host.read(&format!("{base}/cpu.max"))?;
    let mut parts = max.split_whitespace();
    let (quota, period) = (parts.next()?.parse::<f64>().ok(), parts.next()?.parse::<f64>().ok()?);
    let Some(quota) = quota else { return Some(Check::good(NAME, "none")) };
    let cores = quota / period;
    let stat = host.read(&format!("{base}/cpu.stat")).unwrap_or_default();
    let throttled =
        stat.lines().find_map(|l| l.strip_prefix("nr_throttled ")).unwrap_or("0").trim().to_owned();
    let found = format!("{cores:.1} cores for {shards} shards, throttled {throttled} times so far");
    if cores >= shards as f64 && throttled == "0" {
        return Some(Check::good(NAME, found));
    }
    let fix = manual(
        "A shard that has used up its quota stands still for the rest of the period. Give the broker whole cores \
         (cpuset, or a quota above the number of shards), or fewer shards with --shards.",
    );
    Some(Check::poor(NAME, found, fix))
}
