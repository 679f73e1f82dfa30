//! APIs by the names that metrics have for them.

use kafka_wire::API_DESCRIPTORS;

pub(super) fn api_name(key: i16) -> String {
    let known = API_DESCRIPTORS.iter().find(|d| d.api_key.value() == key);
    known.map_or_else(|| format!("unknown_{key}"), |d| d.request.name.trim_end_matches("Request").to_owned())
}
