//! A fresh producer id, of the shard's block or of a new one.

use super::common::{code, whole_error};
use super::request::Cx;
use crate::controller::{ControlReply, ControlRequest};
use crate::model::ProducerId;
use crate::wire::ErrorCode;

pub async fn next_id(cx: &Cx) -> Result<ProducerId, ErrorCode> {
    let ids = &cx.shard.producer_ids;
    if let Some(id) = ids.take() {
        return Ok(id);
    }
    let broker = cx.shard.settings().broker_id;
    let Some(epoch) = cx.shard.image().broker(broker).map(|registered| registered.epoch) else {
        return Err(ErrorCode::CoordinatorNotAvailable);
    };
    match cx.shard.control(ControlRequest::ProducerIds { broker, epoch }).await {
        ControlReply::ProducerIds(Ok(mut block)) if block.len > 0 => {
            // This request's own, whatever others bring meanwhile.
            let id = ProducerId(block.first);
            (block.first, block.len) = (block.first + 1, block.len - 1);
            ids.put(block);
            Ok(id)
        }
        ControlReply::ProducerIds(Err(error)) => Err(code(&error)),
        other => Err(code(&whole_error(other))),
    }
}
