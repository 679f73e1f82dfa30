//! How large a journal's files are and how many it may have, on a volume of this size with so many shards. Pure.
//!
//! All journals together take an eighth of the volume at most, each in files small enough for eight of them, up to 16 of
//! 64 MiB. A volume so small that two of the smallest files a shard would be more than a quarter of it is too small.

use std::path::Path;

use crate::rt;

const LEAST_FILE: u64 = 2 << 20;
pub const LARGEST_FILE: u64 = 64 << 20;
pub const MOST_FILES: u64 = 16;
/// A journal goes round with two files; smaller ones are better than fewer.
const LEAST_FILES: u64 = 2;
const GOOD_FILES: u64 = 8;
/// What all journals may take of the volume, as a part of it.
const PART: u64 = 8;
/// The same where the files are as small as can be, and where the operator chose them.
const MOST_PART: u64 = 4;
const CHOSEN_PART: u64 = 2;
/// A new data directory also needs a little for metadata and checkpoints.
const BESIDES: u64 = 4 << 20;

/// The file system of a data directory, and what it holds of journals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// 0 where the file system does not say.
    pub total: u64,
    pub free: u64,
    /// Nothing of a broker is there yet.
    pub is_new: bool,
    /// The length of the journal files that are there; the most frequent one.
    pub file_bytes: Option<u64>,
}

/// What the operator chose; the rest follows the volume.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub file_bytes: Option<u64>,
    pub max_files: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizing {
    pub file_bytes: u64,
    pub max_files: usize,
}

/// Why journals have no place on a volume, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// The whole volume would have to have `needs`.
    TooSmall { needs: u64 },
    /// As before, because of what the operator chose.
    ChosenTooLarge { needs: u64 },
    /// A new directory needs so much free room.
    TooFull { needs: u64 },
}

impl Volume {
    /// Looks at the file system that holds `data_dir`, which exists. Blocks.
    pub fn of(data_dir: &Path) -> std::io::Result<Self> {
        let space = rt::fs::space(data_dir)?;
        let journals = data_dir.join("journal");
        let mut lengths = std::collections::BTreeMap::<u64, usize>::new();
        for shard in rt::fs::read_dir_names(&journals).unwrap_or_default() {
            let dir = journals.join(shard);
            for name in rt::fs::read_dir_names(&dir).unwrap_or_default() {
                if super::files::number_of(&name).is_some()
                    && let Ok(bytes) = rt::fs::len(dir.join(name))
                {
                    *lengths.entry(bytes).or_default() += 1;
                }
            }
        }
        let file_bytes = lengths.into_iter().max_by_key(|(_, count)| *count).map(|(bytes, _)| bytes);
        let is_new = !rt::fs::exists(&journals) && !rt::fs::exists(data_dir.join("meta"));
        Ok(Self { total: space.total, free: space.usable, is_new, file_bytes })
    }
}

impl Sizing {
    pub fn of(volume: &Volume, shards: usize, chosen: Chosen) -> Result<Self, NoPlace> {
        let shards = shards.max(1) as u64;
        let unknown = Volume { total: u64::MAX, free: u64::MAX, ..*volume };
        let volume = if volume.total == 0 { &unknown } else { volume };
        let total = volume.total;
        let least = LEAST_FILES * shards * LEAST_FILE;
        if total / MOST_PART < least {
            return Err(NoPlace::TooSmall { needs: least * MOST_PART });
        }
        let share = total / PART / shards;
        let most = chosen.max_files.map(|most| most as u64);
        let file_bytes = match chosen.file_bytes {
            Some(bytes) => bytes,
            None => volume.file_bytes(shards, floor_to_power(share / most.unwrap_or(GOOD_FILES))),
        };
        if chosen != Chosen::default() {
            let needs = most.unwrap_or(LEAST_FILES).saturating_mul(shards).saturating_mul(file_bytes);
            if total / CHOSEN_PART < needs {
                return Err(NoPlace::ChosenTooLarge { needs: needs.saturating_mul(CHOSEN_PART) });
            }
        }
        let needs = LEAST_FILES * shards * file_bytes + BESIDES;
        if volume.is_new && volume.free < needs {
            return Err(NoPlace::TooFull { needs });
        }
        let max_files = most.unwrap_or((share / file_bytes).clamp(LEAST_FILES, MOST_FILES)) as usize;
        Ok(Self { file_bytes, max_files })
    }
}

