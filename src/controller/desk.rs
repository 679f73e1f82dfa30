//! A controller that commits each decision by itself and waits for it: for tests and measurements, and on a directory for
//! rigs that need metadata on disk without a control thread.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{
    ControlError, ControlErrorKind, ControlReply, ControlRequest, Controller, Place, Registration, register,
};
use crate::metadata::quorum::{Commit, Decided};
use crate::metadata::{Image, MetadataError, Store, new_id};
use crate::model::{BrokerSettings, MonoMs};
use crate::rt;

pub struct Desk {
    controller: Controller<()>,
    store: Option<Store>,
    /// The directory of partitions.
    home: PathBuf,
}

impl Desk {
    /// Opens the metadata in `dir`, or begins a cluster there, and registers this broker.
    pub fn open(dir: &Path, settings: &BrokerSettings) -> Result<Self, MetadataError> {
        let mut store = Store::open(dir, settings.broker_id)?;
        let registration = Registration::of(settings, 1, store.me().directory, new_id().0);
        let records = register(store.image(), store.image().version + 1, &registration);
        store.commit(vec![records])?;
        Ok(Self::with(store.image().clone(), Some(store), settings))
    }

    /// A cluster of this broker that is nowhere but in memory.
    pub fn in_memory(settings: &BrokerSettings) -> Self {
        let cluster = crate::metadata::records::Record::Cluster { id: new_id().to_string() };
        let (image, _) = Image::empty().with(&[cluster]).expect("an id contradicts nothing");
        let records = register(&image, 2, &Registration::of(settings, 1, [1; 16], [1; 16]));
        let (image, _) = image.with(&records).expect("a registration contradicts nothing");
        Self::with(image, None, settings)
    }

    fn with(image: Image, store: Option<Store>, settings: &BrokerSettings) -> Self {
        let mut controller = Controller::new(Arc::new(image), settings.clone());
        controller.lead(store.as_ref().map_or(1, Store::epoch), MonoMs::ZERO);
        Self { controller, store, home: PathBuf::from(&settings.log_dir) }
    }

    pub fn image(&self) -> Arc<Image> {
        self.controller.image().clone()
    }

    /// Carries out one request. What it answers is durable, unless it answers an error.
    pub fn handle(&mut self, request: &ControlRequest) -> ControlReply {
        let occupied = occupied(&self.home, self.controller.places(request));
        let mut step = self.controller.handle((), request, MonoMs::ZERO, &mut new_id, &occupied);
        if !step.propose.is_empty() {
            let proposed = std::mem::take(&mut step.propose);
            let committed = match &mut self.store {
                Some(store) => store.commit_decided(proposed),
                None => {
                    let commit = |Decided { records, image }: Decided| Commit {
                        offset: image.version,
                        epoch: 1,
                        records,
                    };
                    Ok(proposed.into_iter().map(commit).collect())
                }
            };
            step.answers = match committed {
                Ok(commits) => self.controller.on_committed(&commits).answers,
                Err(error) => {
                    let error = ControlError::new(ControlErrorKind::Unavailable, error.to_string());
                    self.controller.on_lost(&error)
                }
            };
        }
        self.store.iter_mut().for_each(Store::trim);
        step.answers.pop().expect("one answer to one request").1
    }
}

/// Those of the places that have files. Blocks.
pub fn occupied(home: &Path, places: Vec<Place>) -> BTreeSet<Place> {
    let has_files = |(topic, index): &Place| {
        rt::fs::read_dir_names(home.join(format!("{topic}-{index}"))).is_ok_and(|names| !names.is_empty())
    };
    places.into_iter().filter(has_files).collect()
}
