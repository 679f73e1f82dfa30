//! The kernel and the processor: version, io_uring, clock, frequency, NUMA, swap, the accept queue.

use super::host::Host;
use super::{Check, Fix, manual};
use crate::boot::needs::{Limits, Needs};
use crate::rt::{self, Refused};

/// Sockets and files rely on what this version's io_uring does.
const NEEDED: (u32, u32) = (6, 1);
const GOVERNORS: &str = "/sys/devices/system/cpu";
const SOMAXCONN: u64 = 1024;

pub fn checks(host: &Host, needs: &Needs) -> Vec<Check> {
    let mut checks = vec![version(host), io_uring(host, needs, rt::rings_available(1))];
    checks.extend(clock(host));
    checks.extend(governor(host));
    checks.extend(numa(host));
    checks.extend(swap(host));
    checks.extend(backlog(host));
    checks
}

fn version(host: &Host) -> Check {
    const NAME: &str = "kernel";
    let release = host.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let found = format!("Linux {release}");
    if release.is_empty() {
        return Check::poor(
            NAME,
            "/proc does not say",
            manual("Mount /proc, so that the kernel can be asked."),
        );
    }
    match version >= NEEDED {
        true => Check::good(NAME, found),
        false => Check::bad(NAME, found, manual(format!("Run Linux {}.{} or newer.", NEEDED.0, NEEDED.1))),
    }
}

pub fn io_uring(host: &Host, needs: &Needs, available: Result<(), Refused>) -> Check {
    const NAME: &str = "io_uring";
    const SWITCH: &str = "/proc/sys/kernel/io_uring_disabled";
    let Err(refused) = available else { return Check::good(NAME, "allowed") };
    let fix = match (host.number(SWITCH), refused.error.raw_os_error()) {
        (Some(1 | 2), Some(libc::EPERM)) => {
            Fix::Write { files: vec![SWITCH.to_owned()], value: "0".to_owned() }
        }
        _ => manual(needs.explain(&refused, &Limits::raised()).remedy),
    };
    Check::bad(NAME, format!("not allowed: {refused}"), fix)
}

/// Every request reads the clock several times; from a register that costs 20 ns, from a device a microsecond.
fn clock(host: &Host) -> Option<Check> {
    const NAME: &str = "clock";
    const CURRENT: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    const AVAILABLE: &str = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
    let source = host.read(CURRENT)?;
    if ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"].contains(&source.as_str()) {
        return Some(Check::good(NAME, source));
    }
    let found = format!("{source}, which is slow to read");
    let offered = host.read(AVAILABLE).unwrap_or_default();
    let fix = match offered.split_whitespace().find(|s| ["tsc", "kvm-clock"].contains(s)) {
        Some(better) => Fix::Write { files: vec![CURRENT.to_owned()], value: better.to_owned() },
        None => manual("Give the machine a TSC clock source; a hypervisor has to pass it on."),
    };
    Some(Check::poor(NAME, found, fix))
}

fn governor(host: &Host) -> Option<Check> {
    const NAME: &str = "CPU governor";
    let file = |cpu: &String| format!("{GOVERNORS}/{cpu}/cpufreq/scaling_governor");
    let set: Vec<(String, String)> = host
        .names(GOVERNORS, "cpu")
        .iter()
        .map(file)
        .filter_map(|file| host.read(&file).map(|governor| (file, governor)))
        .collect();
    if set.is_empty() {
        return Some(Check::good(NAME, "the machine, or its hypervisor, sets the frequency"));
    }
    let slow: Vec<&(String, String)> = set.iter().filter(|(_, governor)| governor != "performance").collect();
    let Some((_, governor)) = slow.first() else { return Some(Check::good(NAME, "performance")) };
    let found = format!("{governor} on {} of {} CPUs", slow.len(), set.len());
    let files = slow.iter().map(|(file, _)| file.clone()).collect();
    Some(Check::poor(NAME, found, Fix::Write { files, value: "performance".to_owned() }))
}

fn numa(host: &Host) -> Option<Check> {
    const NAME: &str = "NUMA";
    let nodes = host.names("/sys/devices/system/node", "node").len();
    (nodes > 1).then(|| {
        let fix = manual(
            "Memory of another node is slower: run one broker a node under `numactl --cpunodebind=N --membind=N`.",
        );
        Check::poor(NAME, format!("{nodes} nodes"), fix)
    })
}

/// A shard that waits for a page from disk keeps all its partitions waiting.
fn swap(host: &Host) -> Option<Check> {
    const NAME: &str = "swap";
    const SWAPPINESS: &str = "/proc/sys/vm/swappiness";
    let devices = host.read("/proc/swaps")?.lines().count().saturating_sub(1);
    if devices == 0 {
        return Some(Check::good(NAME, "none"));
    }
    let swappiness = host.number(SWAPPINESS)?;
    if swappiness <= 1 {
        return Some(Check::good(NAME, format!("{devices} in use, swappiness {swappiness}")));
    }
    let fix = Fix::Write { files: vec![SWAPPINESS.to_owned()], value: "1".to_owned() };
    Some(Check::poor(NAME, format!("{devices} in use, swappiness {swappiness}"), fix))
}

fn backlog(host: &Host) -> Option<Check> {
    const NAME: &str = "accept queue";
    const FILE: &str = "/proc/sys/net/core/somaxconn";
    let length = host.number(FILE)?;
    if length >= SOMAXCONN {
        return Some(Check::good(NAME, format!("{length} connections")));
    }
    let fix = Fix::Write { files: vec![FILE.to_owned()], value: "4096".to_owned() };
    Some(Check::poor(NAME, format!("{length} connections: a burst of clients is turned away"), fix))
}
