//! Small file systems, for what happens on them and when they are full. Mounting needs root: who may not, skips, loudly.

use std::ffi::OsStr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own, mounted from a file or from memory.
pub struct SmallDisk {
    root: tempfile::TempDir,
}

fn did(program: &str, args: &[&OsStr]) -> bool {
    Command::new(program).args(args).output().is_ok_and(|out| out.status.success())
}

impl SmallDisk {
    /// ext4, of so many MiB.
    pub fn new(mib: u64) -> Option<Self> {
        Self::of("ext4", mib)
    }

    /// `kind` is ext4, xfs, btrfs or tmpfs. `None` where this machine cannot make it.
    pub fn of(kind: &str, mib: u64) -> Option<Self> {
        let root = tempfile::Builder::new().prefix("weir-disk-").tempdir().expect("a temporary directory");
        let (image, mount) = (root.path().join("image"), root.path().join("mount"));
        std::fs::create_dir(&mount).expect("a mount point");
        let at = mount.as_os_str();
        let made = if kind == "tmpfs" {
            let size = format!("size={mib}m");
            did(
                "mount",
                &["-t", "tmpfs", "-o", &size, "tmpfs"]
                    .map(OsStr::new)
                    .into_iter()
                    .chain([at])
                    .collect::<Vec<_>>(),
            )
        } else {
            std::fs::File::create(&image).and_then(|f| f.set_len(mib << 20)).expect("an image");
            let options: &[&str] = if kind == "ext4" { &["-q", "-m0"] } else { &["-q"] };
            let make: Vec<&OsStr> = options.iter().map(OsStr::new).chain([image.as_os_str()]).collect();
            did(&format!("mkfs.{kind}"), &make)
                && did("mount", &["-o".as_ref(), "loop".as_ref(), image.as_os_str(), at])
        };
        if !made {
            eprintln!("SKIPPED: no small disk: mkfs.{kind} and mount are needed, and the right to use them");
            return None;
        }
        Some(Self { root })
    }

    pub fn path(&self) -> PathBuf {
        self.root.path().join("mount")
    }

    pub fn free_mib(&self) -> u64 {
        let out = Command::new("df").args(["-k", "--output=avail"]).arg(self.path()).output().expect("df");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.split_whitespace().last().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") >> 10
    }

    /// No write ends until what is returned is dropped; `None` where that cannot be had.
    pub fn freeze(&self) -> Option<Frozen> {
        const FIFREEZE: libc::Ioctl = 0xC004_5877_u32 as libc::Ioctl;
        let dir = std::fs::File::open(self.path()).expect("the mount");
        // SAFETY: takes no memory.
        let rc = unsafe { libc::ioctl(dir.as_raw_fd(), FIFREEZE, 0) };
        if rc != 0 {
            eprintln!("SKIPPED: the file system cannot be frozen: {}", std::io::Error::last_os_error());
            return None;
        }
        Some(Frozen(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

pub struct Frozen(std::fs::File);

impl Drop for Frozen {
    fn drop(&mut self) {
        const FITHAW: libc::Ioctl = 0xC004_5878_u32 as libc::Ioctl;
        // SAFETY: takes no memory.
        unsafe { libc::ioctl(self.0.as_raw_fd(), FITHAW, 0) };
    }
}

/// Writes a file until not another byte fits.
pub fn take_everything(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).expect("a filler");
    let zeros = vec![0; 1 << 20];
    for piece in [1 << 20, 4096, 512, 1] {
        while file.write_all(&zeros[..piece]).is_ok() {}
    }
    let _ = file.sync_all();
}
