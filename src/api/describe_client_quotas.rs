//! DescribeClientQuotas (KIP-546): the limits that are set, of the entities that a filter asks for.

use std::collections::BTreeMap;

use kafka_wire::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use kafka_wire::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};

use super::common::build;
use super::request::Cx;
use crate::metadata::Image;
use crate::security::quota::{CLIENT_ID, Entity, IP, Name, USER};
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

pub async fn handle(cx: &Cx, request: DescribeClientQuotasRequest) -> DescribeClientQuotasResponse {
    if let Err(error) = cx.admit(Operation::DescribeConfigs, Resource::Cluster) {
        return build(|r: &mut DescribeClientQuotasResponse| {
            r.error_code = error.code();
            r.entries = None;
        });
    }
    let response = answer(&cx.shard.image(), &request);
    cx.count(ErrorCode::from_code(response.error_code));
    response
}

/// What an entity's name of one type must be; `None` for any.
type Filter = BTreeMap<String, Option<Name>>;

fn filter(request: &DescribeClientQuotasRequest) -> Result<Filter, (ErrorCode, String)> {
    let refuse = |why: String| Err((ErrorCode::InvalidRequest, why));
    let mut filter = Filter::new();
    for component in &request.components {
        let kind = component.entity_type.to_string();
        if kind.is_empty() {
            return refuse("Invalid empty entity type.".into());
        }
        if filter.contains_key(&kind) {
            return refuse(format!("Entity type {kind} cannot appear more than once in the filter."));
        }
        if ![USER, CLIENT_ID, IP].contains(&&*kind) {
            return Err((ErrorCode::UnsupportedVersion, format!("Unsupported entity type {kind}")));
        }
        let name = match (component.match_type, &component.match_) {
            (EXACT, Some(name)) => Some(Name::Named(name.to_string())),
            (EXACT, None) => {
                return refuse("Request specified MATCH_TYPE_EXACT, but set match string to null.".into());
            }
            (DEFAULT, None) => Some(Name::Default),
            (SPECIFIED, None) => None,
            (DEFAULT | SPECIFIED, Some(_)) => {
                let kind = if component.match_type == DEFAULT { "DEFAULT" } else { "SPECIFIED" };
                return refuse(format!(
                    "Request specified MATCH_TYPE_{kind}, but also specified a match string."
                ));
            }
            (other, _) => return refuse(format!("Unknown match type {other}")),
        };
        filter.insert(kind, name);
    }
    if filter.contains_key(IP) && filter.len() > 1 {
        return refuse(
            "Invalid entity filter component combination. IP filter component should not be used with user or \
             clientId filter component."
                .into(),
        );
    }
    Ok(filter)
}

fn names(entity: &Entity) -> impl Iterator<Item = (&'static str, &Name)> {
    let user = entity.user.as_ref().map(|name| (USER, name));
    user.into_iter().chain(entity.client_id.as_ref().map(|name| (CLIENT_ID, name)))
}

fn matches(entity: &Entity, filter: &Filter, strict: bool) -> bool {
    let fits = |(kind, wanted): (&String, &Option<Name>)| {
        names(entity).any(|(of, name)| of == kind && wanted.as_ref().is_none_or(|wanted| wanted == name))
    };
    filter.iter().all(fits) && (!strict || names(entity).count() == filter.len())
}

fn answer(image: &Image, request: &DescribeClientQuotasRequest) -> DescribeClientQuotasResponse {
    let filter = match filter(request) {
        Ok(filter) => filter,
        Err((code, why)) => {
            return build(|r: &mut DescribeClientQuotasResponse| {
                r.error_code = code.code();
                r.error_message = Some(why.into());
                r.entries = None;
            });
        }
    };
    let found = image.quotas.iter().filter(|(entity, _)| matches(entity, &filter, request.strict));
    let entries = found.map(|(entity, limits)| {
        build(|e: &mut EntryData| {
            e.entity = names(entity).map(described).collect();
            let value = |(key, value): (&String, &f64)| {
                build(|v: &mut ValueData| {
                    v.key = key.as_str().into();
                    v.value = *value;
                })
            };
            e.values = limits.iter().map(value).collect();
        })
    });
    build(|r: &mut DescribeClientQuotasResponse| r.entries = Some(entries.collect()))
}

fn described((kind, name): (&'static str, &Name)) -> EntityData {
    build(|e: &mut EntityData| {
        e.entity_type = kind.into();
        e.entity_name = match name {
            Name::Default => None,
            Name::Named(name) => Some(name.as_str().into()),
        };
    })
}

#[cfg(test)]
mod tests {
    use kafka_wire::describe_client_quotas_request::ComponentData;

    use super::super::common::testing::{controller, round_trip};
    use super::*;
    use crate::controller::{ControlReply, ControlRequest, QuotaChange};

    const RATE: &str = "producer_byte_rate";

    fn component(kind: &str, match_type: i8, name: Option<&str>) -> ComponentData {
        build(|c: &mut ComponentData| {
            c.entity_type = kind.into();
            c.match_type = match_type;
            c.match_ = name.map(Into::into);
        })
    }

    #[test]
    fn filters_find_what_they_say() {
        let mut controller = controller(&[]);
        let named = |name: &str| Some(Name::Named(name.into()));
        let entities =
            [(named("u"), None), (named("u"), named("c")), (None, named("c")), (Some(Name::Default), None)];
        let changes = entities.map(|(user, client_id)| QuotaChange {
            entity: Entity { user, client_id },
            limits: vec![(RATE.into(), Some(5.0))],
        });
        let request = ControlRequest::AlterQuotas { changes: changes.into(), validate_only: false };
        let ControlReply::AlterQuotas(results) = controller.handle(&request) else { panic!("answered") };
        assert!(results.iter().all(Result::is_ok));
        let image = controller.image();
        let ask = |components: Vec<ComponentData>, strict, version| {
            let mut request = DescribeClientQuotasRequest::default();
            (request.components, request.strict) = (components, strict);
            let reply = round_trip(&answer(&image, &request), version);
            (reply.error_code, reply.entries.map_or(0, |entries| entries.len()))
        };
        for version in 0..=1 {
            assert_eq!(ask(vec![], false, version), (0, 4));
            assert_eq!(ask(vec![component(USER, EXACT, Some("u"))], false, version), (0, 2));
            assert_eq!(ask(vec![component(USER, EXACT, Some("u"))], true, version), (0, 1));
            assert_eq!(ask(vec![component(USER, DEFAULT, None)], true, version), (0, 1));
            assert_eq!(ask(vec![component(USER, SPECIFIED, None)], true, version), (0, 2));
            assert_eq!(ask(vec![component(IP, SPECIFIED, None)], false, version), (0, 0));
            assert_eq!(ask(vec![component("x", EXACT, Some("u"))], false, version), (35, 0));
            for bad in [
                vec![component("", EXACT, Some("u"))],
                vec![component(USER, EXACT, None)],
                vec![component(USER, DEFAULT, Some("u"))],
                vec![component(USER, 9, None)],
                vec![component(USER, DEFAULT, None), component(USER, DEFAULT, None)],
                vec![component(USER, DEFAULT, None), component(IP, DEFAULT, None)],
            ] {
                assert_eq!(ask(bad, false, version), (42, 0));
            }
        }
    }
}
