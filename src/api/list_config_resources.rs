//! ListConfigResources (KIP-1142): the names of what has, or may have, a configuration.

use kafka_wire::list_config_resources_response::ConfigResource;
use kafka_wire::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use kafka_wire_core::StrBytes;

use super::common::build;
use super::describe_configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use super::request::Cx;
use crate::metadata::Image;
use crate::metadata::records::Owner;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

const ALL_TYPES: &[i8] = &[TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
/// Before version 1 there was only this.
const OLD_TYPES: &[i8] = &[CLIENT_METRICS];

pub async fn handle(cx: &Cx, request: ListConfigResourcesRequest) -> ListConfigResourcesResponse {
    if let Err(error) = cx.admit(Operation::DescribeConfigs, Resource::Cluster) {
        return build(|r: &mut ListConfigResourcesResponse| r.error_code = error.code());
    }
    let response = answer(&cx.shard.image(), &request, cx.version);
    cx.count(ErrorCode::from_code(response.error_code));
    response
}

fn answer(image: &Image, request: &ListConfigResourcesRequest, version: i16) -> ListConfigResourcesResponse {
    let supported = if version == 0 { OLD_TYPES } else { ALL_TYPES };
    let wanted: &[i8] = match request.resource_types.is_empty() || version == 0 {
        true => supported,
        false => &request.resource_types,
    };
    if wanted.iter().any(|kind| !supported.contains(kind)) {
        return build(|r: &mut ListConfigResourcesResponse| {
            r.error_code = ErrorCode::UnsupportedVersion.code();
        });
    }
    let mut found = Vec::new();
    let mut add = |kind: i8, name: StrBytes| {
        found.push(build(|r: &mut ConfigResource| {
            r.resource_name = name;
            // The only type that version 0 lists is also the one it means without saying.
            r.resource_type = if version == 0 { CLIENT_METRICS } else { kind };
        }));
    };
    for owner in image.overrides.keys() {
        match owner {
            Owner::Group(name) if wanted.contains(&GROUP) => add(GROUP, name.as_str().into()),
            Owner::ClientMetrics(name) if wanted.contains(&CLIENT_METRICS) => {
                add(CLIENT_METRICS, name.as_str().into());
            }
            _ => {}
        }
    }
    // This broker has no loggers that a client could set, so none is listed.
    if wanted.contains(&BROKER) {
        image.brokers().for_each(|b| add(BROKER, b.id.to_string().into()));
    }
    if wanted.contains(&TOPIC) {
        image.topics().for_each(|t| add(TOPIC, t.wire_name()));
    }
    build(|r: &mut ListConfigResourcesResponse| r.config_resources = found)
}

#[cfg(test)]
mod tests {
    use super::super::common::testing::{controller, round_trip};
    use super::*;

    #[test]
    fn each_version_lists_what_it_knows() {
        let controller = controller(&[("a", 1)]);
        let image = controller.image();
        let ask = |types: &[i8], version| {
            let mut request = ListConfigResourcesRequest::default();
            request.resource_types = types.to_vec();
            let reply = round_trip(&answer(&image, &request, version), version);
            let names: Vec<_> = reply.config_resources.iter().map(|r| r.resource_name.to_string()).collect();
            (reply.error_code, names)
        };
        assert_eq!(ask(&[], 0), (0, vec![]));
        assert_eq!(ask(&[], 1), (0, vec!["1".to_string(), "a".to_string()]));
        assert_eq!(ask(&[TOPIC], 1), (0, vec!["a".to_string()]));
        assert_eq!(ask(&[TOPIC, 77], 1), (35, vec![]));
    }
}
