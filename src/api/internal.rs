//! The coordinators' topics, which are made when they are first needed.

use super::common::{code, whole_error};
use super::request::Cx;
use crate::controller::{ControlReply, ControlRequest, internal_topic};
use crate::wire::ErrorCode;

/// Makes the topic unless it is there.
pub async fn ensure_topic(cx: &Cx, name: &str) -> Result<(), ErrorCode> {
    if cx.shard.image().topic(name).is_some() {
        return Ok(());
    }
    let topics = internal_topic(name, cx.shard.settings()).into_iter().collect();
    let reply = cx.shard.control(ControlRequest::CreateTopics { topics, validate_only: false }).await;
    let created = match reply {
        ControlReply::CreateTopics(mut results) => results.pop(),
        other => Some(Err(whole_error(other))),
    };
    match created {
        Some(Ok(_)) => log::info!("created {name} on first need"),
        Some(Err(error)) if code(&error) != ErrorCode::TopicAlreadyExists => {
            log::warn!("{name} cannot be created: {error}");
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        _ => {}
    }
    Ok(())
}
