//! The features that this build offers (KIP-584), with the levels at which it can and does run them: what ApiVersions
//! tells and UpdateFeatures compares with.

/// One feature.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    pub name: &'static str,
    pub min: i16,
    pub max: i16,
    pub level: i16,
}

/// By name.
pub const FEATURES: &[Feature] = &[
    // From 2 on Produce 12 adds partitions to transactions and EndTxn 5 gives each an epoch: clients rely on both.
    Feature { name: "transaction.version", min: 0, max: 2, level: 2 },
];
