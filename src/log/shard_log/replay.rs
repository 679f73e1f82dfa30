//! What the journal holds past the checkpoint comes back: batches into their log's tail, and of batches that went straight
//! to a segment what their producers' state needs.

use bytes::Bytes;

use crate::log::directory::belongs::is_unknown;
use crate::log::error::is_full;
use crate::log::files::layout::partition_dir;
use crate::log::formats::PartitionCheckpoint;
use crate::log::formats::checkpoint::PartitionState;
use crate::log::formats::placement::Placement;
use crate::log::journal::{Damage, Entry, EntryKind, Recovery, Replayed};
use crate::log::{LogError, Lsn, PartitionLog};
use crate::model::{LeaderEpoch, Offset, PartitionId};
use crate::wire::batch::BatchHeader;
use crate::wire::control;

use super::create::in_the_way;
use super::found::Found;
use super::open::{Opening, last_place};

impl Opening<'_> {
    pub(super) async fn replay(
        &mut self,
        recovery: &mut Recovery,
        tail_bytes: usize,
    ) -> Result<(), LogError> {
        let mut full = false;
        while let Some(file) = recovery.next().await? {
            for item in file.items() {
                match item {
                    Replayed::Entry(entry, bytes) => match entry.kind {
                        EntryKind::Batch => self.replay_batch(entry, bytes)?,
                        EntryKind::Placement => self.replay_placement(entry, bytes)?,
                        EntryKind::Truncate | EntryKind::Reset => self.replay_cut(entry)?,
                        EntryKind::EpochStart => self.replay_epoch(entry)?,
                    },
                    Replayed::Damage(damage) => {
                        let (path, offset) = (damage.path.display(), damage.offset);
                        let (from, to) = (damage.from.0, damage.to.0);
                        log::error!("{path}: positions {from}..{to} at offset {offset} cannot be read");
                        self.damage.push(damage.clone());
                    }
                }
                // A file may hold more than tails may.
                if self.resources.pinned_bytes() > tail_bytes / 2 && !full {
                    full = !self.write_tails().await?;
                }
            }
            drop(file);
            self.aside.flush().await?;
        }
        Ok(())
    }

    /// On a full disk what the journal holds stays in memory: a start needs no room. Returns whether there was room.
    async fn write_tails(&self) -> Result<bool, LogError> {
        for found in self.found.values() {
            match found.log.write(None).await {
                Err(LogError::Io { path, source }) if is_full(&source) => {
                    log::warn!("{}: {source}; it stays in memory and in the journal", path.display());
                    return Ok(false);
                }
                written => written?,
            }
        }
        Ok(true)
    }

    fn replay_batch(&mut self, entry: Entry, batch: &[u8]) -> Result<(), LogError> {
        let id = entry.partition;
        if !self.found.contains_key(&id) && !self.open_unlisted(&entry)? {
            return self.leave_out(id, entry.base_offset, batch);
        }
        let Some(found) = self.found.get_mut(&id) else { return Ok(()) };
        let header = match BatchHeader::parse(batch) {
            Ok(header) if header.base_offset == entry.base_offset && header.size() == batch.len() => header,
            _ => {
                found.mark(id, format!("the journal's batch at offset {} is not a batch", entry.base_offset));
                self.aside.push(id, entry.base_offset, batch);
                return Ok(());
            }
        };
        if found.history.is_void(entry.lsn, header.next_offset()) {
            return Ok(());
        }
        let end = found.log.end_offset().0;
        found.follow(id, header.base_offset, header.next_offset(), &self.damage);
        if found.frozen.is_none() && header.base_offset == end {
            found.log.append(&header, Bytes::copy_from_slice(batch), entry.lsn);
        } else if found.frozen.is_some() || header.next_offset() > end {
            if found.frozen.is_none() {
                let base = header.base_offset;
                found.mark(id, format!("the log ends at offset {end}, the journal goes on at {base}"));
            }
            self.aside.push(id, header.base_offset, batch);
            return Ok(());
        } else if let Some(known) =
            found.log.epoch_at(Offset(header.base_offset)).filter(|e| e.0 < header.leader_epoch)
        {
            let (base, epoch) = (header.base_offset, header.leader_epoch);
            found.mark(
                id,
                format!("the log has offset {base} of leader epoch {known}, the journal of epoch {epoch}"),
            );
            self.aside.push(id, header.base_offset, batch);
            return Ok(());
        }
        found.last = entry.lsn;
        found.note(header, batch);
        Ok(())
    }

    /// The log was cut, or began anew. Its files were opened with what the journal says of that, and what is void is not
    /// replayed: nothing is left to be cut.
    fn replay_cut(&mut self, entry: Entry) -> Result<(), LogError> {
        let (id, offset) = (entry.partition, entry.base_offset);
        if !self.found.contains_key(&id) && !self.open_unlisted(&entry)? {
            return Ok(());
        }
        let Some(found) = self.found.get_mut(&id).filter(|found| found.frozen.is_none()) else {
            return Ok(());
        };
        if entry.kind == EntryKind::Truncate {
            if found.history.is_void(entry.lsn, offset) {
                return Ok(());
            }
            found.follow(id, offset, offset, &self.damage);
        }
        found.seen = offset;
        found.last = entry.lsn;
        Ok(())
    }

    /// A leader epoch began. One whose start is past what came back has nothing.
    fn replay_epoch(&mut self, entry: Entry) -> Result<(), LogError> {
        let (id, offset) = (entry.partition, entry.base_offset);
        if !self.found.contains_key(&id) && !self.open_unlisted(&entry)? {
            return Ok(());
        }
        let Some(found) = self.found.get_mut(&id).filter(|found| found.frozen.is_none()) else {
            return Ok(());
        };
        if found.history.is_void(entry.lsn, offset + 1) || offset > found.seen {
            return Ok(());
        }
        found.last = entry.lsn;
        // The checkpoint knows of those before it.
        if entry.lsn > self.checkpoint_durable
            && let Some(epoch) = LeaderEpoch::from_wire(entry.leader_epoch)
        {
            found.log.note_epoch_at(epoch, Offset(offset));
        }
        Ok(())
    }

    /// An entry of a partition that does not exist: of a deleted topic, or the metadata is not that of this journal.
    fn leave_out(&mut self, id: PartitionId, base_offset: i64, batch: &[u8]) -> Result<(), LogError> {
        if self.topics.was_deleted(id.topic) {
            return Ok(());
        }
        if !self.topics.forgets() {
            return match is_unknown(self.topics, id.topic) {
                true => Err(LogError::UnknownTopic { dir: self.journal.clone(), id }),
                false => Ok(()),
            };
        }
        self.aside.push(id, base_offset, batch);
        Ok(())
    }

    /// Batches that are in segments: their files were opened with what the placement says.
    fn replay_placement(&mut self, entry: Entry, bytes: &[u8]) -> Result<(), LogError> {
        let id = entry.partition;
        if !self.found.contains_key(&id) && !self.open_unlisted(&entry)? {
            return Ok(());
        }
        let Some(found) = self.found.get_mut(&id).filter(|found| found.frozen.is_none()) else {
            return Ok(());
        };
        let placement = match Placement::decode(bytes) {
            Ok(placement) => placement,
            Err(why) => {
                found.mark(
                    id,
                    format!("what the journal says at offset {} of segments: {why}", entry.base_offset),
                );
                return Ok(());
            }
        };
        found.last = entry.lsn;
        for batch in &placement.batches {
            let Ok(header) = BatchHeader::parse(batch) else {
                found.mark(id, format!("a batch from offset {} on is not a batch", entry.base_offset));
                return Ok(());
            };
            if found.history.is_void(entry.lsn, header.next_offset()) {
                continue;
            }
            found.follow(id, header.base_offset, header.next_offset(), &self.damage);
            if header.next_offset() > found.log.end_offset().0 {
                let (next, end) = (header.next_offset(), found.log.end_offset().0);
                found.mark(id, format!("segments had offsets up to {next} and end at {end}"));
                return Ok(());
            }
            found.note(header, batch);
        }
        Ok(())
    }

    /// A partition that was created after the checkpoint: all that it has is in the journal.
    fn open_unlisted(&mut self, entry: &Entry) -> Result<bool, LogError> {
        let id = entry.partition;
        let Some((topic, config)) = self.topics.partition(id) else { return Ok(false) };
        let dir = partition_dir(&self.data_dir, &topic, id.index);
        if let Some(why) = in_the_way(&dir, id, self.trusts_unnamed)? {
            let mut found = Found::new(self.stand_in(dir, id, &config)?, topic.clone(), 0);
            found.mark(id, why);
            let frozen = PartitionState {
                repair: found.repair.clone(),
                ..PartitionState::empty(id, topic.to_string())
            };
            found.frozen = Some(Box::new(frozen));
            self.found.insert(id, found);
            return Ok(true);
        }
        let (mut state, history) =
            (PartitionCheckpoint::nothing(), self.histories.remove(&id).unwrap_or_default());
        let says_files = history.says_files();
        // Without a checkpoint there is nothing that a truncation would have to be applied to but what the journal has.
        let unread = history.apply(&mut state, Lsn::ZERO).err();
        let (log, replayed) = if says_files || entry.base_offset == 0 {
            (PartitionLog::open(dir, id, config, Some(state), &self.resources)?, Vec::new())
        } else {
            PartitionLog::open_unknown(dir, id, config, &self.resources)?
        };
        let seen = if says_files { 0 } else { log.end_offset().0 };
        let mut found = Found { replayed, history, ..Found::new(log, topic, seen) };
        if let Some(why) = unread {
            found.mark(id, why);
        }
        self.found.insert(id, found);
        Ok(true)
    }
}

impl Found {
    /// Marks the partition if something is missing before what has these offsets.
    fn follow(&mut self, id: PartitionId, base: i64, next: i64, damage: &[Damage]) {
        if base > self.seen && self.frozen.is_none() {
            let seen = self.seen;
            let gap = format!("the log ends at offset {seen}, the journal goes on at {base}");
            // What was damaged last is what is missing here.
            self.mark(id, gap + &last_place(damage));
        }
        self.seen = self.seen.max(next);
    }

    /// Takes in what the batch says of its producer.
    fn note(&mut self, header: BatchHeader, batch: &[u8]) {
        if self.producers.as_ref().is_none_or(|(covered, _)| header.base_offset >= covered.0) {
            self.replayed.push((header, control::decode(batch, &header)));
        }
    }
}
