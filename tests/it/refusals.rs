//! The kernel, or whoever configures it, refuses something: the broker works all the same, or does not start and says in
//! one line what is refused and in the next what to do. It never panics, never aborts, never hangs.
//!
//! `WEIR_REFUSALS=1` denies every system call of the list, with either error, and prints what came of it.

use std::fs::Permissions;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::support::batch::encoded;
use crate::support::broker::{end_with_this_thread, free_port, http_get, needs_own_broker, run, serve, weir};
use crate::support::calls::{create, produce, read_from};
use crate::support::sandbox::{Call, deny, hide, is_root, limit};
use crate::support::{Wire, eventually};

const WRITING: u32 = (libc::O_WRONLY | libc::O_RDWR) as u32;

/// What the loader, or the language's own start, needs before a line of ours has run: a program that does not start.
#[rustfmt::skip]
const BEFORE_US: &[Call] = &[
    Call::all("mmap", libc::SYS_mmap), Call::all("mprotect", libc::SYS_mprotect),
    Call::all("openat", libc::SYS_openat), Call::all("read", libc::SYS_read), Call::all("poll", libc::SYS_poll),
    Call::all("rt_sigaction", libc::SYS_rt_sigaction), Call::all("futex", libc::SYS_futex), Call::all("exit_group", libc::SYS_exit_group),
    Call::all("arch_prctl", libc::SYS_arch_prctl), Call::all("newfstatat", libc::SYS_newfstatat), Call::all("fstat", libc::SYS_fstat),
    Call::all("pread64", libc::SYS_pread64), Call::all("close", libc::SYS_close),
    // It ends with 1, and cannot say why.
    Call::all("write", libc::SYS_write),
];

