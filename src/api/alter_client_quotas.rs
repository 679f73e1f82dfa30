//! AlterClientQuotas (KIP-546): sets and removes limits of users, client ids and their defaults.

use std::collections::BTreeMap;

use kafka_wire::alter_client_quotas_request as asked;
use kafka_wire::alter_client_quotas_response::{EntityData, EntryData};
use kafka_wire::{AlterClientQuotasRequest, AlterClientQuotasResponse};
use kafka_wire_core::StrBytes;

use super::common::{build, code, message, whole_error};
use super::request::Cx;
use crate::controller::{ControlError, ControlErrorKind, ControlReply, ControlRequest, QuotaChange};
use crate::security::quota::{CLIENT_ID, Entity, IP, Name, USER};
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

pub async fn handle(cx: &Cx, request: AlterClientQuotasRequest) -> AlterClientQuotasResponse {
    if let Err(error) = cx.admit(Operation::AlterConfigs, Resource::Cluster) {
        let refused = request.entries.iter().map(|entry| {
            build(|e: &mut EntryData| {
                e.entity = parts(entry).into_iter().map(|(kind, name)| repeat(kind, name)).collect();
                e.error_code = error.code();
            })
        });
        return build(|r: &mut AlterClientQuotasResponse| r.entries = refused.collect());
    }
    let checked: Vec<_> = request.entries.iter().map(check).collect();
    let changes = checked.iter().flatten().cloned().collect();
    let control = ControlRequest::AlterQuotas { changes, validate_only: request.validate_only };
    let response = answer(&request, merge(checked, cx.shard.control(control).await));
    response.entries.iter().for_each(|e| cx.count(ErrorCode::from_code(e.error_code)));
    response
}

/// One result for each entry: its own error, or what the controller said.
fn merge(
    checked: Vec<Result<QuotaChange, ControlError>>,
    reply: ControlReply,
) -> Vec<Result<(), ControlError>> {
    let mut results = match reply {
        ControlReply::AlterQuotas(results) => results.into_iter(),
        other => {
            let error = whole_error(other);
            return checked.into_iter().map(|one| one.and_then(|_| Err(error.clone()))).collect();
        }
    };
    let missing = || Err(ControlError::new(ControlErrorKind::Unavailable, "no answer for this entity"));
    let mut next = || results.next().unwrap_or_else(missing);
    checked.into_iter().map(|one| one.and_then(|_| next())).collect()
}

fn check(entry: &asked::EntryData) -> Result<QuotaChange, ControlError> {
    let refuse = |why: String| Err(ControlError::new(ControlErrorKind::InvalidRequest, why));
    let mut entity = Entity::default();
    for part in &entry.entity {
        let kind = &*part.entity_type;
        let place = match kind {
            USER => &mut entity.user,
            CLIENT_ID => &mut entity.client_id,
            IP => return refuse("Connection rates of IP addresses are not limited by this broker".into()),
            _ => return refuse(format!("Unhandled client quota entity type: {kind}")),
        };
        if part.entity_name.as_deref() == Some("") {
            return refuse(format!("Empty {kind} not supported"));
        }
        let name = part.entity_name.as_ref().map_or(Name::Default, |name| Name::Named(name.to_string()));
        // Of a kind that is given twice, the last counts.
        *place = Some(name);
    }
    let limits = entry.ops.iter().map(|op| (op.key.to_string(), (!op.remove).then_some(op.value)));
    Ok(QuotaChange { entity, limits: limits.collect() })
}

