//! What the machine must grant before a shard starts. Each check either passes or says what is wrong and
//! what to do about it.
//!
//! The data directory carries two files of ours: `lock`, held with flock for as long as the process
//! lives and naming its pid, and `format`, the version of the layout below it:
//!
//! ```text
//! <data>/lock      "12345     \n"   the holder's pid, for people; the flock is what counts
//! <data>/format    "weir 1\n"       written once, when the directory is first used
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::log::is_full;
use crate::log::journal::sizing::Sizing;
use crate::rt;

use super::errors::StartError;
use super::needs::{Limits, Needs, Share};
use super::{disk, rehearsal};

/// The layout that this build writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// What the checks obtained; dropping it gives it all back.
#[derive(Debug)]
pub struct Prepared {
    pub lock: DataLock,
    /// How large the journals' files are on this file system, and how many.
    pub journals: Sizing,
    pub kafka: TcpListener,
    pub cluster: TcpListener,
    pub admin: Option<TcpListener>,
    pub needs: Needs,
    pub limits: Limits,
    pub share: Share,
}

/// Every check, cheapest and least invasive first.
pub fn run(config: &Config) -> Result<Prepared, StartError> {
    let (needs, limits) = (Needs::of(config), Limits::raised());
    let share = needs.share(limits.descriptors)?;
    needs.file_size(limits.file_size)?;
    needs.address_space(limits.address_space)?;
    rt::rings_available(1).map_err(|refused| needs.explain(&refused, &limits))?;
    let lock = DataLock::acquire(&config.data_dir)?;
    disk::check_direct_io(&config.data_dir, &config.data_dir.join("lock"))?;
    let journals = disk::size_journals(config)?;
    rehearsal::run(&config.data_dir).map_err(|refused| needs.explain(&refused, &limits))?;
    let kafka = bind(config.listen, "--listen")?;
    let admin = config.admin.map(|address| bind(address, "--admin")).transpose()?;
    let cluster = bind_cluster(config)?;
    Ok(Prepared { lock, journals, kafka, cluster, admin, needs, limits, share })
}

/// The data directory, held by this process alone.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataLock {
    /// Creates the directory if need be, locks it, and checks that this build can read it.
    pub fn acquire(data_dir: &Path) -> Result<DataLock, StartError> {
        let failed = |what: &str, path: &Path, error: io::Error| {
            let problem = format!("cannot {what} {}: {error}", path.display());
            let remedy = disk::remedy(&error);
            StartError::new(problem, remedy.unwrap_or("Choose another directory with --data-dir."))
        };
        rt::fs::create_dir_all_durable(data_dir).map_err(|e| failed("create", data_dir, e))?;
        refuse_foreign(data_dir)?;
        let path = data_dir.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| failed("open", &path, e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(locked(data_dir, &mut file)),
            Err(fs::TryLockError::Error(e)) => return Err(failed("lock", &path, e)),
        }
        // In the place of the one before, which a full disk has room for. It is for people: that it is locked counts.
        let holder = format!("{:<10}\n", std::process::id());
        let written =
            file.write_all_at(holder.as_bytes(), 0).and_then(|()| file.set_len(holder.len() as u64));
        match written {
            Err(e) if !is_full(&e) => return Err(failed("write", &path, e)),
            Err(e) => log::warn!("{}: {e}; it names no process", path.display()),
            Ok(()) => {}
        }
        check_format(data_dir)?;
        Ok(DataLock { _file: file })
    }
}

fn locked(data_dir: &Path, file: &mut File) -> StartError {
    let mut text = String::new();
    let _ = file.take(32).read_to_string(&mut text);
    let holder = match text.trim().parse::<u32>() {
        Ok(pid) => format!("process {pid}"),
        Err(_) => "another process".to_owned(),
    };
    StartError::new(
        format!("{} is in use by {holder}", data_dir.display()),
        "Stop that process, or choose another directory with --data-dir.",
    )
}

/// A directory full of something else is more likely a mistyped path than a place for topics.
fn refuse_foreign(data_dir: &Path) -> Result<(), StartError> {
    let ours = ["lock", "format", "meta", "journal", "topics"];
    let Ok(entries) = fs::read_dir(data_dir) else { return Ok(()) };
    let names: Vec<String> =
        entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    if names.iter().any(|n| ours.contains(&n.as_str())) {
        return Ok(());
    }
    match names.iter().find(|n| *n != "lost+found" && !n.starts_with('.')) {
        None => Ok(()),
        Some(other) => Err(StartError::new(
            format!("{} holds other files ({other}) and no data of Weir's", data_dir.display()),
            "Choose an empty or new directory with --data-dir.",
        )),
    }
}

