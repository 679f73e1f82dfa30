//! What this process may have: locked memory, descriptors, cores and memory of its cgroup.

use super::host::{self, Host};
use super::{Check, manual};
use crate::boot::errors::StartError;
use crate::boot::needs::{Limits, Needs, may_lock_any_memory, raise_descriptors};
use crate::rt::{self, Refused};

/// Memory that a shard should have.
const MEMORY_PER_SHARD: u64 = 256 << 20;

pub fn checks(host: &Host, needs: &Needs) -> Vec<Check> {
    let limits = Limits::raised();
    let mut checks = Vec::new();
    checks.extend(locked(needs, &limits, may_lock_any_memory(), rt::rings_available(needs.rings())));
    checks.push(descriptors(needs, limits.descriptors));
    checks.extend(short("file size", needs.file_size(limits.file_size)));
    checks.extend(short("address space", needs.address_space(limits.address_space)));
    checks.push(memory(host::memory(), needs.shards));
    checks.extend(cpu_quota(host, needs.shards));
    checks
}

fn amount(bytes: u64) -> String {
    match bytes {
        libc::RLIM_INFINITY => "unlimited".to_owned(),
        b if b >= 1 << 30 => format!("{:.1} GiB", b as f64 / f64::from(1 << 30)),
        b if b >= 1 << 20 => format!("{} MiB", b >> 20),
        b => format!("{} KiB", b >> 10),
    }
}

/// A limit in the words of who does not start by it.
fn short(name: &'static str, outcome: Result<(), StartError>) -> Option<Check> {
    let error = outcome.err()?;
    Some(Check::bad(name, error.problem, manual(error.remedy)))
}

/// As many rings as a broker has were made at once: what came of it counts, for kernels differ in what they count.
/// Whatever else stood in their way is another check's.
pub fn locked(needs: &Needs, limits: &Limits, exempt: bool, rings: Result<(), Refused>) -> Option<Check> {
    const NAME: &str = "locked memory";
    match rings {
        Ok(()) if exempt => Some(Check::good(NAME, "unlimited (CAP_IPC_LOCK)")),
        Ok(()) => {
            let found =
                format!("{}: enough for the rings of {} shards", amount(limits.locked_memory), needs.shards);
            Some(Check::good(NAME, found))
        }
        Err(refused) if refused.error.raw_os_error() == Some(libc::ENOMEM) => {
            short(NAME, Err(needs.explain(&refused, limits)))
        }
        Err(_) => None,
    }
}

pub fn descriptors(needs: &Needs, limit: u64) -> Check {
    const NAME: &str = "open files";
    let share = match needs.share(limit) {
        Ok(share) => share,
        Err(error) => return Check::bad(NAME, error.problem, manual(error.remedy)),
    };
    let found = format!(
        "{limit}: {} client connections, {} open segments a shard",
        share.connections, share.segments
    );
    match limit >= needs.descriptors() {
        true => Check::good(NAME, found),
        false => Check::poor(NAME, found, manual(raise_descriptors(needs.descriptors()) + ".")),
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
