//! `weir-perf probe`: what this machine costs before any broker does anything.
//!
//! A produce that is acknowledged from disk cannot be faster than one loopback round trip plus one commit.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use clap::Args;
use hdrhistogram::Histogram;
use serde_json::json;

use crate::Outcome;

const BLOCK: usize = 4096;
const FILE_BYTES: usize = 16 << 20;

#[derive(Args, Debug)]
pub struct ProbeArgs {
    /// Directory on the disk to measure
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Round trips and commits to measure
    #[arg(long, default_value_t = 2000)]
    count: usize,
    #[arg(long)]
    json: bool,
}

/// Medians and 99th percentiles, in microseconds.
pub struct Probe {
    /// Both ends on one core.
    pub same_core: [u64; 2],
    /// The ends on two cores: each message wakes the other core.
    pub two_cores: [u64; 2],
    pub commit: [u64; 2],
}

pub fn run(args: &ProbeArgs) -> Outcome<()> {
    let probe = measure(&args.dir, args.count)?;
    let rows = [
        ("same_core", "loopback round trip of 100 B, one core", probe.same_core),
        ("two_cores", "loopback round trip of 100 B, two cores", probe.two_cores),
        ("commit", "commit: 4 KiB O_DIRECT write + fdatasync", probe.commit),
    ];
    if args.json {
        let value: serde_json::Map<_, _> = rows
            .iter()
            .map(|(name, _, [p50, p99])| (format!("{name}_us"), json!({"p50": p50, "p99": p99})))
            .collect();
        println!("{:#}", serde_json::Value::from(value));
        return Ok(());
    }
    for (_, what, [p50, p99]) in rows {
        println!("{what:<42} p50 {p50:>4} µs  p99 {p99:>4} µs");
    }
    let [low, high] = [probe.same_core[0], probe.two_cores[0]].map(|trip| trip + probe.commit[0]);
    println!("a durable produce takes at least {low} to {high} µs here");
    Ok(())
}

pub fn measure(dir: &Path, count: usize) -> Outcome<Probe> {
    let count = count.max(10);
    let trips = |cores| round_trips(count, cores).map_err(|e| format!("loopback: {e}"));
    let (same_core, two_cores) = (trips([0, 0])?, trips([0, 1])?);
    let path = dir.join(format!(".weir-perf-probe-{}", std::process::id()));
    let commit = commits(&path, count);
    let _ = fs::remove_file(&path);
    let commit = commit.map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(Probe { same_core, two_cores, commit })
}

/// Round trips between two threads, each on one of these cores, counted among those allowed.
fn round_trips(count: usize, cores: [usize; 2]) -> std::io::Result<[u64; 2]> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let echo = thread::spawn(move || {
        pin(cores[0]);
        let mut message = [0; 100];
        while server.read_exact(&mut message).is_ok() && server.write_all(&message).is_ok() {}
    });
    let caller = thread::spawn(move || {
        pin(cores[1]);
        let mut message = [7; 100];
        time(count, |_| {
            client.write_all(&message)?;
            client.read_exact(&mut message)
        })
    });
    let times = caller.join().unwrap_or_else(|_| Err(std::io::Error::other("the caller panicked")));
    let _ = echo.join();
    times
}

/// Keeps this thread on the nth of the cores it may use; without so many, on the last.
fn pin(nth: usize) {
    // SAFETY: the set is plain bits, and both calls are told its true size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let size = std::mem::size_of_val(&set);
        if libc::sched_getaffinity(0, size, &mut set) != 0 {
            return;
        }
        let allowed = (0..libc::CPU_SETSIZE as usize).filter(|core| libc::CPU_ISSET(*core, &set));
        let Some(core) = allowed.take(nth + 1).last() else { return };
        libc::CPU_ZERO(&mut set);
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size, &set);
    }
}

/// One block after another into a file whose blocks exist already, as a journal does it.
fn commits(path: &Path, count: usize) -> std::io::Result<[u64; 2]> {
    fs::write(path, vec![0; FILE_BYTES])?;
    let file = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path)?;
    file.sync_all()?;
    let buffer = vec![7u8; 2 * BLOCK];
    let start = buffer.as_ptr().align_offset(BLOCK);
    let block = &buffer[start..start + BLOCK];
    time(count, |i| {
        file.write_all_at(block, (i * BLOCK % FILE_BYTES) as u64)?;
        file.sync_data()
    })
}

/// Median and 99th percentile of `count` runs in microseconds, after a tenth as many that do not count.
fn time(count: usize, mut run: impl FnMut(usize) -> std::io::Result<()>) -> std::io::Result<[u64; 2]> {
    let mut times = Histogram::<u64>::new(3).expect("a constant precision is valid");
    for i in 0..count + count / 10 {
        let start = Instant::now();
        run(i)?;
        if i >= count / 10 {
            times.saturating_record(start.elapsed().as_micros() as u64);
        }
    }
    Ok([times.value_at_quantile(0.5), times.value_at_quantile(0.99)])
}
