//! One segment takes the place of several, at once and whatever happens meanwhile.
//!
//! ```text
//! 1  <base>.cleaned            the new segment, written and synced; nobody knows it yet
//! 2  <base>.swap               the manifest, written atomically: from here on the new segment is the log
//! 3  old sidecars and files unlinked, <base>.cleaned renamed to <base>.log, directory synced
//! 4  the shard's next checkpoint lists the new segment; then the manifest is unlinked, the directory synced
//! ```
//! A start between 2 and 4 finds the manifest, does step 3 (again) and puts the new segment into the checkpoint's list.
//! The manifest names every old segment as the checkpoint lists it: one that fits neither what was nor what is now is
//! not acted on. Until its manifest is gone, a log is not compacted again.
//!
//! What keeps step 3 from its end for a while (no descriptor, no room) leaves the log *half-way*: the list in memory is
//! still of the old segments, which are read through the files held open, and everything else that changes files
//! finishes the replacement first or fails. A checkpoint that is made meanwhile lists the old ones, beside the manifest.
//!
//! Readers that are in an old segment go on in it: its file stays open and its index loaded until the last has left.

use std::path::PathBuf;
use std::rc::Rc;

use crate::log::error::may_pass;
use crate::log::files::names::file_name;
use crate::log::segment::extents::ExtentIndex;
use crate::log::segment::{Segment, SegmentMeta, with_files};
use crate::log::{LogError, PartitionLog};
use crate::rt;
use crate::rt::fs::unlink;

use super::Swap;
use super::manifest::{Manifest, PARTIAL, SWAP};
use super::state::Halfway;

impl PartitionLog {
    /// Puts `new`, whose file is written and synced, in the place of `old`. False if they are no longer there to be
    /// replaced; then nothing has changed. After an error nothing has, either, unless the log is half-way.
    pub(super) async fn replace(
        &self,
        old: &[Rc<Segment>],
        new: Option<(SegmentMeta, ExtentIndex)>,
    ) -> Result<bool, LogError> {
        let _turn = self.turn().await;
        if !self.can_replace(old) || self.is_cut_halfway() {
            return Ok(false);
        }
        let manifest = Manifest {
            old: old.iter().map(|segment| segment.meta()).collect(),
            new: new.as_ref().map(|(meta, _)| *meta),
        };
        let mut held = Ok(());
        for segment in old {
            held = segment.freeze().await;
            if held.is_err() {
                break;
            }
        }
        if held.is_ok() {
            let half =
                Halfway { manifest: manifest.clone(), old: old.to_vec(), index: new.map(|(_, index)| index) };
            *self.compaction().state().halfway.borrow_mut() = Some(half);
            held = self.commit(&manifest).await;
        }
        if let Err(e) = held {
            if !self.has_failed() {
                self.compaction().state().halfway.take();
                old.iter().for_each(|segment| segment.thaw());
            }
            return Err(e);
        }
        self.note_disorder();
        self.finish_replacement().await?;
        Ok(true)
    }

    /// Brings a replacement that is half-way to its end. For who has the turn: nothing else may change files before.
    pub(in crate::log) async fn finish_replacement(&self) -> Result<(), LogError> {
        if !self.compaction().is_halfway() {
            return Ok(());
        }
        let state = self.compaction().state();
        let manifest = state.halfway.borrow().as_ref().map(|half| half.manifest.clone());
        let Some(manifest) = manifest else { return Ok(()) };
        self.check_usable()?;
        let dir = self.dir().to_path_buf();
        let done = with_files(self.resources(), move || {
            // First the manifest, for certain.
            rt::fs::sync_dir(&dir)?;
            manifest.carry_out(&dir)
        });
        let done = done.await;
        #[cfg(test)]
        let done = match state.hinder.get() {
            0 => done,
            n => {
                state.hinder.set(n - 1);
                Err(std::io::ErrorKind::StorageFull.into())
            }
        };
        match done {
            Ok(()) => {}
            Err(e) if may_pass(&e) => return Err(LogError::io(self.dir(), e)),
            Err(e) => return Err(self.fail(self.dir().to_path_buf(), e)),
        }
        let Some(half) = state.halfway.take() else { return Ok(()) };
        let segment = half.manifest.new.zip(half.index).map(|(meta, index)| {
            let segment = self.sealed_segment(meta);
            segment.put_index(index);
            segment
        });
        let (base, end) = (half.manifest.base(), half.manifest.end());
        self.exchange(base, half.old.len(), end, segment.clone());
        for segment in &half.old {
            segment.supersede();
            state.replaced.borrow_mut().push(segment.base_offset());
        }
        // Only now: a checkpoint made before lists the old segments and needs the manifest.
        state.swaps.borrow_mut().push(Swap { base, end });
        if let Some(segment) = segment {
            segment.save_sidecar().await;
            segment.index().await?;
        }
        Ok(())
    }

    /// As [`finish_replacement`](Self::finish_replacement), for who has not got the turn. Whether the log is whole.
    pub(super) async fn is_whole(&self) -> bool {
        if !self.compaction().is_halfway() {
            return true;
        }
        let _turn = self.turn().await;
        let finished = !self.is_removed() && self.finish_replacement().await.is_ok();
        finished && !self.compaction().is_halfway()
    }

    /// Whether the segments are still the log's, side by side, and may be replaced.
    fn can_replace(&self, old: &[Rc<Segment>]) -> bool {
        let blocked = self.is_removed() || self.has_failed() || self.compaction().is_stopped();
        !blocked && self.has_segments(old)
    }

    /// Writes the manifest. After an error it is not there, unless the log has failed.
    async fn commit(&self, manifest: &Manifest) -> Result<(), LogError> {
        let path = file_name(self.dir(), manifest.base(), SWAP);
        let (to, bytes) = (path.clone(), manifest.encode());
        let written = with_files(self.resources(), move || match rt::fs::write_atomic(&to, &bytes) {
            // Its name comes last: only the directory's sync is missing, which whoever goes on from here does first.
            Err(e) if may_pass(&e) && rt::fs::exists(&to) => Ok(()),
            Err(e) => {
                let _ = unlink(to.with_extension(PARTIAL));
                Err(e)
            }
            Ok(()) => Ok(()),
        });
        match written.await {
            Ok(()) => Ok(()),
            // Whether it is durable is not known, so neither is which segments are the log at the next start.
            Err(e) => {
                let to = path.clone();
                match rt::blocking(move || rt::fs::exists(&to)).await {
                    true => Err(self.fail(path, e)),
                    false => Err(LogError::io(path, e)),
                }
            }
        }
    }

    /// A checkpoint that lists the groups at `bases` as they are now is stored: their manifests go.
    pub async fn forget_swaps(&self, bases: Vec<i64>) {
        if bases.is_empty() {
            return;
        }
        let _turn = self.quiet_turn().await;
        if self.is_removed() {
            // The directory may be another's by now.
            return;
        }
        let dir = self.dir().to_path_buf();
        let paths: Vec<PathBuf> = bases.iter().map(|base| file_name(&dir, *base, SWAP)).collect();
        let gone = with_files(self.resources(), move || {
            paths.iter().try_for_each(unlink)?;
            rt::fs::sync_dir(&dir)
        });
        match gone.await {
            Ok(()) => self.compaction().forget(&bases),
            Err(e) => {
                // The next checkpoint comes back to it.
                self.touch();
                log::warn!("{}: {e}; not compacted again until this works", self.dir().display());
            }
        }
    }
}
