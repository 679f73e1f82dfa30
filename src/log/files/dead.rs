//! Files and directories of what is gone: their names, and what they tell. Blocking.

use std::io;
use std::path::{Path, PathBuf};

use crate::log::LogError;
use crate::log::segment::meta::SegmentMeta;
use crate::model::PartitionId;
use crate::rt;

use super::names::{DELETED, parse_log_name};
use super::owner::{Owner, foreign, owner};

/// Gives the files the names of dead ones, as far as that goes; the new names.
pub fn rename_dead(paths: &[PathBuf]) -> (Vec<String>, Result<(), LogError>) {
    let mut names = Vec::new();
    for path in paths {
        let mut dead = path.clone().into_os_string();
        dead.push(format!(".{DELETED}"));
        let name = Path::new(&dead).file_name().map(|name| name.to_string_lossy().into_owned());
        match rt::fs::rename(path, &dead) {
            Ok(()) => names.extend(name),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return (names, Err(LogError::io(path, e))),
        }
    }
    (names, Ok(()))
}

/// Takes a removed log's directory away, if it is there and its own; where it is then.
pub fn rename_directory(dir: &Path, id: PartitionId, had_segments: bool) -> io::Result<Option<PathBuf>> {
    if may_be_anothers(dir, id, had_segments)? {
        log::warn!("{}: its files are not the topic's that was deleted; they stay", dir.display());
        return Ok(None);
    }
    let dead = removed_directory(dir, id);
    match rt::fs::rename(dir, &dead) {
        Ok(()) => Ok(Some(dead)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether a directory has files that are not of the log that was opened there.
fn may_be_anothers(dir: &Path, id: PartitionId, had_segments: bool) -> io::Result<bool> {
    if foreign(dir, id.topic)?.is_some() {
        return Ok(true);
    }
    // A directory of an earlier version names no topic.
    Ok(!had_segments && owner(dir)? == Owner::Unnamed)
}

/// Where a removed log's directory goes: a name that no topic has and that is not too long for any topic's.
pub fn removed_directory(dir: &Path, id: PartitionId) -> PathBuf {
    dir.with_file_name(format!("{id}.{DELETED}"))
}

/// Whether a name in the topics directory is what a removal left behind: it may be unlinked at any time.
pub fn is_removed_directory(name: &str) -> bool {
    name.strip_suffix(DELETED).is_some_and(|rest| rest.ends_with('.'))
}

/// The base offset in the name of a dead segment file.
pub fn parse_dead(name: &str) -> Option<i64> {
    parse_log_name(name.strip_suffix(DELETED)?.strip_suffix('.')?)
}

/// The newest mark of a deleted segment.
pub fn newest_mark(names: &[String]) -> Option<i64> {
    names.iter().filter_map(|name| parse_dead(name)).max()
}

/// Where the deleted segments end, as far as the directory still tells: every segment below is dead. A mark beside a live
/// file of its name is of the one before: what the journal brought back after a crash is in a new file.
pub fn dead_below(names: &[String]) -> Option<i64> {
    let newest = newest_mark(names)?;
    let is_live = names.iter().any(|name| parse_log_name(name) == Some(newest));
    Some(if is_live { newest } else { newest + 1 })
}

#[cfg(test)]
#[test]
fn a_mark_beside_a_live_file_of_its_name_is_of_those_before() {
    let names =
        |names: &[&str]| names.iter().map(|name| format!("00000000000000000{name}")).collect::<Vec<_>>();
    assert_eq!(dead_below(&names(&["053.log.deleted", "084.log.deleted", "120.log"])), Some(85));
    assert_eq!(dead_below(&names(&["053.log.deleted", "084.log.deleted", "084.log"])), Some(84));
    assert_eq!(dead_below(&names(&["053.log", "084.log.deleted", "084.log"])), Some(84));
    assert_eq!(dead_below(&names(&["084.log"])), None);
}

pub fn is_empty(path: &Path) -> bool {
    rt::fs::len(path).is_ok_and(|len| len == 0)
}

/// Unlinks those of the files in `dir` that are dead; the newest segment is emptied instead.
pub fn unlink_dead(dir: &Path, names: &[String]) -> io::Result<()> {
    let newest = newest_mark(names);
    let is_mark = |name: &String| newest.is_some() && parse_dead(name) == newest && is_empty(&dir.join(name));
    if names.iter().any(|name| name.ends_with(&format!(".{DELETED}")) && !is_mark(name)) {
        // The newest mark has to be there for certain before what it stands for goes.
        match rt::fs::sync_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            synced => synced?,
        }
    }
    for name in names.iter().filter(|name| name.ends_with(&format!(".{DELETED}"))) {
        let path = dir.join(name);
        let done = match newest.is_some() && parse_dead(name) == newest {
            true if is_empty(&path) => Ok(()),
            true => rt::fs::write_atomic(&path, &[]),
            false => rt::fs::remove_file(&path),
        };
        if let Err(e) = done
            && e.kind() != io::ErrorKind::NotFound
        {
            return Err(e);
        }
    }
    Ok(())
}

/// The log began anew at a smaller offset, maybe: a mark of a deleted segment that no list has may be of before, and would
/// take with it what has come since.
pub fn forget_dead_of_before(
    dir: &Path,
    names: &mut Vec<String>,
    listed: &[SegmentMeta],
) -> Result<(), LogError> {
    let is_listed = |base: i64| listed.iter().any(|segment| segment.base_offset == base);
    let mut gone = false;
    for name in names.extract_if(.., |name| parse_dead(name).is_some_and(|base| !is_listed(base))) {
        rt::fs::unlink(dir.join(name)).map_err(|e| LogError::io(dir, e))?;
        gone = true;
    }
    if gone { rt::fs::sync_dir(dir).map_err(|e| LogError::io(dir, e)) } else { Ok(()) }
}
