//! ApiVersions: what this broker serves. The one API that must be understood before anything is agreed on.

use kafka_wire::api_versions_response::{ApiVersion as Range, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_wire::{ApiVersionsRequest, ApiVersionsResponse};

use super::common::build;
use super::features::{FEATURES, Feature};
use super::frames::respond_in;
use super::request::{Api, Cx, Pending};
use crate::shard::context::Software;
use crate::wire::ErrorCode;

pub const KEY: i16 = 18;
/// From here on a client says what software it is.
const CLIENT_NAMED_FROM: i16 = 3;
const FEATURES_FROM: i16 = 3;

/// `served`: each API's key, with its lowest and its highest version.
pub async fn handle(
    cx: &Cx,
    request: ApiVersionsRequest,
    served: impl Iterator<Item = (i16, i16, i16)>,
) -> ApiVersionsResponse {
    let response = answer(&request, cx.version, served);
    if cx.version >= CLIENT_NAMED_FROM && response.error_code == ErrorCode::None.code() {
        let (name, version) = (&request.client_software_name, &request.client_software_version);
        cx.connection.set_software(Software::new(name, version));
    }
    cx.count(ErrorCode::from_code(response.error_code));
    response
}

/// The answer to a version that is not served: in the oldest body, with the one range that the client
/// needs to ask again.
pub fn start_unsupported(cx: Cx) -> Pending {
    cx.count(ErrorCode::UnsupportedVersion);
    let response = unsupported(cx.api);
    Box::pin(async move { respond_in(&cx, &response, 0) })
}

fn answer(
    request: &ApiVersionsRequest,
    version: i16,
    served: impl Iterator<Item = (i16, i16, i16)>,
) -> ApiVersionsResponse {
    let named = [&request.client_software_name, &request.client_software_version];
    if version >= CLIENT_NAMED_FROM && !named.iter().all(|name| is_software_name(name)) {
        return build(|r: &mut ApiVersionsResponse| r.error_code = ErrorCode::InvalidRequest.code());
    }
    build(|r: &mut ApiVersionsResponse| {
        r.api_keys = served.map(range).collect();
        if version >= FEATURES_FROM {
            r.supported_features = supported(version).collect();
            r.finalized_features_epoch = 0;
            r.finalized_features = FEATURES.iter().map(finalized).collect();
        }
    })
}

/// Clients up to version 3 cannot read a feature that may be off (KAFKA-17011).
fn supported(version: i16) -> impl Iterator<Item = SupportedFeatureKey> {
    let told = move |feature: &&Feature| version > 3 || feature.min > 0;
    FEATURES.iter().filter(told).map(|feature| {
        build(|key: &mut SupportedFeatureKey| {
            key.name = feature.name.into();
            (key.min_version, key.max_version) = (feature.min, feature.max);
        })
    })
}

fn finalized(feature: &Feature) -> FinalizedFeatureKey {
    build(|key: &mut FinalizedFeatureKey| {
        key.name = feature.name.into();
        (key.min_version_level, key.max_version_level) = (feature.level, feature.level);
    })
}

fn unsupported(own: &Api) -> ApiVersionsResponse {
    build(|r: &mut ApiVersionsResponse| {
        r.error_code = ErrorCode::UnsupportedVersion.code();
        r.api_keys = vec![range((own.key, own.advertised_min, own.max))];
    })
}

fn range((api_key, min, max): (i16, i16, i16)) -> Range {
    build(|range: &mut Range| {
        range.api_key = api_key;
        range.min_version = min;
        range.max_version = max;
    })
}

/// Letters and digits, with dots and dashes between them.
fn is_software_name(name: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::super::common::testing::round_trip;
    use super::*;

    const SERVED: [(i16, i16, i16); 3] = [(0, 0, 13), (3, 0, 13), (18, 0, 4)];

    fn request(name: &str, version: &str) -> ApiVersionsRequest {
        build(|r: &mut ApiVersionsRequest| {
            r.client_software_name = name.into();
            r.client_software_version = version.into();
        })
    }

    #[test]
    fn the_list_is_told_at_every_version() {
        for version in 0..=4 {
            let response =
                round_trip(&answer(&request("weir-test", "1.0"), version, SERVED.into_iter()), version);
            let got: Vec<_> =
                response.api_keys.iter().map(|a| (a.api_key, a.min_version, a.max_version)).collect();
            assert_eq!(got, SERVED);
            assert_eq!(response.error_code, 0);
            assert_eq!(response.finalized_features.len(), if version >= 3 { 1 } else { 0 });
            assert_eq!(response.supported_features.len(), if version >= 4 { 1 } else { 0 }, "KAFKA-17011");
        }
    }

    #[test]
    fn a_malformed_client_name_is_refused_where_there_is_one() {
        for (name, version) in [("", "1"), ("a", ""), ("-a", "1"), ("a b", "1"), ("a", "1.0-"), ("ä", "1")] {
            let refused = answer(&request(name, version), 3, SERVED.into_iter());
            assert_eq!(
                round_trip(&refused, 3).error_code,
                ErrorCode::InvalidRequest.code(),
                "{name} {version}"
            );
            assert!(refused.api_keys.is_empty());
            assert_eq!(answer(&request(name, version), 2, SERVED.into_iter()).error_code, 0);
        }
        assert_eq!(answer(&request("apache-kafka-java", "4.3.1"), 4, SERVED.into_iter()).error_code, 0);
    }

    #[test]
    fn a_version_of_tomorrow_is_told_what_to_ask_with() {
        let response = round_trip(&unsupported(super::super::table::find(KEY).unwrap()), 0);
        assert_eq!(response.error_code, 35);
        assert_eq!(response.api_keys.len(), 1);
        assert_eq!((response.api_keys[0].api_key, response.api_keys[0].max_version), (18, 4));
    }
}
