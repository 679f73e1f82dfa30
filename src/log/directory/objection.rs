//! What a start objects to in a data directory, in words: what does not fit, and what there is to do.

use std::fmt;
use std::path::PathBuf;

/// Something that does not belong to the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    NoMetadata {
        data_dir: PathBuf,
        topics: usize,
        journals: usize,
    },
    /// The metadata is of another directory than every checkpoint.
    ForeignMetadata {
        metadata: String,
        checkpoints: String,
    },
    /// Some checkpoints are of the metadata's directory, this one is not.
    ForeignJournal {
        shard: usize,
        directory: String,
    },
    OldMetadata {
        has: u64,
        needs: u64,
        shard: usize,
    },
    /// The metadata should know a topic, or its deletion, and does not.
    UnknownTopics {
        shard: usize,
        first: String,
        count: usize,
    },
    MisplacedJournal {
        shard: usize,
        its: usize,
        of: usize,
    },
    NoJournal {
        shard: usize,
        shards: usize,
    },
    NoJournalFiles {
        shard: usize,
    },
    /// None that can be read.
    NoCheckpoint {
        shard: usize,
        damaged: bool,
    },
    OldJournal {
        shard: usize,
        number: u64,
        seen: u64,
    },
    OldTopics {
        shard: usize,
        seen: u64,
        needs: u64,
    },
    NoDirectories {
        first: String,
        count: usize,
        of: usize,
    },
    Unlisted {
        directory: String,
    },
}

impl Objection {
    /// Whether `weir log repair` can do something about it. The others are about metadata.
    pub fn is_for_repair(&self) -> bool {
        use Objection::*;
        !matches!(
            self,
            NoMetadata { .. } | ForeignMetadata { .. } | OldMetadata { .. } | UnknownTopics { .. }
        )
    }

    /// Where to look, below the data directory.
    pub fn place(&self) -> String {
        use Objection::*;
        match self {
            NoMetadata { .. } | ForeignMetadata { .. } | OldMetadata { .. } | UnknownTopics { .. } => {
                "meta".into()
            }
            ForeignJournal { shard, .. }
            | MisplacedJournal { shard, .. }
            | NoJournal { shard, .. }
            | NoJournalFiles { shard }
            | NoCheckpoint { shard, .. }
            | OldJournal { shard, .. } => format!("journal/{shard}"),
            OldTopics { .. } => "topics".into(),
            NoDirectories { first: name, .. } | Unlisted { directory: name } => format!("topics/{name}"),
        }
    }

    /// What `weir log repair` does about it.
    pub fn repair(&self) -> &'static str {
        use Objection::*;
        match self {
            NoMetadata { .. } => {
                "nothing: put back meta/, or let `weir log recover-metadata` make topics anew of what is there"
            }
            ForeignMetadata { .. } | OldMetadata { .. } | UnknownTopics { .. } => {
                "nothing: put back the newest meta/ that belongs here, or see `weir log recover-metadata`"
            }
            ForeignJournal { .. } | MisplacedJournal { .. } | OldJournal { .. } => {
                "move it to set-aside/ and make another of what segments have; records that no segment has are given up"
            }
            NoCheckpoint { .. } => "make it again of what segments and the journal have",
            NoJournal { .. } | NoJournalFiles { .. } => {
                "make another of what segments have; records that no segment has are given up"
            }
            OldTopics { .. } => "give up the records that are gone, behind gaps",
            NoDirectories { .. } => "give up the records in them, behind gaps",
            Unlisted { .. } => "take them in as the partition's",
        }
    }

    /// What there is to do.
    pub fn remedy(&self) -> &'static str {
        use Objection::*;
        match self {
            NoMetadata { .. } => {
                "Nothing was changed. Restore meta/ from a backup; or let `weir log recover-metadata` make topics anew of \
                 what is there; or start with an empty directory (--data-dir)."
            }
            ForeignMetadata { .. } => {
                "Nothing was changed. Put back the meta/ (or the journal/) that belongs here; or let `weir log \
                 recover-metadata` make topics anew of what is there."
            }
            OldMetadata { .. } | UnknownTopics { .. } => {
                "Nothing was changed. Put back the newest meta/; or let `weir log recover-metadata` add the topics that \
                 it lacks."
            }
            ForeignJournal { .. } | MisplacedJournal { .. } | OldJournal { .. } => {
                "Nothing was changed. Put back the shard's own newest journal; or let `weir log repair` move this one to \
                 set-aside/ and make do with what segments have."
            }
            NoCheckpoint { .. } => {
                "Nothing was changed. Put back the shard's journal; or let `weir log repair` make the checkpoint again of \
                 what segments and the journal have."
            }
            NoJournal { .. } | NoJournalFiles { .. } => {
                "Nothing was changed. Put back the shard's journal; or let `weir log repair` make do with what segments \
                 have."
            }
            OldTopics { .. } | NoDirectories { .. } => {
                "Nothing was changed. Put back what belongs there, or mount what is not mounted; or let `weir log repair` give up what \
                 is gone."
            }
            Unlisted { .. } => {
                "Nothing was changed. Move them away; or let `weir log repair` take them in as the partition's."
            }
        }
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Objection::*;
        match self {
            NoMetadata { data_dir, topics, journals } => write!(
                f,
                "there is no metadata in {}/meta, and the directory has {topics} topics and {journals} journals",
                data_dir.display()
            ),
            ForeignMetadata { metadata, checkpoints } => write!(
                f,
                "the metadata is of directory {metadata}, and the checkpoints of every journal are of {checkpoints}"
            ),
            ForeignJournal { shard, directory } => {
                write!(f, "journal/{shard} is of another directory ({directory}) than the metadata")
            }
            OldMetadata { has, needs, shard } => write!(
                f,
                "the metadata is old: it has {has} changes, and there were {needs} when the checkpoint in \
                 journal/{shard} was made"
            ),
            UnknownTopics { shard, first, count } => write!(
                f,
                "the metadata is not what it was: it neither has nor deleted {count} topics of journal/{shard}'s and \
                 other checkpoints, the first is {first}"
            ),
            MisplacedJournal { shard, its, of } => {
                write!(f, "journal/{shard} has the journal of shard {its} of {of}")
            }
            NoJournal { shard, shards } => {
                write!(f, "journal/{shard} is missing or empty, and topics were kept by {shards} shards")
            }
            NoCheckpoint { shard, damaged: true } => {
                write!(f, "the checkpoint in journal/{shard} is damaged, and so is its copy")
            }
            NoCheckpoint { shard, damaged: false } => {
                write!(f, "journal/{shard} has files of a journal, and no checkpoint beside them")
            }
            NoJournalFiles { shard } => {
                write!(f, "journal/{shard} has a checkpoint and none of the files that it goes on in")
            }
            OldJournal { shard, number, seen } => write!(
                f,
                "journal/{shard} is old: its checkpoint is number {number}, and topics' files have seen number {seen}"
            ),
            OldTopics { shard, seen, needs } => write!(
                f,
                "topics/ is old, or was emptied: its files know checkpoint {seen} of shard {shard}, and knew {needs} before"
            ),
            NoDirectories { first, count, of } => write!(
                f,
                "topics/ lacks {count} of {of} directories that have records by the checkpoints, the first is {first}"
            ),
            Unlisted { directory } => {
                write!(f, "topics/{directory} has segments, and by its checkpoint the partition has none")
            }
        }
    }
}
