//! Logs of new partitions, and whose the directories are that they find.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::log::files::layout::partition_dir;
use crate::log::files::owner::{Owner, owner};
use crate::log::{LogError, PartitionCheckpoint, PartitionLog};
use crate::model::PartitionId;
use crate::model::topic_config::TopicConfig;
use crate::rt;

use super::ShardLog;
use super::held::Held;

impl ShardLog {
    /// A new partition's log. A directory of its name that is there already and is not its own stays as it is: the
    /// partition is marked and does not lead.
    pub fn create(
        &self,
        id: PartitionId,
        topic: impl Into<Arc<str>>,
        config: Arc<TopicConfig>,
    ) -> Rc<PartitionLog> {
        if let Some(log) = self.get(id) {
            return log;
        }
        let topic = topic.into();
        let dir = partition_dir(&self.data_dir, &topic, id.index);
        let open = |state| PartitionLog::open(dir.clone(), id, config.clone(), Some(state), &self.resources);
        let found = match rt::fs::exists(&dir) {
            false => Ok(None),
            true => in_the_way(&dir, id, self.trusts_unnamed).and_then(|why| match why {
                // What is there of its own was not acknowledged: it goes.
                None => open(PartitionCheckpoint::nothing()).map(|_| None),
                why => Ok(why),
            }),
        };
        let repair: Option<Arc<str>> = found.unwrap_or_else(|e| Some(e.to_string())).map(Into::into);
        let log = open(PartitionCheckpoint { clean: true, ..PartitionCheckpoint::nothing() })
            .expect("opening a log without files touches no disk");
        if let Some(why) = &repair {
            log::error!("{topic}-{} needs repair: {why}", id.index);
            log.mark_for_repair(why.clone());
        }
        self.partitions.add(id, Held::created(log.clone(), topic, repair));
        self.progress.touch();
        self.created.notify_all();
        log
    }
}

/// Why a partition cannot use its directory, if it is not the partition's own. `trusted`: one that names no topic is.
pub(super) fn in_the_way(dir: &Path, id: PartitionId, trusted: bool) -> Result<Option<String>, LogError> {
    let of = match owner(dir).map_err(|e| LogError::io(dir, e))? {
        Owner::Nobody => return Ok(None),
        Owner::Topic(topic) if topic == id.topic => return Ok(None),
        Owner::Unnamed if trusted => return Ok(None),
        Owner::Topic(topic) => format!("topic {topic}"),
        Owner::Unnamed => "no topic that is known".to_owned(),
    };
    Ok(Some(format!("{} is in the way: it holds files of {of}", dir.display())))
}
