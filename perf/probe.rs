//! `weir-perf probe`: what this machine costs before any broker does anything.
//!
//! A produce that is acknowledged from disk cannot be faster than one loopback round trip plus one commit, and no
//! broker moves more bytes than loopback and the disk do: results can be read as a share of these.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::Outcome;
use crate::engine::meter::histogram;
use crate::report::record::print;
use crate::units::{Size, time};

const ALIGN: usize = 4096;
const FILE_BYTES: usize = 64 << 20;
/// Sizes of a commit that are measured, and of the pieces of a stream to disk.
const COMMITS: [usize; 4] = [4 << 10, 64 << 10, 256 << 10, 1 << 20];
const STREAM_PIECE: usize = 1 << 20;
const STREAM: Duration = Duration::from_millis(1500);
/// What a stream into new space may take of the disk.
const NEW_BYTES: usize = 2 << 30;
/// Commits of one size stop after this long.
const COMMIT_TIME: Duration = Duration::from_secs(2);

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

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Times {
    pub p50_us: f64,
    pub p99_us: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    /// Both ends on one core.
    pub same_core: Times,
    /// The ends on two cores: each message wakes the other core.
    pub two_cores: Times,
    pub loopback_mb_per_second: f64,
    /// Over blocks that exist already, as a journal has them.
    pub disk_mb_per_second: f64,
    /// Into a file that grows, as everything that is kept is written once: what bounds a log for long.
    pub disk_new_mb_per_second: f64,
    /// By bytes: an O_DIRECT write into existing blocks, and fdatasync.
    pub commits: Vec<(usize, Times)>,
}

impl Probe {
    pub fn summary(&self) -> String {
        let at = |us: f64| time(us * 1e3);
        let line =
            |what: &str, t: Times| format!("{what:<44} p50 {:>9}  p99 {:>9}\n", at(t.p50_us), at(t.p99_us));
        let mut out = line("loopback round trip of 100 B, one core", self.same_core);
        out += &line("loopback round trip of 100 B, two cores", self.two_cores);
        for (bytes, times) in &self.commits {
            out += &line(&format!("commit: {} direct write + fdatasync", Size(*bytes as u64)), *times);
        }
        let stream = |what: &str, rate: f64| format!("{what:<44} {rate:>9.0} MB/s\n");
        out += &stream("loopback stream, two cores", self.loopback_mb_per_second);
        out += &stream("disk stream, direct 1 MiB writes", self.disk_mb_per_second);
        out += &stream("the same into new space", self.disk_new_mb_per_second);
        if let Some((_, commit)) = self.commits.first() {
            let [low, high] = [self.same_core, self.two_cores].map(|trip| at(trip.p50_us + commit.p50_us));
            out += &format!("a durable produce takes at least {low} to {high} here\n");
        }
        out
    }
}

pub fn run(args: &ProbeArgs) -> Outcome<()> {
    let probe = measure(&args.dir, args.count)?;
    match args.json {
        true => print(&(serde_json::to_string_pretty(&probe).map_err(|e| e.to_string())? + "\n")),
        false => print(&probe.summary()),
    }
}

pub fn measure(dir: &Path, count: usize) -> Outcome<Probe> {
    let count = count.max(10);
    let fail = |e: io::Error| format!("loopback: {e}");
    let same_core = round_trips(count, [0, 0]).map_err(fail)?;
    let two_cores = round_trips(count, [0, 1]).map_err(fail)?;
    let loopback_mb_per_second = stream().map_err(fail)?;
    let path = dir.join(format!(".weir-perf-probe-{}", std::process::id()));
    let (commits, disk_mb_per_second) = with_file(&path, |path| disk(path, count))?;
    let disk_new_mb_per_second = with_file(&path, disk_grow)?;
    Ok(Probe {
        same_core,
        two_cores,
        loopback_mb_per_second,
        disk_mb_per_second,
        disk_new_mb_per_second,
        commits,
    })
}

/// Measures with a file that goes afterwards.
fn with_file<T>(path: &Path, measure: impl FnOnce(&Path) -> io::Result<T>) -> Outcome<T> {
    let measured = measure(path);
    let _ = fs::remove_file(path);
    measured.map_err(|e| format!("{}: {e}", path.display()))
}

fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    Ok((client, server))
}

