//! Which replicas are held to what a broker may spend on replication (KIP-73).

use super::BrokerId;
use super::config_def::list_items;

/// As `leader.replication.throttled.replicas` and its like for followers name them.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ThrottledReplicas {
    #[default]
    None,
    All,
    /// Partitions and the brokers that hold them.
    These(Box<[(i32, BrokerId)]>),
}

impl ThrottledReplicas {
    /// What is no pair of numbers names nothing.
    pub fn parse(text: &str) -> Self {
        if text == "*" {
            return Self::All;
        }
        let pair = |item: &str| {
            let (partition, broker) = item.split_once(':')?;
            Some((partition.parse().ok()?, broker.parse().ok()?))
        };
        let pairs: Vec<_> = list_items(text).filter_map(pair).collect();
        if pairs.is_empty() { Self::None } else { Self::These(pairs.into()) }
    }

    pub fn has(&self, partition: i32, broker: BrokerId) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::These(pairs) => pairs.contains(&(partition, broker)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_name_replicas_and_a_star_names_all() {
        let of = |text| {
            let these = ThrottledReplicas::parse(text);
            [(0, 1), (0, 2), (3, 1)].map(|(partition, broker)| these.has(partition, broker))
        };
        assert_eq!([of(""), of("*"), of("x:1, 7")], [[false; 3], [true; 3], [false; 3]]);
        assert_eq!(of("0:2, 3:1"), [false, true, true]);
    }
}
