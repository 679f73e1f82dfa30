//! Configurations that the whole cluster has to agree on, and so come from metadata alone: what a topic says, then what every
//! broker is told. Settings of one broker have no say (brokers that disagree break KIP-966).

use super::image::{Image, Overrides};
use super::records::Owner;

/// A topic's value by its own name, or every broker's by theirs.
pub fn cluster_config<'a>(
    image: &'a Image,
    overrides: &'a Overrides,
    name: &str,
    broker_name: &str,
) -> Option<&'a str> {
    let every = || image.overrides.get(&Owner::EveryBroker)?.get(broker_name);
    overrides.get(name).or_else(every).map(String::as_str)
}

pub const MIN_INSYNC: &str = "min.insync.replicas";

/// How many have to be in sync for anything to be committed, of a partition with so many replicas: what
/// `min.insync.replicas` says, but never more than there are (Kafka's `effectiveMinIsr`).
pub fn min_insync(image: &Image, overrides: &Overrides, replicas: usize) -> usize {
    let set =
        cluster_config(image, overrides, MIN_INSYNC, MIN_INSYNC).and_then(|value| value.trim().parse().ok());
    set.unwrap_or_else(|| auto_min_insync(replicas)).clamp(1, replicas.max(1))
}

/// Where nothing is said: two from three replicas on, so that what is acknowledged outlives one of them; one where a second could not
/// be lost without stopping everything.
pub fn auto_min_insync(replicas: usize) -> usize {
    if replicas < 3 { 1 } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::super::records::Record;
    use super::*;

    #[test]
    fn one_who_is_not_asked_has_no_say() {
        let set = |owner, value: &str| Record::Config {
            owner,
            name: "min.insync.replicas".into(),
            value: Some(value.into()),
        };
        let (image, _) = Image::empty().with(&[set(Owner::Broker(1), "3")]).unwrap();
        let none = Overrides::new();
        assert_eq!([1, 2, 3, 4, 5, 7].map(|n| min_insync(&image, &none, n)), [1, 1, 2, 2, 2, 2]);
        let (image, _) = image.with(&[set(Owner::EveryBroker, "2")]).unwrap();
        assert_eq!([1, 2, 5].map(|n| min_insync(&image, &none, n)), [1, 2, 2]);
        let own = Overrides::from([("min.insync.replicas".to_owned(), "1".to_owned())]);
        assert_eq!(min_insync(&image, &own, 3), 1);
    }
}
