//! Segments and logs on their way out: renamed first, unlinked later, large ones in pieces.
//!
//! A file that carries `.deleted` is dead, with every older segment, whatever a checkpoint from before its deletion
//! says. So the newest one stays, emptied, until a newer one takes its place: a start finds by it that what the
//! checkpoint lists and the directory lacks was deleted on purpose and is not lost. Readers that have a file open go on
//! reading.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::log::LogError;
use crate::log::discard;
use crate::log::partition_log::PartitionLog;
use crate::model::PartitionId;
use crate::rt;

use super::owner::{Owner, foreign, owner};
use super::retention::{RetentionPlan, View, plan};
use super::{DELETED, Segment, SegmentMeta, parse_log_name};

/// What one pass of retention took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    pub segments: usize,
    pub bytes: u64,
}

impl PartitionLog {
    /// Deletes the segments that time, size or the log start offset let go and that are below the high watermark, which
    /// `committed` tells. What is in the tail, or in the segment still written to, is sealed for it. Files disappear
    /// after `file.delete.delay.ms`.
    pub async fn retention(
        self: &Rc<Self>,
        now_ms: i64,
        committed: impl Fn() -> i64,
    ) -> Result<Retired, LogError> {
        // Most passes find nothing to do: look before waiting for the turn.
        let (segments, sealed) = self.layout(now_ms);
        if self.state.borrow().removed || self.plan_for(&segments, sealed, i64::MAX, now_ms).delete == 0 {
            return Ok(Retired::default());
        }
        let _turn = self.turn().await;
        if self.state.borrow().removed {
            return Ok(Retired::default());
        }
        self.finish_replacement().await?;
        if !self.finish_cut().await? {
            return Ok(Retired::default());
        }
        self.seal_what_goes(now_ms).await?;
        let (segments, sealed) = self.layout(now_ms);
        let sealed_end = segments.get(sealed).map_or(i64::MAX, |open| open.base_offset);
        // What was sealed before the high watermark had passed it goes next time.
        let plan = self.plan_for(&segments, sealed, committed().min(sealed_end), now_ms);
        self.set_start_offset(plan.start_offset);
        let mut retired = Retired::default();
        for _ in 0..plan.delete {
            let Some(segment) = self.state.borrow().segments.front().cloned() else { break };
            // What could not be renamed stays in the list, to be tried again.
            self.rename_away(&segment).await?;
            self.state.borrow_mut().segments.pop_front();
            retired.segments += 1;
            retired.bytes += u64::from(segment.meta().size);
        }
        self.unlink_later();
        Ok(retired)
    }

    async fn seal_what_goes(&self, now_ms: i64) -> Result<(), LogError> {
        let (segments, sealed) = self.layout(now_ms);
        let going = self.plan_for(&segments, sealed, i64::MAX, now_ms).delete;
        if going > sealed {
            self.write_tail(None).await?;
            // What ended within the tail was sealed on the way.
            if going == segments.len() {
                self.seal().await?;
            }
        }
        Ok(())
    }

    fn plan_for(
        &self,
        segments: &[SegmentMeta],
        sealed: usize,
        committed: i64,
        now_ms: i64,
    ) -> RetentionPlan {
        let (open, start_offset) = (segments.len() > sealed, self.start_offset());
        plan(View { segments, open, start_offset, committed, now_ms }, &self.state.borrow().limits)
    }

    /// For who has the turn. Who comes to read it meanwhile is told that it is gone, which the log's start says, too.
    async fn rename_away(&self, segment: &Rc<Segment>) -> Result<(), LogError> {
        // Readers that are in it end what they read; a file more is open until then.
        if Rc::strong_count(segment) > 2 {
            let _ = segment.hold();
        }
        // Files that no checkpoint names are not "in order": the next start has to look.
        self.state.borrow_mut().clean = false;
        segment.deleted.set(true);
        let paths = [segment.sidecar_path(), segment.path()];
        let (doomed, renamed) = rt::blocking(move || rename_dead(&paths)).await;
        self.state.borrow_mut().doomed.extend(doomed);
        if renamed.is_err() {
            segment.deleted.set(false);
        }
        renamed
    }