/// Round trips between two threads, each on one of these cores, counted among those allowed.
fn round_trips(count: usize, cores: [usize; 2]) -> io::Result<Times> {
    let (mut client, mut server) = pair()?;
    let echo = thread::spawn(move || {
        pin(cores[0]);
        let mut message = [0; 100];
        while server.read_exact(&mut message).is_ok() && server.write_all(&message).is_ok() {}
    });
    let caller = thread::spawn(move || {
        pin(cores[1]);
        let mut message = [7; 100];
        repeat(count, Duration::MAX, |_| {
            client.write_all(&message)?;
            client.read_exact(&mut message)
        })
    });
    let times = caller.join().unwrap_or_else(|_| Err(io::Error::other("the caller panicked")));
    let _ = echo.join();
    times
}

/// How much one connection carries from core to core.
fn stream() -> io::Result<f64> {
    let (mut client, mut server) = pair()?;
    let reader = thread::spawn(move || {
        pin(0);
        let mut buffer = vec![0; 256 << 10];
        let (start, mut bytes) = (Instant::now(), 0);
        while let Ok(read @ 1..) = server.read(&mut buffer) {
            bytes += read;
        }
        bytes as f64 / 1e6 / start.elapsed().as_secs_f64()
    });
    let writer = thread::spawn(move || {
        pin(1);
        let buffer = vec![7; 256 << 10];
        let start = Instant::now();
        while start.elapsed() < STREAM && client.write_all(&buffer).is_ok() {}
    });
    let _ = writer.join();
    reader.join().map_err(|_| io::Error::other("the reader panicked"))
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

/// Commits by size, and the rate of a stream, into a file whose blocks exist already, as a journal has it.
fn disk(path: &Path, count: usize) -> io::Result<(Vec<(usize, Times)>, f64)> {
    fs::write(path, vec![0; FILE_BYTES])?;
    let file = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path)?;
    file.sync_all()?;
    let buffer = vec![7u8; STREAM_PIECE.max(COMMITS[COMMITS.len() - 1]) + ALIGN];
    let aligned = aligned(&buffer);
    let mut commits = Vec::new();
    for size in COMMITS {
        let times = repeat(count, COMMIT_TIME, |i| {
            file.write_all_at(&aligned[..size], (i * size % FILE_BYTES) as u64)?;
            file.sync_data()
        })?;
        commits.push((size, times));
    }
    Ok((commits, disk_stream(&file, &aligned[..STREAM_PIECE], usize::MAX, FILE_BYTES)?))
}

/// The rate of a stream into a file that was not there before.
fn disk_grow(path: &Path) -> io::Result<f64> {
    let file = OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_DIRECT).open(path)?;
    let buffer = vec![7u8; STREAM_PIECE + ALIGN];
    disk_stream(&file, &aligned(&buffer)[..STREAM_PIECE], NEW_BYTES, usize::MAX)
}

fn aligned(buffer: &[u8]) -> &[u8] {
    &buffer[buffer.as_ptr().align_offset(ALIGN)..]
}

/// Writes pieces for [`STREAM`] or until it were `most` bytes, round and round in `span` of them.
fn disk_stream(file: &File, piece: &[u8], most: usize, span: usize) -> io::Result<f64> {
    let (start, mut written) = (Instant::now(), 0);
    while start.elapsed() < STREAM && written < most {
        file.write_all_at(piece, (written % span) as u64)?;
        written += piece.len();
    }
    file.sync_data()?;
    Ok(written as f64 / 1e6 / start.elapsed().as_secs_f64())
}

/// Median and 99th percentile of `count` runs, or of as many as fit the time, after a tenth that do not count.
fn repeat(count: usize, most: Duration, mut run: impl FnMut(usize) -> io::Result<()>) -> io::Result<Times> {
    let mut times: Histogram<u64> = histogram();
    let began = Instant::now();
    for i in 0..count + count / 10 {
        let start = Instant::now();
        run(i)?;
        if i >= count / 10 {
            times.saturating_record(start.elapsed().as_nanos() as u64);
        }
        if began.elapsed() > most && times.len() >= 10 {
            break;
        }
    }
    let at = |q| times.value_at_quantile(q) as f64 / 1e3;
    Ok(Times { p50_us: at(0.5), p99_us: at(0.99) })
}