fn check_format(data_dir: &Path) -> Result<(), StartError> {
    let path = data_dir.join("format");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return write_format(data_dir, &path).map_err(|e| {
                StartError::new(
                    format!("cannot write {}: {e}", path.display()),
                    disk::remedy(&e).unwrap_or("Choose another directory with --data-dir."),
                )
            });
        }
        Err(e) => {
            let problem = format!("cannot read {}: {e}", path.display());
            let remedy = disk::remedy(&e).unwrap_or("Check the disk and the file's permissions.");
            return Err(StartError::new(problem, remedy));
        }
    };
    match text.strip_prefix("weir ").and_then(|v| v.trim().parse::<u32>().ok()) {
        Some(version) if version <= FORMAT => Ok(()),
        Some(version) => Err(StartError::new(
            format!(
                "{} was written by a newer Weir (format {version}; this build reads up to {FORMAT})",
                data_dir.display()
            ),
            "Start the newer version, or choose another directory with --data-dir.",
        )),
        None => Err(StartError::new(
            format!("{} does not say which format the data is in", path.display()),
            "Restore the file (\"weir 1\") if this is Weir's data, or choose another directory with --data-dir.",
        )),
    }
}

fn write_format(data_dir: &Path, path: &Path) -> io::Result<()> {
    let temporary: PathBuf = data_dir.join("format.tmp");
    let mut file = File::create(&temporary)?;
    writeln!(file, "weir {FORMAT}")?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(data_dir)?.sync_all()
}

/// How long the kernel may take to close the sockets of a broker that has just ended: its ring holds them.
const CLOSING: std::time::Duration = std::time::Duration::from_secs(2);

/// Listens; a port that is taken gets a moment to become free.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let began = std::time::Instant::now();
    loop {
        match TcpListener::bind(address) {
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse && began.elapsed() < CLOSING => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            bound => return bound,
        }
    }
}

/// Binds the listener for other brokers: where nobody has said, at the port after the clients' or, if that is taken, any.
fn bind_cluster(config: &Config) -> Result<TcpListener, StartError> {
    if let Some(address) = config.cluster_listen {
        return bind(address, "--cluster-listen");
    }
    let ip = config.listen.ip();
    let next = config.listen.port().checked_add(1).filter(|next| *next > 1);
    match next.and_then(|port| TcpListener::bind((ip, port)).ok()) {
        Some(listener) => Ok(listener),
        None => bind((ip, 0).into(), "--cluster-listen"),
    }
}

/// Binds an address that the setting `flag` names.
pub fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener, StartError> {
    listen(address).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!(
                    "Stop what listens there (`ss -ltnp 'sport = :{}'` shows it), or choose another with {flag}.",
                    address.port()
                )
            }
            io::ErrorKind::PermissionDenied => {
                format!("Ports below 1024 need root or CAP_NET_BIND_SERVICE; choose another with {flag}.")
            }
            io::ErrorKind::AddrNotAvailable => {
                format!("No interface of this machine has that address; choose another with {flag}.")
            }
            _ => format!("Choose another address with {flag}."),
        };
        StartError::new(format!("cannot listen on {address}: {error}"), remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_holder_who_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let held = DataLock::acquire(&data).unwrap();
        let error = DataLock::acquire(&data).unwrap_err();
        assert!(error.problem.ends_with(&format!("is in use by process {}", std::process::id())), "{error}");
        drop(held);
        DataLock::acquire(&data).unwrap();
    }

    #[test]
    fn other_formats_and_other_peoples_files_are_refused() {
        let check = |name: &str, text: &str| {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(name), text).unwrap();
            DataLock::acquire(dir.path()).map(|_| ()).map_err(|e| e.problem)
        };
        assert_eq!(check("format", "weir 1\n"), Ok(()));
        assert_eq!(check(".hidden", ""), Ok(()));
        assert!(check("format", "weir 2\n").unwrap_err().contains("newer Weir (format 2;"));
        assert!(check("format", "\0\0").unwrap_err().contains("does not say which format"));
        assert!(check("thesis.tex", "").unwrap_err().contains("holds other files (thesis.tex)"));
    }

    #[test]
    fn a_taken_port_is_named_with_its_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = bind(taken.local_addr().unwrap(), "--listen").unwrap_err();
        assert!(error.remedy.contains("--listen") && error.problem.contains("in use"), "{error}");
    }
}