    fn unlink_later(self: &Rc<Self>) {
        let delay = Duration::from_millis(self.state.borrow().limits.file_delete_delay_ms.max(0) as u64);
        let (log, due): (Weak<Self>, Vec<String>) = (Rc::downgrade(self), self.state.borrow().doomed.clone());
        drop(rt::spawn(async move {
            rt::sleep(delay).await;
            let Some(log) = log.upgrade() else { return };
            if !log.state.borrow().removed {
                log.shrink(&due).await;
            }
            // Closing may have been first.
            let due: Vec<String> = {
                let mut state = log.state.borrow_mut();
                let (now, later) = state.doomed.drain(..).partition(|name| due.contains(name));
                state.doomed = later;
                now
            };
            log.unlink(due).await;
        }));
    }

    /// Cuts what is to be unlinked until that is quick. Files that cannot be cut are unlinked as they are.
    async fn shrink(&self, names: &[String]) {
        let dir = self.dir.to_path_buf();
        let synced = rt::blocking(move || rt::fs::sync_dir(dir)).await;
        for name in names.iter().filter(|_| synced.is_ok()) {
            let _ = discard::shrink(self.dir.join(name)).await;
        }
    }

    pub(super) async fn unlink_doomed(&self) {
        let doomed = std::mem::take(&mut self.state.borrow_mut().doomed);
        self.unlink(doomed).await;
    }

    async fn unlink(&self, mut names: Vec<String>) {
        if names.is_empty() {
            return;
        }
        let dir = self.dir.to_path_buf();
        rt::blocking(move || {
            // The mark that an earlier deletion left has been replaced by now.
            let mut dead = rt::fs::read_dir_names(&dir).unwrap_or_default();
            let newest = newest_mark(&dead);
            dead.retain(|n| parse_dead(n).is_some() && parse_dead(n) < newest && is_empty(&dir.join(n)));
            names.extend(dead);
            if let Err(e) = unlink_dead(&dir, &names) {
                log::warn!("{}: {e}; deleted segments stay until the next start", dir.display());
            }
        })
        .await;
    }

    /// Takes the log away. What is under way ends first; everything later fails with [`LogError::Removed`] or does
    /// nothing. Returns where the directory is, if there was one: nobody needs it once that name is durable.
    pub async fn remove(&self) -> Result<Option<PathBuf>, LogError> {
        let _turn = self.turn().await;
        let segments = {
            let mut state = self.state.borrow_mut();
            if std::mem::replace(&mut state.removed, true) {
                return Ok(None);
            }
            state.active = None;
            state.unsynced = None;
            state.doomed.clear();
            std::mem::take(&mut state.segments)
        };
        let had_segments = !segments.is_empty();
        for segment in segments {
            segment.deleted.set(true);
            self.cache.close_file(segment.uid());
        }
        let (pinned, cached) = self.tail.borrow_mut().clear();
        self.cache.forget(pinned, cached);
        let (dir, id) = (self.dir.to_path_buf(), self.id());
        let gone = rt::blocking(move || rename_directory(&dir, id, had_segments)).await;
        gone.map_err(|e| LogError::io(&*self.dir, e))
    }
}

/// Gives the files the names of dead ones, as far as that goes; the new names.
fn rename_dead(paths: &[PathBuf]) -> (Vec<String>, Result<(), LogError>) {
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
fn rename_directory(dir: &Path, id: PartitionId, had_segments: bool) -> io::Result<Option<PathBuf>> {
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
pub(in crate::log) fn parse_dead(name: &str) -> Option<i64> {
    parse_log_name(name.strip_suffix(DELETED)?.strip_suffix('.')?)
}

/// The newest mark of a deleted segment.
fn newest_mark(names: &[String]) -> Option<i64> {
    names.iter().filter_map(|name| parse_dead(name)).max()
}

/// Where the deleted segments end, as far as the directory still tells: every segment below is dead. A mark beside a live
/// file of its name is of the one before: what the journal brought back after a crash is in a new file.
pub(super) fn dead_below(names: &[String]) -> Option<i64> {
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

fn is_empty(path: &Path) -> bool {
    rt::fs::len(path).is_ok_and(|len| len == 0)
}

/// Unlinks those of the files in `dir` that are dead; the newest segment is emptied instead.
pub(super) fn unlink_dead(dir: &Path, names: &[String]) -> io::Result<()> {
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
pub(super) fn forget_dead_of_before(
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
