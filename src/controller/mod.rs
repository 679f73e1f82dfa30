//! The single node's controller: takes a request, decides, makes the decision durable, applies it.
//! Runs on the control thread, where blocking on the disk is allowed; one request at a time.
//!
//! Invariant: an image is handed out only after the records that made it are on disk.

mod decide;
mod internal;
pub mod rebuild;
pub mod request;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

pub use internal::internal_topic;
pub use request::{
    ConfigChange, ConfigOp, ConfigResource, ControlError, ControlErrorKind, ControlReply, ControlRequest,
    NewPartitions, NewTopic, QuotaChange, TopicRef,
};

use crate::metadata::Image;
use crate::metadata::log::{Commit, MetadataError, MetadataLog};
use crate::metadata::records::Record;
use crate::model::{BrokerSettings, TopicId};
use decide::{Decision, Outcome};

pub struct Controller {
    log: MetadataLog,
    image: Arc<Image>,
    settings: BrokerSettings,
}

impl Controller {
    /// Opens the metadata in `dir`, or begins a new cluster there, and notes that this broker started.
    pub fn open(dir: &Path, settings: &BrokerSettings) -> Result<Self, MetadataError> {
        let mut image = Image::empty(settings);
        let log = match MetadataLog::open(dir)? {
            Some((log, commits)) => {
                apply_all(&mut image, log.path(), &commits)?;
                log
            }
            None => {
                let records = [Record::Cluster { id: random_id()?.to_string() }];
                let log = MetadataLog::create(dir, 1, &records)?;
                image = image.with(&records).expect("a cluster id applies to an empty image");
                log
            }
        };
        check_broker(&image, settings)?;
        let mut controller = Self { log, image: Arc::new(image), settings: settings.clone() };
        if controller.image.partition_count() > 0 {
            controller.commit(&[Record::BrokerStarted { broker: settings.broker_id }])?;
        }
        Ok(controller)
    }

    /// The image that the metadata in `dir` makes, if there is any: nothing is changed on disk.
    pub fn inspect(dir: &Path, settings: &BrokerSettings) -> Result<Option<Image>, MetadataError> {
        let Some((path, commits)) = MetadataLog::inspect(dir)? else { return Ok(None) };
        let mut image = Image::empty(settings);
        apply_all(&mut image, &path, &commits)?;
        Ok(Some(image))
    }

    /// Makes `image` the metadata in `dir`, where there is none.
    pub fn write_anew(dir: &Path, image: &Image) -> Result<(), MetadataError> {
        MetadataLog::create(dir, image.version, &image.snapshot()).map(drop)
    }

    /// An id that nothing has.
    pub fn new_id() -> Result<TopicId, MetadataError> {
        random_id()
    }

    pub fn image(&self) -> Arc<Image> {
        self.image.clone()
    }

    /// Carries out one request. What it answers is durable, unless it answers an error.
    pub fn handle(&mut self, request: ControlRequest, _now_ms: i64) -> ControlReply {
        let home = Path::new(&self.settings.log_dir);
        let occupied = |topic: &str, index| has_files(&home.join(format!("{topic}-{index}")));
        let decided = decide::decide(&self.image, &self.settings, request, &mut random_id, &occupied);
        let Decision { records, outcome, validate_only } = match decided {
            Ok(decision) => decision,
            Err(error) => return failed(&error),
        };
        if validate_only {
            let would_be = self.image.with(&records);
            return match would_be {
                Ok(image) => reply(&image, outcome),
                Err(error) => ControlReply::Failed(ControlError::new(
                    ControlErrorKind::InvalidRequest,
                    error.to_string(),
                )),
            };
        }
        if !records.is_empty()
            && let Err(error) = self.commit(&records)
        {
            log::error!("metadata change refused: {error}");
            return failed(&error);
        }
        reply(&self.image, outcome)
    }

    fn commit(&mut self, records: &[Record]) -> Result<(), MetadataError> {
        let mut next = self.image.with(records).map_err(|error| MetadataError::Corrupt {
            path: self.log.path().to_path_buf(),
            offset: 0,
            what: format!("a new change does not fit: {error}"),
        })?;
        next.version = self.log.append(records)?;
        self.image = Arc::new(next);
        if self.log.wants_rewrite()
            && let Err(error) = self.log.rewrite(&self.image.snapshot())
        {
            log::error!("the metadata log could not be rewritten and goes on growing: {error}");
        }
        Ok(())
    }
}

fn apply_all(image: &mut Image, path: &Path, commits: &[Commit]) -> Result<(), MetadataError> {
    for (number, records) in commits {
        image.apply(records).map_err(|error| MetadataError::Corrupt {
            path: path.to_path_buf(),
            offset: 0,
            what: format!("change {number} does not fit those before it: {error}"),
        })?;
        image.version = *number;
    }
    Ok(())
}

fn has_files(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

fn failed(error: &MetadataError) -> ControlReply {
    ControlReply::Failed(ControlError::new(ControlErrorKind::Unavailable, error.to_string()))
}

fn reply(image: &Image, outcome: Outcome) -> ControlReply {
    match outcome {
        Outcome::Created(results) => {
            let topic = |id| image.topic_by_id(id).cloned().expect("a created topic is in its image");
            ControlReply::CreateTopics(results.into_iter().map(|r| r.map(topic)).collect())
        }
        Outcome::Deleted(results) => ControlReply::DeleteTopics(results),
        Outcome::Partitions(results) => ControlReply::CreatePartitions(results),
        Outcome::Configs(results) => ControlReply::AlterConfigs(results),
        Outcome::Quotas(results) => ControlReply::AlterQuotas(results),
        Outcome::ProducerIds(result) => ControlReply::ProducerIds(result),
    }
}

/// One node leads all there is: partitions of another broker would never be served.
fn check_broker(image: &Image, settings: &BrokerSettings) -> Result<(), MetadataError> {
    let mut leaders = image.topics().flat_map(|topic| &topic.partitions).map(|p| p.leader);
    match leaders.find(|leader| *leader != settings.broker_id) {
        Some(stored) => Err(MetadataError::OtherBroker { stored, configured: settings.broker_id }),
        None => Ok(()),
    }
}

/// A random (version 4) UUID that is fit to be a topic's or a cluster's id. One that begins with a dash
/// would look like an option on a command line.
fn random_id() -> Result<TopicId, MetadataError> {
    let path = Path::new("/dev/urandom");
    let error = |source| MetadataError::Io { doing: "read", path: path.to_path_buf(), source };
    let mut source = fs::File::open(path).map_err(error)?;
    loop {
        let mut bytes = [0; 16];
        source.read_exact(&mut bytes).map_err(error)?;
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let id = TopicId(bytes);
        if !id.to_string().starts_with('-') {
            return Ok(id);
        }
    }
}

#[cfg(test)]
mod tests;
