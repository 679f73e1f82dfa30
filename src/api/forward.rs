//! Requests that only the controller can carry out: a broker that is not it hands them on, so that clients need not know
//! who it is.

use std::time::Duration;

use bytes::BytesMut;

use super::envelope::{unwrap, wrap};
use super::request::{Cx, Outcome, Pending};
use crate::model::BrokerId;
use crate::peer::LinkError;
use crate::rt;
use crate::shard::links::Purpose;
use crate::wire::ErrorCode;

/// How long a controller is looked for, and asked.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait before the next try, unless another controller is known sooner.
const REST: Duration = Duration::from_millis(50);

/// Hands a request on. Where nobody answers for it in time, it is answered here: that this is not the controller.
pub fn start(cx: Cx, body: BytesMut) -> Pending {
    Box::pin(async move {
        let until = rt::now() + PATIENCE;
        let request = wrap(&cx, &body);
        while !cx.shard.leads_metadata() && !cx.shard.is_stopping() {
            let left = until.saturating_duration_since(rt::now());
            if left.is_zero() {
                break;
            }
            if let Some(controller) = cx.shard.controller() {
                match once(&cx, controller, &request, left).await {
                    Ok(outcome) => return outcome,
                    Err(why) => {
                        log::debug!("{} was not handed on to broker {controller}: {why}", cx.api.name)
                    }
                }
            }
            rt::race(cx.shard.controller_changed(), rt::sleep(REST.min(left))).await;
        }
        (cx.api.start)(cx, body).await
    })
}

/// Whether it was carried out is not known where this fails, as with Kafka's brokers, which ask again too.
async fn once(
    cx: &Cx,
    controller: BrokerId,
    request: &kafka_wire::EnvelopeRequest,
    left: Duration,
) -> Result<Outcome, String> {
    let link = cx.shard.calls_to(controller, Purpose::Clients).await.map_err(|e: LinkError| e.to_string())?;
    let response = link.call(request, 0, left).await.map_err(|e| e.to_string())?;
    let (frame, applied) = unwrap(&response).map_err(|code: ErrorCode| code.to_string())?;
    // Whoever gets the answer may ask any shard next.
    cx.shard.applied_everywhere(applied).await;
    Ok(Outcome::Respond(vec![frame]))
}
