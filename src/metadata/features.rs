//! The level of what brokers write and send (`weir.version`): what a build can run, and what a cluster has agreed on. A level
//! is raised by an operator once every broker can run it; until then an older build still finds its way.

use super::records::FeatureRange;

pub const VERSION: &str = "weir.version";
/// The levels that this build runs.
pub const MIN_LEVEL: i16 = 1;
pub const MAX_LEVEL: i16 = 1;

/// What this build registers with.
pub fn supported() -> Vec<FeatureRange> {
    vec![FeatureRange { name: VERSION.into(), min: MIN_LEVEL, max: MAX_LEVEL }]
}