impl Volume {
    /// `best` goes by the size of the volume. Where little of it is free, files stay as they are, and new ones are
    /// smaller: nothing has to be made for a start on a full disk.
    fn file_bytes(&self, shards: u64, best: u64) -> u64 {
        let is_modest = |bytes: u64| LEAST_FILES * shards * bytes <= self.free / MOST_PART;
        match self.file_bytes {
            Some(present) if present == best => best,
            Some(present) if (LEAST_FILE..best).contains(&present) && !is_modest(best) => present,
            _ => {
                let sizes = std::iter::successors(Some(best), |bytes| Some(bytes / 2));
                sizes.take_while(|bytes| *bytes > LEAST_FILE).find(|b| is_modest(*b)).unwrap_or(LEAST_FILE)
            }
        }
    }
}

fn floor_to_power(bytes: u64) -> u64 {
    let bytes = bytes.clamp(LEAST_FILE, LARGEST_FILE);
    1 << bytes.ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn empty(total: u64) -> Volume {
        Volume { total, free: total, is_new: true, file_bytes: None }
    }

    #[test]
    fn journals_follow_the_volume_and_the_shards() {
        for (total, shards, file, files) in [
            (0, 64, 64 * MIB, 16),
            (250 * GIB, 2, 64 * MIB, 16),
            (16 * GIB, 2, 64 * MIB, 16),
            (250 * GIB, 64, 32 * MIB, 15),
            (10 * GIB, 2, 64 * MIB, 10),
            (GIB, 2, 8 * MIB, 8),
            (300 * MIB, 2, 2 * MIB, 9),
            (100 * MIB, 2, 2 * MIB, 3),
            (32 * MIB, 2, 2 * MIB, 2),
            (GIB, 64, 2 * MIB, 2),
        ] {
            let sizing = Sizing::of(&empty(total), shards, Chosen::default());
            assert_eq!(sizing, Ok(Sizing { file_bytes: file, max_files: files }), "{total} {shards}");
            if total > 0 {
                let taken = LEAST_FILES * file * shards as u64;
                assert!(taken <= total / MOST_PART && file * files as u64 * shards as u64 <= total / 4);
            }
        }
        let needs = |total, shards| Sizing::of(&empty(total), shards, Chosen::default()).unwrap_err();
        assert_eq!(needs(31 * MIB, 2), NoPlace::TooSmall { needs: 32 * MIB });
        assert_eq!(needs(500 * MIB, 64), NoPlace::TooSmall { needs: GIB });
    }

    #[test]
    fn what_the_operator_chose_holds_or_is_refused() {
        let of = |total, file_bytes, max_files| {
            Sizing::of(&empty(total), 2, Chosen { file_bytes, max_files })
                .map(|s| (s.file_bytes, s.max_files))
        };
        assert_eq!(of(160 * MIB, Some(4 * MIB), None), Ok((4 * MIB, 2)));
        assert_eq!(of(250 * GIB, Some(MIB), Some(4)), Ok((MIB, 4)));
        assert_eq!(of(GIB, None, Some(4)), Ok((16 * MIB, 4)));
        let refused = |needs| Err(NoPlace::ChosenTooLarge { needs });
        assert_eq!(of(300 * MIB, Some(64 * MIB), None), refused(512 * MIB));
        assert_eq!(of(GIB, Some(64 * MIB), Some(16)), refused(4 * GIB));
        assert_eq!(of(300 * MIB, None, Some(100)), refused(800 * MIB));
    }

    #[test]
    fn a_full_volume_keeps_its_files_and_a_new_directory_asks_for_room() {
        let full = Volume { total: 16 * GIB, free: 0, is_new: false, file_bytes: Some(16 * MIB) };
        let file = |volume: Volume| Sizing::of(&volume, 2, Chosen::default()).map(|s| s.file_bytes);
        assert_eq!(file(full), Ok(16 * MIB));
        assert_eq!(file(Volume { free: 2 * GIB, ..full }), Ok(64 * MIB), "there is room for larger ones");
        assert_eq!(file(Volume { file_bytes: Some(64 * MIB), ..full }), Ok(64 * MIB));
        let small = Volume { total: 300 * MIB, file_bytes: Some(64 * MIB), ..full };
        assert_eq!(file(small), Ok(2 * MIB), "made by an earlier version, which did not look");
        assert_eq!(
            file(Volume { file_bytes: None, ..full }),
            Ok(2 * MIB),
            "shards that journaled nothing yet"
        );
        let new = Volume { free: 100 * MIB, is_new: true, file_bytes: None, ..full };
        assert_eq!(file(new), Ok(4 * MIB));
        assert_eq!(file(Volume { free: 5 * MIB, ..new }), Err(NoPlace::TooFull { needs: 12 * MIB }));
    }
}
