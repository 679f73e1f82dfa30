//! Changing quotas.

use std::collections::BTreeSet;

use crate::controller::request::{ControlError, ControlErrorKind as Kind, QuotaChange};
use crate::metadata::image::Image;
use crate::metadata::records::Record;
use crate::security::quota::{MAX_LIMITS, check};

/// Each entity succeeds or fails by itself.
pub fn change(image: &Image, changes: &[QuotaChange]) -> (Vec<Record>, Vec<Result<(), ControlError>>) {
    let mut records = Vec::new();
    let mut seen = BTreeSet::new();
    let mut room = MAX_LIMITS.saturating_sub(image.quotas.limits());
    let results = changes.iter().map(|change| {
        if !seen.insert(&change.entity) {
            return refuse(Kind::InvalidRequest, "Ignoring duplicate entity");
        }
        let made = one(image, change)?;
        let added =
            made.iter().filter(|record| matches!(record, Record::Quota { value: Some(_), .. })).count();
        room = room.checked_sub(added).ok_or_else(|| {
            ControlError::new(Kind::TooMany, format!("There are {MAX_LIMITS} quotas already"))
        })?;
        records.extend(made);
        Ok(())
    });
    let results = results.collect();
    (records, results)
}

fn one(image: &Image, change: &QuotaChange) -> Result<Vec<Record>, ControlError> {
    if change.entity.user.is_none() && change.entity.client_id.is_none() {
        return refuse(Kind::InvalidRequest, "Invalid empty client quota entity");
    }
    let now = image.quotas.get(&change.entity);
    let mut keys = BTreeSet::new();
    let mut records = Vec::new();
    for (key, value) in &change.limits {
        if !keys.insert(key) {
            return refuse(Kind::InvalidRequest, format!("Duplicate quota key {key}"));
        }
        if let Some(value) = value {
            check(key, *value).or_else(|why| refuse(Kind::InvalidRequest, why))?;
        }
        if now.and_then(|limits| limits.get(key)) != value.as_ref() {
            let value = value.map(f64::to_bits);
            records.push(Record::Quota { entity: change.entity.clone(), key: key.clone(), value });
        }
    }
    Ok(records)
}

fn refuse<T>(kind: Kind, message: impl Into<String>) -> Result<T, ControlError> {
    Err(ControlError::new(kind, message))
}
