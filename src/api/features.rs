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

/// By name. None yet: whatever Kafka ties to a feature is absent here.
pub const FEATURES: &[Feature] = &[];