/// What a broker calls, as strace shows it; of those that the loader needs as well, what only we do with them.
#[rustfmt::skip]
const CALLS: &[Call] = &[
    Call::all("io_uring_setup", libc::SYS_io_uring_setup), Call::all("io_uring_enter", libc::SYS_io_uring_enter),
    Call::all("io_uring_register", libc::SYS_io_uring_register), Call::all("eventfd2", libc::SYS_eventfd2),
    Call::with("mmap, shared", libc::SYS_mmap, 3, libc::MAP_SHARED as u32),
    Call::with("openat, to write", libc::SYS_openat, 2, WRITING), Call::with("openat, to create", libc::SYS_openat, 2, libc::O_CREAT as u32),
    Call::with("openat, directory", libc::SYS_openat, 2, libc::O_DIRECTORY as u32), Call::with("openat, direct", libc::SYS_openat, 2, libc::O_DIRECT as u32),
    Call::all("clone3", libc::SYS_clone3), Call::all("clone", libc::SYS_clone),
    Call::all("sched_setaffinity", libc::SYS_sched_setaffinity), Call::all("sched_getaffinity", libc::SYS_sched_getaffinity),
    Call::all("sched_yield", libc::SYS_sched_yield), Call::all("fallocate", libc::SYS_fallocate), Call::all("ftruncate", libc::SYS_ftruncate),
    Call::all("fsync", libc::SYS_fsync), Call::all("fdatasync", libc::SYS_fdatasync), Call::all("flock", libc::SYS_flock),
    Call::all("pwrite64", libc::SYS_pwrite64),
    Call::all("writev", libc::SYS_writev), Call::all("lseek", libc::SYS_lseek), Call::all("statx", libc::SYS_statx),
    Call::all("statfs", libc::SYS_statfs), Call::all("getdents64", libc::SYS_getdents64),
    #[cfg(target_arch = "x86_64")] Call::all("mkdir", libc::SYS_mkdir),
    #[cfg(target_arch = "x86_64")] Call::all("rename", libc::SYS_rename),
    #[cfg(target_arch = "x86_64")] Call::all("unlink", libc::SYS_unlink),
    #[cfg(target_arch = "x86_64")] Call::all("rmdir", libc::SYS_rmdir),
    #[cfg(target_arch = "x86_64")] Call::all("readlink", libc::SYS_readlink),
    #[cfg(target_arch = "x86_64")] Call::all("access", libc::SYS_access),
    #[cfg(target_arch = "x86_64")] Call::all("epoll_wait", libc::SYS_epoll_wait),
    Call::all("mkdirat", libc::SYS_mkdirat), Call::all("unlinkat", libc::SYS_unlinkat), Call::all("renameat2", libc::SYS_renameat2),
    Call::all("fcntl", libc::SYS_fcntl), Call::with("fcntl, copy", libc::SYS_fcntl, 1, 0x400), Call::all("ioctl", libc::SYS_ioctl),
    Call::all("socket", libc::SYS_socket), Call::all("bind", libc::SYS_bind),
    Call::all("listen", libc::SYS_listen), Call::all("accept4", libc::SYS_accept4), Call::all("connect", libc::SYS_connect),
    Call::all("setsockopt", libc::SYS_setsockopt), Call::all("getsockname", libc::SYS_getsockname),
    Call::all("getpeername", libc::SYS_getpeername), Call::all("recvfrom", libc::SYS_recvfrom), Call::all("sendto", libc::SYS_sendto),
    Call::all("sendmsg", libc::SYS_sendmsg), Call::all("shutdown", libc::SYS_shutdown), Call::all("socketpair", libc::SYS_socketpair),
    Call::all("epoll_create1", libc::SYS_epoll_create1), Call::all("epoll_ctl", libc::SYS_epoll_ctl),
    Call::all("epoll_pwait", libc::SYS_epoll_pwait),
    Call::all("getrandom", libc::SYS_getrandom), Call::all("prlimit64", libc::SYS_prlimit64), Call::all("brk", libc::SYS_brk),
    Call::all("munmap", libc::SYS_munmap), Call::all("mremap", libc::SYS_mremap), Call::all("madvise", libc::SYS_madvise),
    Call::all("sigaltstack", libc::SYS_sigaltstack), Call::all("rt_sigprocmask", libc::SYS_rt_sigprocmask),
    Call::all("clock_nanosleep", libc::SYS_clock_nanosleep), Call::all("gettid", libc::SYS_gettid), Call::all("getpid", libc::SYS_getpid),
    Call::with("prctl, name", libc::SYS_prctl, 0, 8), Call::all("set_robust_list", libc::SYS_set_robust_list), Call::all("rseq", libc::SYS_rseq),
    Call::all("uname", libc::SYS_uname), Call::all("getcwd", libc::SYS_getcwd), Call::all("sysinfo", libc::SYS_sysinfo),
    Call::all("membarrier", libc::SYS_membarrier), Call::all("restart_syscall", libc::SYS_restart_syscall),
];

#[derive(Debug, PartialEq)]
enum Came {
    Works,
    /// It did not start, and this is what it said.
    Refused(String),
    /// Something else, told at length.
    Wrong(String),
}

struct Started {
    child: Child,
    kafka: SocketAddr,
    admin: SocketAddr,
    dir: tempfile::TempDir,
}

