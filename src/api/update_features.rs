//! UpdateFeatures (KIP-584): changes the level at which the cluster runs a feature. What this build offers is in
//! [`super::features`]; each runs at one level, so that asking for it is granted and anything else is refused.

use kafka_wire::update_features_request::FeatureUpdateKey;
use kafka_wire::update_features_response::UpdatableFeatureResult;
use kafka_wire::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use super::common::build;
use super::features::{FEATURES, Feature};
use super::request::Cx;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

/// From here on the request says in words what kind of change it wants.
const UPGRADE_TYPE_FROM: i16 = 1;
/// Up to here each feature has a result of its own.
const RESULTS_UNTIL: i16 = 1;
const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

pub async fn handle(cx: &Cx, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    if let Err(error) = cx.admit(Operation::Alter, Resource::Cluster) {
        return build(|r: &mut UpdateFeaturesResponse| r.error_code = error.code());
    }
    let response = answer(FEATURES, cx.shard.settings().broker_id, &request, cx.version);
    cx.count(ErrorCode::from_code(response.error_code));
    response
}

fn answer(
    features: &[Feature],
    broker: i32,
    request: &UpdateFeaturesRequest,
    version: i16,
) -> UpdateFeaturesResponse {
    let refused =
        request.feature_updates.iter().find_map(|update| refusal(features, broker, update, version));
    build(|r: &mut UpdateFeaturesResponse| match refused {
        Some(why) => {
            r.error_code = ErrorCode::InvalidUpdateVersion.code();
            let all = "The update failed for all features since the following feature had an error:";
            r.error_message = Some(format!("{all} {why}").into());
        }
        None if version <= RESULTS_UNTIL => {
            r.error_message = None;
            let result = |update: &FeatureUpdateKey| {
                build(|u: &mut UpdatableFeatureResult| {
                    u.feature = update.feature.clone();
                    u.error_message = Some(ErrorCode::None.name().into());
                })
            };
            r.results = request.feature_updates.iter().map(result).collect();
        }
        None => r.error_message = None,
    })
}

fn refusal(features: &[Feature], broker: i32, update: &FeatureUpdateKey, version: i16) -> Option<String> {
    let (name, wanted) = (&*update.feature, update.max_version_level);
    let kind = match (version >= UPGRADE_TYPE_FROM, update.allow_downgrade) {
        (true, _) => update.upgrade_type,
        (false, true) => SAFE_DOWNGRADE,
        (false, false) => UPGRADE,
    };
    let known = features.iter().find(|f| f.name == name);
    let level = known.map_or(0, |f| f.level);
    let why = match known {
        _ if !(UPGRADE..=UNSAFE_DOWNGRADE).contains(&kind) => {
            "The controller does not support the given upgrade type.".into()
        }
        _ if wanted < 0 => "A feature version cannot be less than 0.".into(),
        None if wanted > 0 => format!("Local controller {broker} does not support this feature."),
        Some(f) if !(f.min..=f.max).contains(&wanted) => {
            format!("Local controller {broker} only supports versions {}-{}", f.min, f.max)
        }
        _ if wanted < level && kind == UPGRADE => {
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe \
             downgrade."
                .into()
        }
        _ if wanted > level && kind != UPGRADE => "Can't downgrade to a newer version.".into(),
        _ if wanted != level => format!("This broker runs the feature at level {level} only."),
        _ => return None,
    };
    Some(format!("Invalid update version {wanted} for feature {name}. {why}"))
}

#[cfg(test)]
mod tests {
    use super::super::common::testing::round_trip;
    use super::*;

    #[test]
    fn a_feature_keeps_its_level() {
        let features = [Feature { name: "some.version", min: 0, max: 2, level: 2 }];
        let cases: [(&str, i16, i8, i16); 9] = [
            ("some.version", 2, UPGRADE, 0),
            ("some.version", 1, UPGRADE, 95),
            ("some.version", 1, SAFE_DOWNGRADE, 95),
            ("some.version", 3, UPGRADE, 95),
            ("some.version", -1, UPGRADE, 95),
            ("some.version", 2, 0, 95),
            ("other.version", 0, UPGRADE, 0),
            ("other.version", 1, UPGRADE, 95),
            ("other.version", 1, 77, 95),
        ];
        for version in 1..=2 {
            for (name, level, kind, code) in cases {
                let mut request = UpdateFeaturesRequest::default();
                request.feature_updates = vec![build(|u: &mut FeatureUpdateKey| {
                    u.feature = name.into();
                    u.max_version_level = level;
                    u.upgrade_type = kind;
                })];
                let reply = round_trip(&answer(&features, 1, &request, version), version);
                assert_eq!(reply.error_code, code, "{name} {level} {kind}: {:?}", reply.error_message);
                let results = usize::from(code == 0 && version <= RESULTS_UNTIL);
                assert_eq!(reply.results.len(), results);
            }
        }
    }
}
