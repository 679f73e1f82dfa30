//! A real `weir serve` process: free ports, a directory of its own, its log shown when a test fails.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::cgroup::MemoryGroup;

const READY_WITHIN: Duration = Duration::from_secs(30);

/// How a broker is started. `..Options::default()` is a fresh directory and two shards.
pub struct Options {
    pub shards: usize,
    pub args: Vec<&'static str>,
    /// Where the data goes, if not into a directory that goes with the broker.
    pub data: Option<PathBuf>,
    /// The file that lists a cgroup's processes, for a broker that runs in it.
    pub cgroup: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options { shards: 2, args: Vec::new(), data: None, cgroup: None }
    }
}

/// A running broker that this test owns. Dropping it kills the process.
pub struct Broker {
    child: Child,
    home: Home,
    pub kafka: SocketAddr,
    pub admin: SocketAddr,
    options: Options,
}

/// The directory that outlives one process: restarts keep it.
struct Home {
    dir: TempDir,
    data: PathBuf,
    starts: u32,
    /// Where other brokers reach it, in all of its lives: most of a cluster that moves at once does not find itself again.
    cluster: SocketAddr,
    /// Of brokers whose tests name none, where `WEIR_TEST_CGROUP_MIB` asks for one.
    group: Option<MemoryGroup>,
}

impl Home {
    fn data(&self) -> PathBuf {
        self.data.clone()
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join(format!("stderr-{}", self.starts))
    }

    fn spawn(&self, kafka: SocketAddr, admin: SocketAddr, options: &Options) -> Child {
        let mut command = serve_at(&self.data(), kafka, admin, self.cluster, options.shards);
        command.args(&options.args);
        command.stdout(Stdio::null()).stderr(std::fs::File::create(self.log()).expect("a log file"));
        let group = self.group.as_ref().map(MemoryGroup::processes);
        if let Some(cgroup) = options.cgroup.as_ref().or(group.as_ref()) {
            join_cgroup(&mut command, cgroup);
        }
        spawn(command)
    }
}

impl Broker {
    pub fn start() -> Broker {
        Broker::start_with(Options::default())
    }

    pub fn start_with(options: Options) -> Broker {
        let dir = tempfile::Builder::new().prefix("weir-it-").tempdir().expect("a temporary directory");
        let data = options.data.clone().unwrap_or_else(|| dir.path().join("data"));
        let mib = std::env::var("WEIR_TEST_CGROUP_MIB").ok().map(|mib| mib.parse().expect("a number of MiB"));
        let group = mib.filter(|_| options.cgroup.is_none()).and_then(MemoryGroup::new);
        Broker::launch(Home { dir, data, starts: 0, cluster: free_port(), group }, options)
    }