impl Started {
    fn new(change: impl FnOnce(&mut Command)) -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory"), 2, change)
    }

    /// Where anybody may make a directory.
    fn in_open_directory(shards: usize, change: impl FnOnce(&mut Command)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).expect("permissions");
        Self::start_in(dir, shards, change)
    }

    fn start_in(dir: tempfile::TempDir, shards: usize, change: impl FnOnce(&mut Command)) -> Self {
        let (kafka, admin) = (free_port(), free_port());
        let mut command = serve(&dir.path().join("data"), kafka, admin, shards);
        let log = std::fs::File::create(dir.path().join("log")).expect("a file");
        command.args(["--shutdown-timeout", "5s"]).stdout(Stdio::null()).stderr(log);
        change(&mut command);
        let child = end_with_this_thread(&mut command).spawn().expect("a child");
        Started { child, kafka, admin, dir }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Until it is ready, or has ended.
    fn wait(&mut self) -> Option<ExitStatus> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return Some(status);
            }
            if http_get(self.admin, "/health/ready").is_ok_and(|(code, _)| code == 200) {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// Creates a topic, produces, reads back, asks for metrics, and stops.
    fn use_and_stop(mut self) -> Came {
        if let Some(status) = self.wait() {
            return self.judge_refusal(status);
        }
        let kafka = self.kafka;
        let used = std::thread::spawn(move || {
            let mut wire = Wire::connect(kafka);
            let topic = create(&mut wire, "asked", 2, &[]);
            produce(&mut wire, &topic, encoded(["a", "b"]));
            read_from(&mut wire, &topic, 0, 0).len()
        });
        let used = used.join();
        let measured = http_get(self.admin, "/metrics").is_ok_and(|(code, _)| code == 200);
        // SAFETY: plain kill(2) on a child that has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        let began = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("wait") {
                Some(status) => break status,
                None if began.elapsed() > Duration::from_secs(20) => {
                    let _ = self.child.kill();
                    return Came::Wrong(format!("it does not stop; its log:\n{}", self.log()));
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        match (used, measured, status.code()) {
            (Ok(2), true, Some(0)) if !self.log().contains("panicked") => Came::Works,
            (used, ..) => Came::Wrong(format!(
                "records {used:?}, metrics {measured}, {status}; its log:\n{}",
                self.log()
            )),
        }
    }

    fn judge_refusal(&self, status: ExitStatus) -> Came {
        let log = self.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("weir: ")).collect();
        match lines.as_slice() {
            [line] if status.code() == Some(1) && !log.contains("panicked") && log.contains("\n  ") => {
                Came::Refused((*line).to_owned())
            }
            _ => Came::Wrong(format!("it ends: {status}, signal {:?}; its log:\n{log}", status.signal())),
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn asked(call: Call, errno: i32) -> Came {
    let change = |command: &mut Command| {
        deny(command, &[call], errno);
    };
    Started::new(change).use_and_stop()
}

fn call(name: &str) -> Call {
    *CALLS.iter().find(|call| call.name == name).expect("in the list")
}

fn refuses(came: &Came, says: &str) {
    assert!(matches!(came, Came::Refused(line) if line.contains(says)), "{says}: {came:?}");
}

#[test]
fn a_refused_system_call_is_named_or_done_without() {
    if needs_own_broker() {
        return;
    }
    for (name, errno) in
        [("sched_setaffinity", libc::EPERM), ("statx", libc::ENOSYS), ("madvise", libc::EPERM)]
    {
        assert_eq!(asked(call(name), errno), Came::Works, "{name}");
    }
    for (name, errno, says) in [
        ("io_uring_setup", libc::EPERM, "io_uring_setup"),
        ("io_uring_enter", libc::ENOSYS, "io_uring_enter"),
        ("io_uring_register", libc::EPERM, "io_uring_register"),
        ("fallocate", libc::EPERM, "fallocate"),
        ("accept4", libc::EPERM, "accept4"),
        ("eventfd2", libc::ENOSYS, "eventfd"),
    ] {
        refuses(&asked(call(name), errno), says);
    }
}

#[test]
fn every_system_call_may_be_refused() {
    if std::env::var("WEIR_REFUSALS").is_err() || needs_own_broker() {
        return;
    }
    let mut wrong = Vec::new();
    for call in CALLS {
        for (errno, error) in [(libc::EPERM, "EPERM"), (libc::ENOSYS, "ENOSYS")] {
            let came = asked(*call, errno);
            let told = match &came {
                Came::Works => "works".to_owned(),
                Came::Refused(line) => line.clone(),
                Came::Wrong(what) => format!("WRONG: {}", what.replace('\n', " | ")),
            };
            println!("{} | {error} | {told}", call.name);
            if matches!(came, Came::Wrong(_)) {
                wrong.push((call.name, error));
            }
        }
    }
    for call in BEFORE_US {
        let came = asked(*call, libc::EPERM);
        println!("{} | EPERM | before main: {}", call.name, format!("{came:?}").replace("\\n", " | "));
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

fn limited_to(resource: libc::__rlimit_resource_t, to: u64) -> impl FnOnce(&mut Command) {
    move |command| _ = limit(command, resource, to)
}

#[test]
fn limits_are_told_before_they_are_felt() {
    if needs_own_broker() {
        return;
    }
    let limited = |resource, to| Started::new(limited_to(resource, to)).use_and_stop();
    refuses(&limited(libc::RLIMIT_NOFILE, 100), "open files");
    refuses(&limited(libc::RLIMIT_FSIZE, 1 << 20), "files may not grow");
    refuses(&limited(libc::RLIMIT_AS, 1 << 30), "address space");
    assert_eq!(limited(libc::RLIMIT_NOFILE, 512), Came::Works);
    assert_eq!(limited(libc::RLIMIT_CORE, 0), Came::Works);
}

#[test]
fn clients_that_hold_every_descriptor_leave_health_and_producers_alone() {
    if needs_own_broker() {
        return;
    }
    let mut started = Started::new(limited_to(libc::RLIMIT_NOFILE, 512));
    assert_eq!(started.wait(), None, "{}", started.log());
    let mut wire = Wire::connect(started.kafka);
    let topic = create(&mut wire, "crowded", 8, &[]);
    let crowd: Vec<_> = (0..600).map(|_| std::net::TcpStream::connect(started.kafka)).collect();
    let idle: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(started.admin)).collect();
    for n in 0..8 {
        assert_eq!(http_get(started.admin, "/health/ready").expect("an answer").0, 200);
        produce(&mut wire, &topic, encoded([format!("{n}")]));
    }
    let rows = read_from(&mut wire, &topic, 0, 0);
    assert_eq!(rows.len(), 8, "{}", started.log());
    assert!(started.log().contains("are open (max.connections)"));
    // Somebody new comes in as soon as somebody goes.
    drop((crowd, idle));
    eventually("a connection", Duration::from_secs(10), || {
        Wire::try_connect(started.kafka).is_ok_and(|mut wire| {
            wire.send_rude(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff])
                && wire.receive_frame().is_some()
        })
    });
}

#[test]
fn output_that_cannot_be_written_is_dropped() {
    if needs_own_broker() {
        return;
    }
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let to_nobody = || {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        writer
    };
    let (mut unread, stuffed) = std::io::pipe().expect("a pipe");
    type Change = Box<dyn FnOnce(&mut Command)>;
    let cases: [(&str, Change); 5] = [
        ("a full disk", Box::new(move |c| _ = c.stdout(full()).stderr(full()))),
        ("nobody reads", Box::new(move |c| _ = c.stdout(to_nobody()).stderr(to_nobody()))),
        ("closed", Box::new(close_streams)),
        (
            "a pipe that nobody empties",
            Box::new(move |c| {
                stuff(&stuffed);
                c.args(["--log-level", "trace"]).stdout(stuffed.try_clone().expect("a copy")).stderr(stuffed);
            }),
        ),
        ("no home, no path", Box::new(|c| _ = c.env_clear().env("RUST_BACKTRACE", "1"))),
    ];
    for (name, change) in cases {
        assert_eq!(Started::new(change).use_and_stop(), Came::Works, "{name}");
    }
    let mut text = Vec::new();
    unread.read_to_end(&mut text).expect("what is in the pipe");
}

/// Fills a pipe to its brim.
fn stuff(pipe: &std::io::PipeWriter) {
    use std::os::fd::AsRawFd;
    // SAFETY: plain system calls on an open descriptor and readable bytes.
    unsafe {
        libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK);
        while libc::write(pipe.as_raw_fd(), [b'x'; 4096].as_ptr().cast(), 4096) > 0 {}
        libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, 0);
    }
}

fn close_streams(command: &mut Command) {
    // SAFETY: plain system calls between fork and exec.
    unsafe {
        command.pre_exec(|| {
            (0..3).for_each(|fd| _ = libc::close(fd));
            Ok(())
        })
    };
}

#[test]
fn a_machine_that_says_little_about_itself_is_enough() {
    if needs_own_broker() {
        return;
    }
    if !is_root() {
        eprintln!("skipped: only root hides /sys and /proc from a child");
        return;
    }
    for path in [c"/sys", c"/proc"] {
        assert_eq!(Started::new(|c| _ = hide(c, path)).use_and_stop(), Came::Works, "without {path:?}");
    }
}

fn data_dir(command: &Command) -> PathBuf {
    let data = command.get_args().skip_while(|arg| *arg != "--data-dir").nth(1);
    data.map(PathBuf::from).expect("a data directory")
}

/// The command, as a user who is nobody, with this much locked memory; the program is where nobody can reach it.
fn as_nobody(program: &Path, arguments: &Command, locked_kib: u64) -> Command {
    let mut command = Command::new(program);
    let log = data_dir(arguments).with_file_name("log");
    command.stdout(Stdio::null()).stderr(std::fs::File::create(log).expect("a log"));
    command.args(arguments.get_args()).env_clear().uid(65_533).gid(65_533).stdin(Stdio::null());
    limit(&mut command, libc::RLIMIT_MEMLOCK, locked_kib << 10);
    command
}

#[test]
fn locked_memory_is_measured_alike_by_serve_and_by_doctor() {
    if needs_own_broker() {
        return;
    }
    if !is_root() {
        eprintln!("skipped: only root becomes somebody who has no locked memory in use yet");
        return;
    }
    let home = tempfile::tempdir().expect("a directory");
    let open =
        |path: &Path| std::fs::set_permissions(path, Permissions::from_mode(0o755)).expect("permissions");
    let program = home.path().join("weir");
    std::fs::copy(weir().get_program(), &program).expect("a copy");
    open(home.path());
    open(&program);
    for (locked_kib, always) in [(8192, true), (512, false)] {
        let started = Started::in_open_directory(12, |command| {
            *command = as_nobody(&program, command, locked_kib);
        });
        let came = started.use_and_stop();
        let mut doctor = weir();
        doctor.args(["doctor", "--shards", "12", "--data-dir"]).arg(home.path());
        let told = run(&mut as_nobody(&program, &doctor, locked_kib));
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let line = told.lines().find(|line| line.starts_with("locked memory")).unwrap_or_default();
        match came {
            Came::Works => assert!(line.contains(" ok "), "{told}"),
            came => {
                assert!(!always, "{came:?}");
                refuses(&came, "locked memory");
                assert!(line.contains("PROBLEM"), "{told}");
            }
        }
    }
}

#[test]
fn a_directory_of_somebody_elses_is_told() {
    if needs_own_broker() || !is_root() {
        return;
    }
    let home = tempfile::tempdir().expect("a directory");
    let program = home.path().join("weir");
    std::fs::copy(weir().get_program(), &program).expect("a copy");
    std::fs::set_permissions(home.path(), Permissions::from_mode(0o755)).expect("permissions");
    for read_only in [false, true] {
        let mut started = Started::in_open_directory(2, |command| {
            let data = data_dir(command);
            std::fs::create_dir(&data).expect("a directory");
            if read_only {
                // What is the user's own, but for the directory itself.
                std::fs::write(data.join("lock"), "").expect("a file");
                std::fs::set_permissions(data.join("lock"), Permissions::from_mode(0o666))
                    .expect("permissions");
                std::fs::write(data.join("format"), "weir 1\n").expect("a file");
            }
            *command = as_nobody(&program, command, 8192);
        });
        let status = started.wait().expect("it cannot write there");
        refuses(&started.judge_refusal(status), "Permission denied");
    }
}
