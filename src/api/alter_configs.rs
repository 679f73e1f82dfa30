//! AlterConfigs: replaces all of a resource's overrides by those given. Older clients only; new ones use
//! IncrementalAlterConfigs.

use kafka_wire::alter_configs_response::AlterConfigsResourceResponse;
use kafka_wire::{AlterConfigsRequest, AlterConfigsResponse};
use kafka_wire_core::StrBytes;

use super::authorize::Rights;
use super::common::{build, code, message, whole_error};
use super::describe_configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC, denial, resource_of};
use super::request::Cx;
use crate::controller::{ConfigResource, ControlError, ControlErrorKind, ControlReply, ControlRequest};
use crate::model::broker_config::broker_config;
use crate::model::config_def::shorten;
use crate::model::topic_config::topic_config;
use crate::security::Operation;
use crate::wire::ErrorCode;

/// The resources of a request, each checked as far as the request alone allows.
pub type Checked<T> = Vec<Result<(ConfigResource, T), ControlError>>;

pub async fn handle(cx: &Cx, mut request: AlterConfigsRequest) -> AlterConfigsResponse {
    let validate_only = request.validate_only;
    let (allowed, denied) = cx.sort(std::mem::take(&mut request.resources), |cx, resource| {
        may_alter(cx, resource.resource_type, &resource.resource_name)
    });
    request.resources = allowed;
    let control = |resources| ControlRequest::AlterConfigs { resources, validate_only };
    let results = alter(cx, check(&request), control).await;
    for (resource, _) in request.resources.iter().zip(&results).filter(|(_, r)| r.is_ok() && !validate_only) {
        tell_idle(resource.resource_type, resource.configs.iter().map(|config| &*config.name));
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

/// Whether the client may change what a request names. What is no resource is refused for that, by others.
pub fn may_alter(cx: &Cx, resource_type: i8, name: &str) -> bool {
    resource_of(resource_type, name).is_none_or(|resource| cx.may(Operation::AlterConfigs, resource))
}

/// Says of what was set that nothing follows from it, where it is so.
pub fn tell_idle<'a>(resource_type: i8, names: impl Iterator<Item = &'a str>) {
    let def = |name: &str| match resource_type {
        TOPIC => topic_config(name).copied(),
        BROKER => broker_config(name).map(|config| config.def),
        _ => None,
    };
    for def in names.filter_map(def) {
        if let Some(why) = def.idle {
            log::warn!("{} is kept and shown, without effect here: {why}", def.name);
        }
    }
}

/// Asks the controller for the changes that pass; one result for each resource of the request.
pub async fn alter<T: Default>(
    cx: &Cx,
    mut checked: Checked<T>,
    control: impl FnOnce(Vec<(ConfigResource, T)>) -> ControlRequest,
) -> Vec<Result<(), ControlError>> {
    let resources = take_good(&mut checked);
    let results = merge(checked, cx.shard.control(control(resources)).await);
    results.iter().filter_map(|result| result.as_ref().err()).for_each(|error| cx.count(code(error)));
    results
}

fn check(request: &AlterConfigsRequest) -> Checked<Vec<(String, String)>> {
    let one = |resource: &kafka_wire::alter_configs_request::AlterConfigsResource| {
        let target = target(resource.resource_type, &resource.resource_name)?;
        let nulls: Vec<_> = resource.configs.iter().filter(|c| c.value.is_none()).map(|c| &*c.name).collect();
        no_nulls(&nulls)?;
        let value = |value: &Option<StrBytes>| value.as_deref().unwrap_or_default().to_string();
        Ok((target, resource.configs.iter().map(|c| (c.name.to_string(), value(&c.value))).collect()))
    };
    request.resources.iter().map(one).collect()
}

fn answer(request: &AlterConfigsRequest, results: Vec<Result<(), ControlError>>) -> AlterConfigsResponse {
    let one =
        |(resource, result): (&kafka_wire::alter_configs_request::AlterConfigsResource, Result<_, _>)| {
            build(|r: &mut AlterConfigsResourceResponse| {
                r.resource_type = resource.resource_type;
                r.resource_name = resource.resource_name.clone();
                r.error_message = result.as_ref().err().and_then(message);
                r.error_code = result.err().map_or(ErrorCode::None, |error| code(&error)).code();
            })
        };
    build(|r: &mut AlterConfigsResponse| {
        r.responses = request.resources.iter().zip(results).map(one).collect()
    })
}

/// Which resource a type and name stand for.
pub fn target(resource_type: i8, name: &str) -> Result<ConfigResource, ControlError> {
    let refuse = |why: String| Err(ControlError::new(ControlErrorKind::InvalidRequest, why));
    match resource_type {
        TOPIC if name.is_empty() => refuse("Default topic resources are not allowed.".into()),
        TOPIC => Ok(ConfigResource::Topic(name.to_string())),
        BROKER if name.is_empty() => Ok(ConfigResource::Broker(None)),
        BROKER => match name.parse() {
            Ok(id) => Ok(ConfigResource::Broker(Some(id))),
            Err(_) => refuse(format!("Node id must be an integer, but it is: {}", shorten(name))),
        },
        GROUP if name.is_empty() => refuse("Default group resources are not allowed.".into()),
        GROUP => Ok(ConfigResource::Group(name.to_string())),
        CLIENT_METRICS if name.is_empty() => refuse("Subscription name can't be empty".into()),
        CLIENT_METRICS => Ok(ConfigResource::ClientMetrics(name.to_string())),
        BROKER_LOGGER => refuse("This broker has no loggers that a client could read or set.".into()),
        other => refuse(format!("Unknown resource type {other}")),
    }
}

pub fn no_nulls(names: &[&str]) -> Result<(), ControlError> {
    if names.is_empty() {
        return Ok(());
    }
    let why = format!("Null value not supported for : {}", names.join(", "));
    Err(ControlError::new(ControlErrorKind::InvalidRequest, why))
}

/// Takes what the controller must see, leaving the errors in their places.
pub fn take_good<T: Default>(checked: &mut Checked<T>) -> Vec<(ConfigResource, T)> {
    let take = |(resource, wanted): &mut (ConfigResource, T)| (resource.clone(), std::mem::take(wanted));
    checked.iter_mut().filter_map(|one| one.as_mut().ok().map(take)).collect()
}

/// One result for each resource of the request: its own error, or what the controller said.
pub fn merge<T>(checked: Checked<T>, reply: ControlReply) -> Vec<Result<(), ControlError>> {
    let (mut results, missing) = match reply {
        ControlReply::AlterConfigs(results) => (
            results.into_iter(),
            ControlError::new(ControlErrorKind::Unavailable, "no answer for this resource"),
        ),
        other => (Vec::new().into_iter(), whole_error(other)),
    };
    let mut next = || results.next().unwrap_or_else(|| Err(missing.clone()));
    checked.into_iter().map(|one| one.and_then(|_| next())).collect()
}

#[cfg(test)]
mod tests {
    use kafka_wire::alter_configs_request::{AlterConfigsResource, AlterableConfig};

    use super::super::common::testing::{controller, round_trip};
    use super::*;

    fn resource(resource_type: i8, name: &str, configs: &[(&str, Option<&str>)]) -> AlterConfigsResource {
        build(|r: &mut AlterConfigsResource| {
            r.resource_type = resource_type;
            r.resource_name = name.into();
            r.configs = configs
                .iter()
                .map(|(name, value)| {
                    build(|c: &mut AlterableConfig| {
                        c.name = (*name).into();
                        c.value = value.map(Into::into);
                    })
                })
                .collect();
        })
    }

    #[test]
    fn each_resource_is_answered_in_its_place() {
        for version in 0..=2 {
            let mut controller = controller(&[("a", 1)]);
            let mut request = AlterConfigsRequest::default();
            request.resources = vec![
                resource(8, "1", &[]),
                resource(TOPIC, "a", &[("retention.ms", Some("5")), ("segment.ms", Some("6"))]),
                resource(TOPIC, "", &[]),
                resource(TOPIC, "nope", &[("retention.ms", Some("5"))]),
                resource(BROKER, "1", &[("log.retention.ms", None)]),
                resource(BROKER, "x", &[]),
                resource(BROKER, "", &[("log.retention.ms", Some("rubbish"))]),
            ];
            let mut checked = check(&request);
            let resources = take_good(&mut checked);
            let reply = controller.handle(&ControlRequest::AlterConfigs { resources, validate_only: false });
            let response = round_trip(&answer(&request, merge(checked, reply)), version);
            let codes: Vec<_> = response.responses.iter().map(|r| r.error_code).collect();
            assert_eq!(codes, [42, 0, 42, 3, 42, 42, 42]);
            assert_eq!(controller.image().topic("a").unwrap().overrides.len(), 2);
        }
    }
}