    fn launch(mut home: Home, options: Options) -> Broker {
        home.starts += 1;
        // A port that was free a moment ago may be taken by the time the broker binds it: try again then.
        for attempt in 0.. {
            let (kafka, admin) = (free_port(), free_port());
            home.cluster = free_port();
            let mut child = home.spawn(kafka, admin, &options);
            if wait_ready(&mut child, admin) {
                return Broker { child, home, kafka, admin, options };
            }
            let log = std::fs::read_to_string(home.log()).unwrap_or_default();
            let _ = child.kill();
            let status = child.wait();
            let taken = log.to_lowercase().contains("in use");
            assert!(taken && attempt < 5, "the broker did not become ready ({status:?}); its log:\n{log}");
        }
        unreachable!()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.home.data()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.log()).unwrap_or_default()
    }

    /// SIGKILL, as a crash: the directory stays as it was at that instant.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill -9");
        self.child.wait().expect("wait");
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: plain kill(2) on a child that has not been waited for, so the pid is still ours.
        let rc = unsafe { libc::kill(self.child.id() as i32, signal) };
        assert_eq!(rc, 0, "kill({signal}): {}", std::io::Error::last_os_error());
    }

    /// Waits for the process to end by itself; panics with its log when it does not.
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(start.elapsed() < limit, "still running after {limit:?}; its log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM, and the exit that must follow.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(libc::SIGTERM);
        self.wait_exit(Duration::from_secs(20))
    }

    /// Starts again on the same directory and the same ports. The old process must have ended.
    pub fn restart(&mut self) {
        self.restart_with(|_| {});
    }

    pub fn restart_with(&mut self, change: impl FnOnce(&mut Options)) {
        change(&mut self.options);
        self.start_again();
        self.await_ready();
    }

    pub fn await_ready(&mut self) {
        let ready = wait_ready(&mut self.child, self.admin);
        assert!(ready, "the broker did not start again; its log:\n{}", self.log());
    }

    /// Starts again and kills it before it can have become ready, or soon after.
    pub fn crash_while_starting(&mut self, after: Duration) {
        self.start_again();
        std::thread::sleep(after);
        self.kill();
    }

    /// Starts the process, which may wait for others before it is ready.
    pub fn start_again(&mut self) {
        assert!(self.child.try_wait().expect("wait").is_some(), "restart of a running broker");
        self.home.starts += 1;
        self.child = self.home.spawn(self.kafka, self.admin, &self.options);
    }

    /// A field of /proc/PID/status in KiB, such as `VmRSS`.
    pub fn memory_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a live process");
        let line = status.lines().find(|line| line.starts_with(field)).expect("the field");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// The broker took no harm: it still runs, still answers, and nothing in it panicked.
    pub fn assert_healthy(&mut self) {
        if let Some(status) = self.child.try_wait().expect("wait") {
            panic!("the broker ended: {status} (signal {:?}); its log:\n{}", status.signal(), self.log());
        }
        assert!(!self.log().contains("panicked at"), "the broker panicked; its log:\n{}", self.log());
        super::Wire::connect(self.kafka).api_versions();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the log of broker {} ---\n{}", self.child.id(), tail(&self.log(), 60));
        }
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// `weir serve` on the given directory and addresses, not started yet.
pub fn serve(data: &Path, kafka: SocketAddr, admin: SocketAddr, shards: usize) -> Command {
    // The port after the clients' is likely to be another test's.
    serve_at(data, kafka, admin, SocketAddr::from(([127, 0, 0, 1], 0)), shards)
}

fn serve_at(
    data: &Path,
    kafka: SocketAddr,
    admin: SocketAddr,
    cluster: SocketAddr,
    shards: usize,
) -> Command {
    let mut command = weir();
    command.args(["serve", "--data-dir"]).arg(data);
    command.args(["--listen", &kafka.to_string(), "--admin", &admin.to_string()]);
    command.args(["--cluster-listen", &cluster.to_string()]);
    command.args(["--shards", &shards.to_string()]);
    command
}

/// The binary under test, in an environment without settings of the developer's own.
pub fn weir() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WEIR_")) {
        command.env_remove(name);
    }
    command.env("RUST_BACKTRACE", "1").stdin(Stdio::null());
    command
}

