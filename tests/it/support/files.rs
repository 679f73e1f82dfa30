//! A data directory's files, and the command line's tools over them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::broker::{run, weir};

/// `weir log ARGS DATA`: its exit code, and all that it printed.
pub fn weir_log(args: &[&str], data: &Path) -> (Option<i32>, String) {
    let output = run(weir().arg("log").args(args).arg(data));
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(!text.contains("panicked"), "{text}");
    (output.status.code(), text)
}

/// Every file and directory but the lock, whose text is the pid of who holds it, with what it holds.
pub fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(content(&path));
            all.insert(path, Vec::new());
        } else if !path.ends_with("lock") {
            all.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
    all
}

/// The last file below `dir` whose name ends so.
pub fn last_file(dir: &Path, ends: &str) -> PathBuf {
    let files = content(dir).into_keys().filter(|path| path.to_string_lossy().ends_with(ends));
    files.max().unwrap_or_else(|| panic!("no {ends} below {}", dir.display()))
}
