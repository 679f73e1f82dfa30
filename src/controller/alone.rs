//! The broker of this process, where it is the controller of its own cluster: it registers by its own word, and serves at once.

use super::brokers::Registration;
use super::decide::membership;
use super::decide::view::View;
use super::index::Index;
use crate::metadata::records::{Owner, Record};
use crate::metadata::{Image, MIN_INSYNC};
use crate::model::{BrokerSettings, MonoMs};

/// What a broker's settings say for the whole cluster, where that has not been said: brokers that disagree about how many have
/// to be in sync break KIP-966.
pub fn for_all(image: &Image, settings: &BrokerSettings) -> Option<Record> {
    let value = settings.topic_defaults.get(MIN_INSYNC)?;
    let said = image.overrides.get(&Owner::EveryBroker).and_then(|all| all.get(MIN_INSYNC));
    said.is_none().then(|| Record::Config {
        owner: Owner::EveryBroker,
        name: MIN_INSYNC.into(),
        value: Some(value.clone()),
    })
}

/// The records of a broker that comes in a new life and is the controller, to be committed at `offset`, all at once. One that
/// has no id yet is broker 1.
pub fn register(image: &Image, offset: u64, registration: &Registration) -> Vec<Record> {
    let index = Index::of(image, MonoMs::ZERO);
    let view = View { image, index: &index };
    membership::come(&view, registration.id.unwrap_or(1), registration, true, |_| offset).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BrokerEpoch, BrokerId, PartitionId, TopicId};

    const TOPIC: TopicId = TopicId([1; 16]);

    fn come(image: &Image, id: BrokerId, incarnation: u8) -> Image {
        let settings = BrokerSettings { broker_id: id, ..BrokerSettings::default() };
        let registration = Registration::of(&settings, 2, [9; 16], [incarnation; 16]);
        image.with(&register(image, image.version + 1, &registration)).unwrap().0
    }

    fn partition(image: &Image, index: i32) -> (Option<BrokerId>, i32, Vec<BrokerId>) {
        let partition = image.partition(PartitionId { topic: TOPIC, index }).unwrap();
        (partition.leader, partition.leader_epoch.0, partition.isr().collect())
    }

    #[test]
    fn a_life_has_an_epoch_of_its_own() {
        let image = come(&Image::empty(), 1, 1);
        let first = image.broker(1).unwrap().clone();
        assert_eq!((first.epoch, first.fenced, first.shards), (BrokerEpoch(image.version as i64), false, 2));
        let again = come(&image, 1, 2);
        let second = again.broker(1).unwrap();
        assert!(second.epoch > first.epoch && second.incarnation != first.incarnation);
    }

    #[test]
    fn how_many_have_to_be_in_sync_is_said_once_for_all() {
        let mut settings = BrokerSettings::default();
        assert_eq!(for_all(&Image::empty(), &settings), None);
        settings.topic_defaults.insert(MIN_INSYNC.into(), "2".into());
        let (image, _) = Image::empty()
            .with(&for_all(&Image::empty(), &settings).into_iter().collect::<Vec<_>>())
            .unwrap();
        assert_eq!(crate::metadata::min_insync(&image, &Default::default(), 3), 2);
        settings.topic_defaults.insert(MIN_INSYNC.into(), "1".into());
        assert_eq!(for_all(&image, &settings), None, "the cluster's stands");
    }

    #[test]
    fn who_alone_is_in_sync_is_elected_again_and_others_lead_on() {
        let image = come(&come(&Image::empty(), 1, 1), 2, 1);
        let replicas: [&[BrokerId]; 4] = [&[1], &[2], &[1, 2], &[2, 1]];
        let mut records = vec![Record::Topic { id: TOPIC, name: "t".into() }];
        records.extend((0..).zip(replicas).map(|(index, ids)| Record::new_partition(TOPIC, index, ids)));
        let image = come(&image.with(&records).unwrap().0, 1, 2);
        let all = [0, 1, 2, 3].map(|index| partition(&image, index));
        assert_eq!(all[0], (Some(1), 1, vec![1]), "elected again");
        assert_eq!(all[1], (Some(2), 0, vec![2]), "it has no part in it");
        assert_eq!(all[2], (Some(2), 1, vec![2]), "the other one leads");
        assert_eq!(all[3], (Some(2), 0, vec![2]), "no election for a mere shrink");
        // Fenced while it alone was in sync, it is eligible, and leads again when it comes.
        let fenced = |leader, isr, elr| Record::PartitionChanged {
            topic: TOPIC,
            index: 0,
            leader,
            replicas: None,
            isr,
            elr,
            adding: None,
            removing: None,
            last_known: None,
            recovering: None,
        };
        let (image, _) = image.with(&[fenced(Some(None), Some(vec![]), Some(vec![1]))]).unwrap();
        assert_eq!(partition(&come(&image, 1, 3), 0), (Some(1), 3, vec![1]));
    }
}