fn answer(
    request: &AlterClientQuotasRequest,
    results: Vec<Result<(), ControlError>>,
) -> AlterClientQuotasResponse {
    let one = |(entry, result): (&asked::EntryData, Result<(), ControlError>)| {
        build(|e: &mut EntryData| {
            e.entity = parts(entry).into_iter().map(|(kind, name)| repeat(kind, name)).collect();
            e.error_message = result.as_ref().err().and_then(message);
            e.error_code = result.err().map_or(ErrorCode::None, |error| code(&error)).code();
        })
    };
    // An entity that is given twice is answered once, with what became of the last.
    let mut last = BTreeMap::new();
    for (nth, (entry, result)) in request.entries.iter().zip(results).enumerate() {
        let (first, kept) = last.entry(parts(entry)).or_insert((nth, None));
        (*first, *kept) = (*first, Some((entry, result)));
    }
    let mut in_order: Vec<_> = last.into_values().collect();
    in_order.sort_by_key(|(nth, _)| *nth);
    let entries = in_order.into_iter().filter_map(|(_, kept)| kept).map(one).collect();
    build(|r: &mut AlterClientQuotasResponse| r.entries = entries)
}

fn parts(entry: &asked::EntryData) -> BTreeMap<&StrBytes, Option<&StrBytes>> {
    entry.entity.iter().map(|part| (&part.entity_type, part.entity_name.as_ref())).collect()
}

fn repeat(kind: &StrBytes, name: Option<&StrBytes>) -> EntityData {
    build(|e: &mut EntityData| {
        e.entity_type = kind.clone();
        e.entity_name = name.cloned();
    })
}

#[cfg(test)]
mod tests {
    use super::super::common::testing::{controller, round_trip};
    use super::*;

    fn entry(entity: &[(&str, Option<&str>)], ops: &[(&str, f64, bool)]) -> asked::EntryData {
        build(|e: &mut asked::EntryData| {
            let part = |(kind, name): &(&str, Option<&str>)| {
                build(|p: &mut asked::EntityData| {
                    p.entity_type = (*kind).into();
                    p.entity_name = name.map(Into::into);
                })
            };
            e.entity = entity.iter().map(part).collect();
            let op = |(key, value, remove): &(&str, f64, bool)| {
                build(|o: &mut asked::OpData| {
                    o.key = (*key).into();
                    (o.value, o.remove) = (*value, *remove);
                })
            };
            e.ops = ops.iter().map(op).collect();
        })
    }

    #[test]
    fn each_entity_is_answered_in_its_place() {
        const RATE: &str = "consumer_byte_rate";
        for version in 0..=1 {
            let mut controller = controller(&[]);
            let mut request = AlterClientQuotasRequest::default();
            request.entries = vec![
                entry(&[(USER, Some("u")), (CLIENT_ID, None)], &[(RATE, 10.0, false)]),
                entry(&[], &[(RATE, 10.0, false)]),
                entry(&[("x", None)], &[(RATE, 10.0, false)]),
                entry(&[(USER, Some(""))], &[(RATE, 10.0, false)]),
                entry(&[(USER, None)], &[(RATE, 0.0, false)]),
                entry(&[(CLIENT_ID, Some("c"))], &[(RATE, 10.0, false), ("nope", 1.0, true)]),
                entry(&[(CLIENT_ID, Some("c"))], &[(RATE, 10.0, false)]),
                entry(&[(CLIENT_ID, Some("d"))], &[(RATE, 1.0, false), (RATE, 2.0, false)]),
                entry(&[(USER, Some("u")), (USER, Some("v"))], &[(RATE, 10.0, false)]),
                entry(&[(IP, Some("127.0.0.1"))], &[("connection_creation_rate", 10.0, false)]),
            ];
            let checked: Vec<_> = request.entries.iter().map(check).collect();
            let changes = checked.iter().flatten().cloned().collect();
            let reply = controller.handle(&ControlRequest::AlterQuotas { changes, validate_only: false });
            let reply = round_trip(&answer(&request, merge(checked, reply)), version);
            let codes: Vec<_> = reply.entries.iter().map(|e| e.error_code).collect();
            assert_eq!(codes, [0, 42, 42, 42, 42, 42, 42, 0, 42], "client c is answered once");
            assert_eq!(controller.image().quotas.limits(), 3);
        }
    }
}
