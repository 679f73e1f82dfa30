//! Faults in the way of file operations, for tests: of operations of one kind on files whose paths contain a word, so
//! many times. Only what goes through [`super::File`] and [`super::fs`] meets them.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use super::errors::Op;

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The kernel's number of an error.
    Error(i32),
    /// A write ends after so many bytes.
    Short(usize),
    /// The operation begins that much later.
    Slow(Duration),
}

struct Injected {
    op: Op,
    root: std::path::PathBuf,
    word: &'static str,
    fault: Fault,
    left: AtomicUsize,
    met: AtomicUsize,
}

static FAULTS: Mutex<Vec<Arc<Injected>>> = Mutex::new(Vec::new());

/// A fault that stands in the way until this is dropped.
pub struct Standing(Arc<Injected>);

impl Standing {
    /// How often it was met.
    pub fn met(&self) -> usize {
        self.0.met.load(Ordering::SeqCst)
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        FAULTS.lock().unwrap_or_else(PoisonError::into_inner).retain(|f| !Arc::ptr_eq(f, &self.0));
    }
}

/// Of files below `root` whose names contain `word`, the next `times` operations.
pub fn inject(root: &Path, word: &'static str, op: Op, fault: Fault, times: usize) -> Standing {
    let (left, met) = (AtomicUsize::new(times), AtomicUsize::new(0));
    let injected = Arc::new(Injected { op, root: root.to_owned(), word, fault, left, met });
    FAULTS.lock().unwrap_or_else(PoisonError::into_inner).push(injected.clone());
    Standing(injected)
}

/// What stands in the way of an operation.
pub(super) fn of(path: &Path, op: Op) -> Option<Fault> {
    let faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    let fits = |f: &&Arc<Injected>| {
        let name = path.file_name().is_some_and(|name| name.to_string_lossy().contains(f.word));
        f.op == op && name && path.starts_with(&f.root)
    };
    let fault = faults.iter().filter(fits).find(|f| {
        f.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    })?;
    fault.met.fetch_add(1, Ordering::SeqCst);
    Some(fault.fault)
}

/// As [`of`], where only errors and sleeps make sense; for blocking calls.
pub(super) fn check(path: &Path, op: Op) -> io::Result<()> {
    match of(path, op) {
        Some(Fault::Error(number)) => Err(io::Error::from_raw_os_error(number)),
        Some(Fault::Slow(time)) => {
            std::thread::sleep(time);
            Ok(())
        }
        Some(Fault::Short(_)) | None => Ok(()),
    }
}
