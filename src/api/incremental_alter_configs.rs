//! IncrementalAlterConfigs: sets, deletes, appends to and subtracts from single configs.

use kafka_wire::incremental_alter_configs_request::AlterConfigsResource;
use kafka_wire::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_wire::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::alter_configs::{alter, may_alter, no_nulls, target, tell_idle};
use super::common::{build, code, message};
use super::describe_configs::denial;
use super::request::Cx;
use crate::controller::{ConfigChange, ConfigOp, ControlError, ControlErrorKind, ControlRequest};
use crate::wire::ErrorCode;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub async fn handle(cx: &Cx, mut request: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse {
    let validate_only = request.validate_only;
    let (allowed, denied) = cx.sort(std::mem::take(&mut request.resources), |cx, resource| {
        may_alter(cx, resource.resource_type, &resource.resource_name)
    });
    request.resources = allowed;
    let control = |resources| ControlRequest::IncrementalAlterConfigs { resources, validate_only };
    let results = alter(cx, request.resources.iter().map(check).collect(), control).await;
    for (resource, _) in request.resources.iter().zip(&results).filter(|(_, r)| r.is_ok() && !validate_only) {
        let set = resource.configs.iter().filter(|config| config.config_operation != DELETE);
        tell_idle(resource.resource_type, set.map(|config| &*config.name));
    }
    let mut response = answer(&request, results);
    response.responses.extend(denied.into_iter().map(|resource| {
        let error = denial(resource.resource_type);
        cx.count(error);
        build(|r: &mut AlterConfigsResourceResponse| {
            r.error_code = error.code();
            r.resource_type = resource.resource_type;
            r.resource_name = resource.resource_name;
        })
    }));
    response
}

fn check(
    resource: &AlterConfigsResource,
) -> Result<(crate::controller::ConfigResource, Vec<ConfigChange>), ControlError> {
    let target = target(resource.resource_type, &resource.resource_name)?;
    let null = |c: &&kafka_wire::incremental_alter_configs_request::AlterableConfig| {
        c.value.is_none() && c.config_operation != DELETE
    };
    let nulls: Vec<_> = resource.configs.iter().filter(null).map(|c| &*c.name).collect();
    no_nulls(&nulls)?;
    let change = |config: &kafka_wire::incremental_alter_configs_request::AlterableConfig| {
        let value = config.value.as_deref().unwrap_or_default().to_string();
        let op = match config.config_operation {
            SET => ConfigOp::Set(value),
            DELETE => ConfigOp::Delete,
            APPEND => ConfigOp::Append(value),
            SUBTRACT => ConfigOp::Subtract(value),
            other => {
                let why = format!("Unknown operations type {other}");
                return Err(ControlError::new(ControlErrorKind::InvalidRequest, why));
            }
        };
        Ok(ConfigChange { name: config.name.to_string(), op })
    };
    Ok((target, resource.configs.iter().map(change).collect::<Result<_, _>>()?))
}

fn answer(
    request: &IncrementalAlterConfigsRequest,
    results: Vec<Result<(), ControlError>>,
) -> IncrementalAlterConfigsResponse {
    let one = |(resource, result): (&AlterConfigsResource, Result<(), ControlError>)| {
        build(|r: &mut AlterConfigsResourceResponse| {
            r.resource_type = resource.resource_type;
            r.resource_name = resource.resource_name.clone();
            r.error_message = result.as_ref().err().and_then(message);
            r.error_code = result.err().map_or(ErrorCode::None, |error| code(&error)).code();
        })
    };
    let responses = request.resources.iter().zip(results).map(one).collect();
    build(|r: &mut IncrementalAlterConfigsResponse| r.responses = responses)
}

#[cfg(test)]
mod tests {
    use kafka_wire::incremental_alter_configs_request::AlterableConfig;

    use super::super::alter_configs::{Checked, merge, take_good};
    use super::super::common::testing::{controller, round_trip};
    use super::super::describe_configs::TOPIC;
    use super::*;

    fn resource(name: &str, changes: &[(&str, i8, Option<&str>)]) -> AlterConfigsResource {
        build(|r: &mut AlterConfigsResource| {
            r.resource_type = TOPIC;
            r.resource_name = name.into();
            r.configs = changes
                .iter()
                .map(|(name, op, value)| {
                    build(|c: &mut AlterableConfig| {
                        c.name = (*name).into();
                        c.config_operation = *op;
                        c.value = value.map(Into::into);
                    })
                })
                .collect();
        })
    }

    #[test]
    fn operations_are_carried_out_or_refused() {
        for version in 0..=1 {
            let mut controller = controller(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
            let mut request = IncrementalAlterConfigsRequest::default();
            request.resources = vec![
                resource(
                    "a",
                    &[("retention.ms", SET, Some("5")), ("cleanup.policy", APPEND, Some("compact"))],
                ),
                resource("b", &[("retention.ms", SET, None)]),
                resource("c", &[("retention.ms", 9, Some("5"))]),
                resource(
                    "d",
                    &[("retention.ms", DELETE, None), ("cleanup.policy", SUBTRACT, Some("delete"))],
                ),
                resource("b.", &[("retention.ms", SUBTRACT, Some("5"))]),
            ];
            let mut checked: Checked<_> = request.resources.iter().map(check).collect();
            let resources = take_good(&mut checked);
            let ask = ControlRequest::IncrementalAlterConfigs { resources, validate_only: false };
            let reply = controller.handle(&ask);
            let response = round_trip(&answer(&request, merge(checked, reply)), version);
            let codes: Vec<_> = response.responses.iter().map(|r| r.error_code).collect();
            assert_eq!(codes, [0, 42, 42, 0, 3]);
            let image = controller.image();
            let set = |topic: &str, name: &str| image.topic(topic).unwrap().overrides[name].clone();
            assert_eq!(set("a", "retention.ms"), "5");
            assert_eq!(
                (set("a", "cleanup.policy"), set("d", "cleanup.policy")),
                ("delete,compact".into(), String::new())
            );
        }
    }
}
