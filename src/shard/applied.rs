//! The metadata as this shard has applied it, and what this broker's own configuration makes of it.

use std::cell::RefCell;
use std::sync::Arc;

use crate::metadata::{Image, Resolver, Topic};
use crate::model::{Live, PartitionId, TopicConfig};
use crate::rt::{Listen, Notify};

pub(super) struct Applied {
    image: RefCell<Arc<Image>>,
    resolver: Resolver,
    /// What the resolver makes of the image's settings that can be changed while the broker runs.
    live: RefCell<Arc<Live>>,
    live_changed: Notify,
}

impl Applied {
    pub(super) fn new(image: Arc<Image>, resolver: Resolver) -> Self {
        let live = RefCell::new(Arc::new(resolver.live(&image)));
        Self { image: RefCell::new(image), resolver, live, live_changed: Notify::new() }
    }

    pub(super) fn image(&self) -> Arc<Image> {
        self.image.borrow().clone()
    }

    /// Looks at the image without keeping it.
    pub(super) fn look<T>(&self, at: impl FnOnce(&Image) -> T) -> T {
        at(&self.image.borrow())
    }

    /// Whether there is such a partition, on whichever broker.
    pub(super) fn knows(&self, partition: PartitionId) -> bool {
        self.look(|image| {
            image.topic_by_id(partition.topic).is_some_and(|topic| topic.partition(partition.index).is_some())
        })
    }

    /// What a topic runs with on this broker.
    pub(super) fn topic_config(&self, topic: &Topic) -> Arc<TopicConfig> {
        self.look(|image| self.resolver.topic(image, &topic.overrides))
    }

    pub(super) fn live(&self) -> Arc<Live> {
        self.live.borrow().clone()
    }

    pub(super) fn verifies_transactions(&self) -> bool {
        self.live.borrow().verify_transactions
    }

    /// The next change of the live settings.
    pub(super) fn live_changed(&self) -> Listen {
        self.live_changed.listen()
    }

    pub(super) fn replace(&self, image: Arc<Image>) {
        self.image.replace(image);
    }

    /// To be called when the image's configurations of brokers have changed.
    pub(super) fn resolve_live(&self) {
        let live = self.look(|image| self.resolver.live(image));
        if **self.live.borrow() != live {
            self.live.replace(Arc::new(live));
            self.live_changed.notify_all();
        }
    }
}
