//! What is known to be committed, all together: the image and who agrees on it, as of one entry.

use std::path::Path;

use super::errors::{ApplyError, MetadataError};
use super::features::{MAX_LEVEL, MIN_LEVEL, VERSION};
use super::frame::{Entry, Snapshot, What};
use super::image::Image;
use super::quorum::Membership;
use super::records::Record;

#[derive(Clone, Debug)]
pub struct Committed {
    /// Its version is the offset of the last entry.
    pub image: Image,
    /// Of the last entry.
    pub epoch: i32,
    pub membership: Membership,
    /// The entry that the membership is of, and its epoch.
    pub membership_at: u64,
    pub membership_epoch: i32,
}

impl Committed {
    /// What a snapshot says.
    pub fn of(snapshot: Snapshot) -> Result<Self, ApplyError> {
        let Snapshot { offset, epoch, membership, membership_at, membership_epoch, records } = snapshot;
        let mut image = Image::empty();
        image.apply(&records)?;
        image.version = offset;
        Ok(Self { image, epoch, membership, membership_at, membership_epoch })
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            offset: self.image.version,
            epoch: self.epoch,
            membership: self.membership.clone(),
            membership_at: self.membership_at,
            membership_epoch: self.membership_epoch,
            records: self.image.snapshot(),
        }
    }

    /// Takes in the entry that comes next. After an error it is not to be used.
    pub fn apply(&mut self, offset: u64, epoch: i32, records: &[Record]) -> Result<(), ApplyError> {
        self.image.apply(records)?;
        (self.image.version, self.epoch) = (offset, epoch);
        Ok(())
    }

    pub fn set_membership(&mut self, offset: u64, epoch: i32, membership: Membership) {
        (self.image.version, self.epoch) = (offset, epoch);
        (self.membership, self.membership_at, self.membership_epoch) = (membership, offset, epoch);
    }
}

/// Up to where what a log has is committed for certain: a node that needs nobody else has committed all that it has.
pub(super) fn known_committed(snapshot: &Snapshot, entries: &[Entry], noted: u64) -> u64 {
    let memberships = entries.iter().rev().filter_map(|entry| match &entry.what {
        What::Membership(membership) => Some(membership),
        _ => None,
    });
    let membership = memberships.chain([&snapshot.membership]).next();
    let last = entries.last().map_or(snapshot.offset, |entry| entry.offset);
    match membership.is_some_and(|membership| matches!(&membership.voters[..], [one] if one.len() == 1)) {
        true => last,
        false => noted.clamp(snapshot.offset, last),
    }
}

pub(super) fn load(
    path: &Path,
    snapshot: Snapshot,
    entries: &[Entry],
    committed: u64,
) -> Result<Committed, MetadataError> {
    let offset = snapshot.offset;
    let mut loaded = Committed::of(snapshot).map_err(|error| unfit(path, offset, &error))?;
    for Entry { offset, epoch, what } in entries.iter().take_while(|entry| entry.offset <= committed) {
        let applied = match what {
            What::Records(records) => loaded.apply(*offset, *epoch, records),
            What::Blank => loaded.apply(*offset, *epoch, &[]),
            What::Membership(membership) => {
                loaded.set_membership(*offset, *epoch, membership.clone());
                Ok(())
            }
        };
        applied.map_err(|error| unfit(path, *offset, &error))?;
    }
    let image = &loaded.image;
    if let Some(level) = image.features.get(VERSION)
        && !(MIN_LEVEL..=MAX_LEVEL).contains(level)
    {
        let (min, max) = (MIN_LEVEL, MAX_LEVEL);
        return Err(MetadataError::Level { feature: VERSION.into(), found: *level, min, max });
    }
    Ok(loaded)
}

pub(super) fn unfit(path: &Path, number: u64, error: &ApplyError) -> MetadataError {
    MetadataError::Corrupt {
        path: path.to_path_buf(),
        offset: 0,
        what: format!("change {number} does not fit those before it: {error}"),
    }
}
