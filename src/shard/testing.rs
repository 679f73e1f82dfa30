//! A shard for tests.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use super::Shard;
use super::connections::Connections;
use super::message::Port;
use super::serve::Start;
use crate::metadata::Image;
use crate::metadata::records::Record;
use crate::model::settings::BrokerSettings;
use crate::model::{BrokerId, TopicId};
use crate::rt::Doorbell;
use crate::rt::mesh::{self, Bell};

/// The only shard of the broker of the default id, with these topics; each has these replicas.
/// With it comes the control thread's end of the mesh.
pub async fn alone(dir: &Path, topics: &[(&str, Vec<Vec<BrokerId>>)]) -> (Rc<Shard>, Rc<Port>) {
    let settings = BrokerSettings { journal_file_bytes: 1 << 20, ..BrokerSettings::default() };
    let records: Vec<Record> = (1..)
        .zip(topics)
        .flat_map(|(id, (name, replicas))| {
            let id = TopicId([id; 16]);
            let partitions =
                (0..).zip(replicas).map(move |(index, ids)| Record::new_partition(id, index, ids));
            std::iter::once(Record::Topic { id, name: (*name).into() }).chain(partitions)
        })
        .collect();
    let (image, _) = Image::empty().with(&records).unwrap();
    let bells = [Bell::Shard(Arc::new(Doorbell::new().unwrap())), Bell::Control(flume::bounded(1).0)];
    let mut ends = mesh::build(&bells);
    let (control, end) = (Port::new(ends.remove(1)), ends.remove(0));
    let start = Start {
        index: 0,
        count: 1,
        end,
        data_dir: dir.into(),
        settings: Arc::new(settings),
        image: Arc::new(image),
        connections: Connections::new(1),
        session_seed: 0,
        strays: 0,
    };
    (Shard::open(start).await.unwrap(), control)
}
