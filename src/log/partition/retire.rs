//! Segments and logs on their way out: renamed first, unlinked later, large ones in pieces.
//!
//! A file that carries `.deleted` is dead, with every older segment, whatever a checkpoint from before its deletion
//! says. So the newest one stays, emptied, until a newer one takes its place: a start finds by it that what the
//! checkpoint lists and the directory lacks was deleted on purpose and is not lost. Readers that have a file open go on
//! reading.

use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::log::LogError;
use crate::log::files::dead::{
    is_empty, newest_mark, parse_dead, rename_dead, rename_directory, unlink_dead,
};
use crate::log::files::discard;
use crate::log::segment::{Segment, SegmentMeta};
use crate::model::{Offset, WallMs};
use crate::rt;

use super::PartitionLog;
use super::retention::{RetentionPlan, View, plan};

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
        now: WallMs,
        committed: impl Fn() -> Offset,
    ) -> Result<Retired, LogError> {
        let now_ms = now.0;
        // Most passes find nothing to do: look before waiting for the turn.
        let (segments, sealed) = self.layout(now_ms);
        if self.is_removed() || self.plan_for(&segments, sealed, i64::MAX, now_ms).delete == 0 {
            return Ok(Retired::default());
        }
        let _turn = self.turn().await;
        if self.is_removed() {
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
        let plan = self.plan_for(&segments, sealed, committed().0.min(sealed_end), now_ms);
        self.set_start_offset(Offset(plan.start_offset));
        let mut retired = Retired::default();
        for _ in 0..plan.delete {
            let Some(segment) = self.segments.first() else { break };
            // What could not be renamed stays in the list, to be tried again.
            self.rename_away(&segment).await?;
            self.segments.drop_first();
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
        let (open, start_offset) = (segments.len() > sealed, self.start_offset().0);
        plan(View { segments, open, start_offset, committed, now_ms }, &self.limits())
    }

    /// For who has the turn. Who comes to read it meanwhile is told that it is gone, which the log's start says, too.
    async fn rename_away(&self, segment: &Rc<Segment>) -> Result<(), LogError> {
        // Readers that are in it end what they read; a file more is open until then.
        if Rc::strong_count(segment) > 2 {
            let _ = segment.hold();
        }
        // Files that no checkpoint names are not "in order": the next start has to look.
        self.note_disorder();
        segment.set_deleted(true);
        let paths = [segment.sidecar_path(), segment.path()];
        let (dead, renamed) = rt::blocking(move || rename_dead(&paths)).await;
        self.directory.note_dead(dead);
        if renamed.is_err() {
            segment.set_deleted(false);
        }
        renamed
    }

    fn unlink_later(self: &Rc<Self>) {
        let delay = Duration::from_millis(self.limits().file_delete_delay_ms.max(0) as u64);
        let (log, due): (Weak<Self>, Vec<String>) = (Rc::downgrade(self), self.directory.dead());
        drop(rt::spawn(async move {
            rt::sleep(delay).await;
            let Some(log) = log.upgrade() else { return };
            if !log.is_removed() {
                log.shrink(&due).await;
            }
            // Closing may have been first.
            let due = log.directory.take_dead_of(&due);
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

    pub(super) async fn unlink_dead(&self) {
        self.unlink(self.directory.take_dead()).await;
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
        if !self.condition.remove() {
            return Ok(None);
        }
        drop(self.directory.take_dead());
        let segments = self.segments.cut(0, None);
        let had_segments = !segments.is_empty();
        for segment in segments {
            segment.set_deleted(true);
            self.resources.files().close(segment.uid());
        }
        let (pinned, cached) = self.tail.borrow_mut().clear();
        self.resources.forget(pinned, cached);
        let (dir, id) = (self.dir.to_path_buf(), self.id());
        let gone = rt::blocking(move || rename_directory(&dir, id, had_segments)).await;
        gone.map_err(|e| LogError::io(&*self.dir, e))
    }
}