/// Starts `weir serve` where it must refuse: its exit code and what it says.
pub fn refused(command: &mut Command, code: i32, says: &[&str]) {
    let output = run(command);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {text}");
    for word in says {
        assert!(text.contains(word), "{command:?} should say {word:?}: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

/// Runs to the end, which must come by itself.
pub fn run(command: &mut Command) -> Output {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the weir binary starts");
    let started = Instant::now();
    while child.try_wait().expect("wait").is_none() {
        if started.elapsed() > Duration::from_secs(20) {
            let _ = child.kill();
            panic!("{command:?} did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("output")
}

/// A port that nothing listens on, below those that the kernel gives to outgoing connections: a broker that is
/// started again finds it free.
pub fn free_port() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let offset = (std::process::id() as u16).wrapping_mul(97).wrapping_add(step) % 15_000;
        let addr = SocketAddr::from(([127, 0, 0, 1], 16_000 + offset));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}

fn wait_ready(child: &mut Child, admin: SocketAddr) -> bool {
    let start = Instant::now();
    while start.elapsed() < READY_WITHIN {
        if child.try_wait().expect("wait").is_some() {
            return false;
        }
        if http_get(admin, "/health/ready").is_ok_and(|(code, _)| code == 200) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// One HTTP/1.1 GET: the status code and the body.
pub fn http_get(addr: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let code = reply.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = reply.split_once("\r\n\r\n").map(|(_, body)| body.to_string()).unwrap_or_default();
    code.map(|code| (code, body)).ok_or_else(|| std::io::Error::other("not an HTTP reply"))
}

/// A family of the metrics page, all of its lines summed up.
pub fn metric_total(admin: SocketAddr, family: &str) -> std::io::Result<f64> {
    let (_, text) = http_get(admin, "/metrics")?;
    let of_family = |l: &&str| l.strip_prefix(family).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let lines = text.lines().filter(of_family);
    Ok(lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

/// The child is in the cgroup from its first page on: what it may use is what it finds at its start.
fn join_cgroup(command: &mut Command, processes: &Path) {
    let file = std::fs::OpenOptions::new().write(true).open(processes).expect("a cgroup");
    let file = std::sync::Arc::new(file);
    // SAFETY: the hook makes one system call between fork and exec, which says "this process", and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            let mut file = &*file;
            file.write_all(b"0")
        });
    }
}

/// The child is killed when the thread that starts it ends, however that comes.
pub fn end_with_this_thread(command: &mut Command) -> &mut Command {
    // SAFETY: the hook makes one system call between fork and exec and allocates nothing.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    }
}

/// Starts a child that dies with this process, however that ends: one thread that never ends starts them all.
fn spawn(mut command: Command) -> Child {
    type Job = (Command, Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, reply) in queue {
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(jobs)
    });
    end_with_this_thread(&mut command);
    let (reply, child) = channel();
    spawner.lock().expect("the spawner").send((command, reply)).expect("the spawner");
    child.recv().expect("the spawner").expect("the weir binary starts")
}

/// The broker that tests share: `WEIR_TEST_BROKER`, or one of our own for the whole run.
pub fn shared() -> SocketAddr {
    static SHARED: OnceLock<(SocketAddr, Option<Mutex<Broker>>)> = OnceLock::new();
    let (addr, broker) = SHARED.get_or_init(|| match external() {
        Some(addr) => (addr, None),
        None => {
            // Groups need not wait for members here: a test that is about the wait starts its own broker.
            let args = vec!["--group-initial-rebalance-delay", "100ms"];
            let broker = Broker::start_with(Options { args, ..Options::default() });
            // A static is never dropped: the directory is removed on the way out instead.
            let _ = SHARED_HOME.set(broker.home.dir.path().to_path_buf());
            // SAFETY: registers a plain function that touches only its own static.
            unsafe { libc::atexit(remove_shared_home) };
            (broker.kafka, Some(Mutex::new(broker)))
        }
    });
    if let Some(broker) = broker {
        let mut broker = broker.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Ok(Some(status)) = broker.child.try_wait() {
            panic!("the shared broker ended: {status}; its log:\n{}", tail(&broker.log(), 100));
        }
    }
    *addr
}

static SHARED_HOME: OnceLock<PathBuf> = OnceLock::new();

extern "C" fn remove_shared_home() {
    if let Some(home) = SHARED_HOME.get() {
        let _ = std::fs::remove_dir_all(home);
    }
}

/// The broker named by `WEIR_TEST_BROKER`, if one is.
pub fn external() -> Option<SocketAddr> {
    std::env::var("WEIR_TEST_BROKER").ok().map(|addr| addr.parse().expect("WEIR_TEST_BROKER is ADDR:PORT"))
}

/// True, with a note, when the run is against a broker that is not ours: the test needs its own process.
pub fn needs_own_broker() -> bool {
    let skip = external().is_some();
    if skip {
        eprintln!("skipped: needs a broker of its own, and WEIR_TEST_BROKER is set");
    }
    skip
}
