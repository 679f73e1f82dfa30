//! Quantities of the domain, each a type of its own, so that one is not taken for another. None is negative: what the
//! wire writes as -1 is a `None` here ([`Offset::from_wire`]).

use std::fmt;

macro_rules! quantity {
    ($($(#[$doc:meta])* $name:ident($int:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $int);

        impl $name {
            pub const ZERO: Self = Self(0);

            /// From a field in which a negative number, -1 as a rule, stands for none.
            pub fn from_wire(value: $int) -> Option<Self> {
                (value >= 0).then_some(Self(value))
            }

            /// For such a field.
            pub fn to_wire(of: Option<Self>) -> $int {
                of.map_or(-1, |of| of.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

quantity! {
    /// A record's place in its partition, or the place that the next one gets.
    Offset(i64);
    /// Counts the leaders of a partition: it rises with every election.
    LeaderEpoch(i32);
    /// Counts the changes of a partition's state, of its ISR too; a proposed change names the one that it rests on (KIP-497).
    PartitionEpoch(i32);
    /// Counts the lives of a broker: the number of its registration, which a restart replaces.
    BrokerEpoch(i64);
    /// What a producer is given by the cluster: no other ever has it.
    ProducerId(i64);
    /// Counts the lives of a producer under one id: whoever has a lower one is fenced.
    ProducerEpoch(i16);
    /// Milliseconds of a clock that only goes forward; where it begins means nothing.
    MonoMs(i64);
    /// Milliseconds since 1970 by this broker's wall clock, which may be set back.
    WallMs(i64);
}

/// A producer in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

impl Producer {
    pub fn new(id: i64, epoch: i16) -> Self {
        Self { id: ProducerId(id), epoch: ProducerEpoch(epoch) }
    }
}

impl LeaderEpoch {
    /// After another election.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl PartitionEpoch {
    /// After another change.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl WallMs {
    /// So many milliseconds earlier.
    pub fn before(self, ms: i64) -> Self {
        Self(self.0.saturating_sub(ms))
    }
}

impl MonoMs {
    /// Milliseconds since `earlier`; 0 if that is later.
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_wire_has_no_value_for_is_none() {
        for (wire, offset) in [(-1, None), (i64::MIN, None), (0, Some(Offset(0))), (7, Some(Offset(7)))] {
            assert_eq!(Offset::from_wire(wire), offset);
            assert_eq!(Offset::to_wire(offset), wire.max(-1));
        }
        assert_eq!((MonoMs(7).since(MonoMs(3)), MonoMs(3).since(MonoMs(7))), (4, 0));
    }
}
