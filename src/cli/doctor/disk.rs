//! Where the data goes: file system, direct I/O, mount options, the device and its cache, room.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::host::Host;
use super::{Check, Fix, manual};
use crate::boot::disk::{place_journals, remedy, try_direct_io};
use crate::log::journal::sizing::Chosen;
use crate::rt;

const ROOM_POOR: u64 = 10 << 30;
const ROOM_BAD: u64 = 1 << 30;

pub fn checks(host: &Host, data_dir: &Path, shards: usize) -> Vec<Check> {
    let Some(existing) = existing(data_dir) else {
        let fix = manual("Choose a directory that exists, or whose parent does, with --data-dir.");
        return vec![Check::bad("data directory", format!("{} is nowhere", data_dir.display()), fix)];
    };
    let mut checks = Vec::new();
    checks.extend(file_system(host, &existing));
    checks.push(direct_io(&existing));
    checks.extend(room(&existing, shards));
    if let Some(device) = device(&existing, host) {
        checks.extend(of_device(host, &device));
    }
    checks
}

/// The directory, or the nearest above it that exists.
fn existing(data_dir: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(data_dir).ok()?;
    absolute.ancestors().find(|p| p.is_dir()).map(Path::to_owned)
}

/// The mount that holds a path: its mount point, type and options.
pub fn mount_of(mounts: &str, path: &Path) -> Option<(String, String, String)> {
    let mut best: Option<(String, String, String)> = None;
    for line in mounts.lines() {
        let mut fields = line.split_whitespace().skip(1);
        let (Some(point), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let longer = best.as_ref().is_none_or(|(known, _, _)| point.len() >= known.len());
        if path.starts_with(point) && longer {
            best = Some((point.to_owned(), kind.to_owned(), options.to_owned()));
        }
    }
    best
}

fn file_system(host: &Host, path: &Path) -> Option<Check> {
    let (point, kind, options) = mount_of(&host.read("/proc/self/mounts")?, path)?;
    Some(judge_mount(&point, &kind, &options))
}

pub fn judge_mount(point: &str, kind: &str, options: &str) -> Check {
    const NAME: &str = "file system";
    let found = format!("{kind} on {point} ({options})");
    let set = |option: &str| options.split(',').any(|o| o == option);
    if ["nobarrier", "barrier=0"].iter().any(|o| set(o)) {
        let fix = manual(format!(
            "Mount {point} without nobarrier: with it, an fdatasync does not reach the disk."
        ));
        return Check::bad(NAME, found, fix);
    }
    if kind == "ext4" && set("data=journal") {
        let fix = manual(format!("Mount {point} without data=journal: it writes everything twice."));
        return Check::poor(NAME, found, fix);
    }
    match kind {
        "ext4" | "xfs" => Check::good(NAME, format!("{kind} on {point}")),
        "tmpfs" | "ramfs" => Check::bad(
            NAME,
            found,
            manual("What is in memory is lost with the machine: put --data-dir on a disk."),
        ),
        "overlay" | "aufs" => Check::poor(
            NAME,
            found,
            manual("Put --data-dir on a volume (`-v`): a container's own layer is slow and goes with it."),
        ),
        k if k.starts_with("nfs") || k == "cifs" || k.starts_with("fuse") || k == "9p" => Check::bad(
            NAME,
            found,
            manual("Put --data-dir on a local disk with ext4 or xfs: here an fdatasync promises less."),
        ),
        _ => Check::poor(NAME, found, manual("ext4 and xfs are what is tested.")),
    }
}

/// Tried on the broker's own lock file, where there is one: a full disk has no room for another.
fn direct_io(path: &Path) -> Check {
    const NAME: &str = "direct I/O";
    let (lock, probe) = (path.join("lock"), path.join(format!(".weir-doctor-{}", std::process::id())));
    let tried = if lock.is_file() {
        try_direct_io(&lock)
    } else {
        let made = OpenOptions::new().write(true).create_new(true).open(&probe);
        let tried = made.and_then(|_| try_direct_io(&probe));
        let _ = fs::remove_file(&probe);
        tried
    };
    match tried {
        Ok(()) => Check::good(NAME, "works"),
        Err(e) => {
            let fix = remedy(&e)
                .unwrap_or("Choose a directory on ext4 or xfs that this user may write to, with --data-dir.");
            Check::bad(NAME, format!("{}: {e}", path.display()), manual(fix))
        }
    }
}

fn room(path: &Path, shards: usize) -> Option<Check> {
    const NAME: &str = "free space";
    let free = rt::fs::space(path).ok()?.usable;
    let found = format!("{:.1} GiB", free as f64 / f64::from(1 << 30));
    let fix = || manual("Free some, or choose a larger disk with --data-dir.");
    Some(match place_journals(path, shards, Chosen::default()) {
        Err(refused) => Check::bad(NAME, format!("{found}; {}", refused.problem), manual(refused.remedy)),
        Ok(_) if free >= ROOM_POOR => Check::good(NAME, found),
        Ok(_) if free >= ROOM_BAD => Check::poor(NAME, found, fix()),
        Ok(_) => Check::bad(NAME, found, fix()),
    })
}

/// The directory in /sys of the disk that holds a path: the whole disk, where the file system is on a part of it.
fn device(path: &Path, host: &Host) -> Option<String> {
    let id = fs::metadata(path).ok()?.dev();
    let (major, minor) = (libc::major(id), libc::minor(id));
    let part = format!("/sys/dev/block/{major}:{minor}");
    [part.clone(), format!("{part}/..")].into_iter().find(|d| host.exists(&format!("{d}/queue")))
}

pub fn of_device(host: &Host, device: &str) -> Vec<Check> {
    let queue = |file: &str| host.read(&format!("{device}/queue/{file}"));
    let mut checks = Vec::new();
    match queue("write_cache").as_deref() {
        Some("write through") => {
            checks.push(Check::good("disk write cache", "write through: a flush costs little"));
        }
        Some("write back") => checks.push(Check::good(
            "disk write cache",
            "write back: every commit waits for a flush; a disk with power-loss protection flushes in microseconds",
        )),
        _ => {}
    }
    if queue("rotational").as_deref() == Some("1") {
        let fix = manual("A commit on a spinning disk takes a turn of it: use an SSD for --data-dir.");
        checks.push(Check::poor("disk", "rotational, or a virtual disk that says so", fix));
    }
    if let Some(schedulers) = queue("scheduler") {
        let chosen = schedulers.split(['[', ']']).nth(1).unwrap_or(schedulers.as_str()).to_owned();
        let offers_none = schedulers.split_whitespace().any(|s| s.trim_matches(['[', ']']) == "none");
        checks.push(match chosen.as_str() {
            "bfq" | "kyber" | "cfq" if offers_none => {
                let files = vec![format!("{device}/queue/scheduler")];
                let found = format!("{chosen} reorders what was ordered on purpose");
                Check::poor("I/O scheduler", found, Fix::Write { files, value: "none".to_owned() })
            }
            _ => Check::good("I/O scheduler", chosen),
        });
    }
    checks
}
