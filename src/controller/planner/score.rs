//! How good a plan is, by the goals in their order.

use std::ops::{Add, Sub};

/// How far it is from how it should be, the first goal first. The less the better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    pub dead: i128,
    pub racks: i128,
    pub replicas: i128,
    pub bytes: i128,
    pub leaders: i128,
    pub rates: i128,
    pub spread: i128,
}

macro_rules! by_field {
    ($op:ident, $fn:ident) => {
        impl $op for Score {
            type Output = Self;

            fn $fn(self, other: Self) -> Self {
                Self {
                    dead: self.dead.$fn(other.dead),
                    racks: self.racks.$fn(other.racks),
                    replicas: self.replicas.$fn(other.replicas),
                    bytes: self.bytes.$fn(other.bytes),
                    leaders: self.leaders.$fn(other.leaders),
                    rates: self.rates.$fn(other.rates),
                    spread: self.spread.$fn(other.spread),
                }
            }
        }
    };
}
by_field!(Add, add);
by_field!(Sub, sub);

/// What is off by more than may be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Off {
    pub replicas: bool,
    pub bytes: bool,
    pub leaders: bool,
    pub rates: bool,
}
