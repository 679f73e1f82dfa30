//! Machines that the checks have to tell apart.

use std::fs;
use std::path::Path;

use super::host::Host;
use super::{Check, Fix, State, disk, kernel, limits};
use crate::boot::needs::{Limits, Needs};
use crate::rt::Refused;

const NEEDS: Needs = Needs { shards: 2, journal_files: 16, connections: 20_000, budgets: 256 << 20 };

fn refused(errno: i32) -> Result<(), Refused> {
    Err(Refused { what: "io_uring_setup", error: std::io::Error::from_raw_os_error(errno) })
}

fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let host = Host::at(dir.path());
    (dir, host)
}

fn find<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|c| c.name == name).unwrap_or_else(|| panic!("no check {name} in {checks:?}"))
}

#[test]
fn kernels_are_told_by_their_version() {
    let state = |release: &str| {
        let (_dir, host) = host(&[("proc/sys/kernel/osrelease", release)]);
        find(&kernel::checks(&host, &NEEDS), "kernel").state
    };
    let states = ["6.18.44-fc", "6.1.0", "5.15.0-91", "5.10.200", "4.19", ""].map(state);
    use State::{Bad, Good, Poor};
    assert_eq!(states, [Good, Good, Bad, Bad, Bad, Poor]);
}

#[test]
fn a_forbidden_io_uring_says_who_forbids_it() {
    let (_dir, switched_off) = host(&[("proc/sys/kernel/io_uring_disabled", "2\n")]);
    let check = kernel::io_uring(&switched_off, &NEEDS, refused(libc::EPERM));
    assert_eq!(check.fix.unwrap().words(), "sysctl -w kernel.io_uring_disabled='0'");
    let (_dir, in_container) = host(&[("proc/sys/kernel/io_uring_disabled", "0\n")]);
    let check = kernel::io_uring(&in_container, &NEEDS, refused(libc::EPERM));
    assert!(check.state == State::Bad && check.fix.unwrap().words().contains("seccomp"));
}

#[test]
fn slow_clocks_governors_swap_and_queues_can_be_set() {
    let clock = "sys/devices/system/clocksource/clocksource0";
    let (_dir, host) = host(&[
        (&format!("{clock}/current_clocksource"), "hpet"),
        (&format!("{clock}/available_clocksource"), "tsc hpet acpi_pm"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance"),
        ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave"),
        ("sys/devices/system/cpu/cpufreq/policy0", ""),
        ("proc/swaps", "Filename Type Size\n/dev/sda2 partition 1"),
        ("proc/sys/vm/swappiness", "60"),
        ("proc/sys/net/core/somaxconn", "128"),
        ("sys/devices/system/node/node0/x", ""),
        ("sys/devices/system/node/node1/x", ""),
    ]);
    let checks = kernel::checks(&host, &NEEDS);
    let words = |name| find(&checks, name).fix.as_ref().map(Fix::words).unwrap();
    assert!(words("clock").starts_with("echo 'tsc' > /sys/"));
    assert_eq!(
        words("CPU governor"),
        "echo 'performance' > /sys/devices/system/cpu/cpu1/cpufreq/scaling_governor"
    );
    assert_eq!(words("swap"), "sysctl -w vm.swappiness='1'");
    assert_eq!(words("accept queue"), "sysctl -w net.core.somaxconn='4096'");
    assert_eq!(find(&checks, "NUMA").state, State::Poor);
}

#[test]
fn limits_are_measured_against_shards() {
    let none = libc::RLIM_INFINITY;
    let low = Limits { descriptors: none, locked_memory: 512 << 10, file_size: none, address_space: none };
    let locked = |exempt, rings| limits::locked(&NEEDS, &low, exempt, rings);
    assert_eq!(locked(false, Ok(())).unwrap().state, State::Good);
    assert_eq!(locked(true, Ok(())).unwrap().state, State::Good);
    let short = locked(false, refused(libc::ENOMEM)).unwrap();
    assert!(short.state == State::Bad && short.fix.unwrap().words().contains("ulimit -l 1792"));
    assert_eq!(locked(false, refused(libc::EPERM)), None);
    assert_eq!(
        [100, 1024, 4096, 65_536].map(|n| limits::descriptors(&NEEDS, n).state),
        [State::Bad, State::Poor, State::Poor, State::Good]
    );
    assert_eq!(limits::memory(1 << 30, 4).state, State::Good);
    assert_eq!(limits::memory(1 << 30, 5).state, State::Poor);
    let quota = |max: &str, stat: &str| {
        let (_dir, host) = host(&[
            ("proc/self/cgroup", "0::/box\n"),
            ("sys/fs/cgroup/box/cpu.max", max),
            ("sys/fs/cgroup/box/cpu.stat", stat),
        ]);
        find(&limits::checks(&host, &NEEDS), "CPU quota").state
    };
    assert_eq!(quota("max 100000", ""), State::Good);
    assert_eq!(quota("200000 100000", "nr_throttled 0"), State::Good);
    assert_eq!(quota("200000 100000", "nr_throttled 7"), State::Poor);
    assert_eq!(quota("150000 100000", "nr_throttled 0"), State::Poor);
}

#[test]
fn the_mount_that_counts_is_the_nearest_and_barriers_must_hold() {
    let mounts = "/dev/a / ext4 rw 0 0\n/dev/b /data xfs rw,noatime 0 0\ntmpfs /database tmpfs rw 0 0\n";
    let kind = |path: &str| disk::mount_of(mounts, Path::new(path)).unwrap().1;
    assert_eq!([kind("/data/weir"), kind("/database/x"), kind("/dat")], ["xfs", "tmpfs", "ext4"]);
    let state = |kind, options| disk::judge_mount("/data", kind, options).state;
    assert_eq!(state("ext4", "rw,relatime"), State::Good);
    assert_eq!(state("ext4", "rw,nobarrier"), State::Bad);
    assert_eq!(state("xfs", "rw,barrier=0"), State::Bad);
    assert_eq!(state("ext4", "rw,data=journal"), State::Poor);
    let others = ["tmpfs", "nfs4", "fuse.sshfs", "overlay", "btrfs"].map(|k| state(k, "rw"));
    assert_eq!(others, [State::Bad, State::Bad, State::Bad, State::Poor, State::Poor]);
}

#[test]
fn disks_are_judged_by_their_queues() {
    let queue = |rotational: &str, scheduler: &str| {
        let (_dir, host) = host(&[
            ("sys/dev/block/8:0/queue/rotational", rotational),
            ("sys/dev/block/8:0/queue/scheduler", scheduler),
            ("sys/dev/block/8:0/queue/write_cache", "write back\n"),
        ]);
        disk::of_device(&host, "/sys/dev/block/8:0")
    };
    let fine = queue("0\n", "[none] mq-deadline bfq\n");
    assert!(fine.len() == 2 && fine.iter().all(|c| c.state == State::Good), "{fine:?}");
    let poor = queue("1\n", "none mq-deadline [bfq]\n");
    assert_eq!(find(&poor, "disk").state, State::Poor);
    let fix = find(&poor, "I/O scheduler").fix.as_ref().unwrap().words();
    assert_eq!(fix, "echo 'none' > /sys/dev/block/8:0/queue/scheduler");
}

#[test]
fn this_machine_is_examined_without_a_panic_and_the_missing_directory_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let checks = disk::checks(&Host::here(), &dir.path().join("not/there/yet"), 1);
    assert!(checks.iter().any(|c| c.name == "direct I/O"), "{checks:?}");
    assert!(fs::read_dir(dir.path()).unwrap().next().is_none());
}
