//! Other brokers' shards, called at their cluster listeners.

use std::rc::Rc;
use std::time::Duration;

use kafka_wire::{FetchRequest, FetchResponse};

use super::serve::MOST_BYTES;
use super::{Dial, Fetches, Later, Source, VERSION};
use crate::peer::{self, Lane, Limits, Link};
use crate::shard::Shard;

/// How long one address of a broker is tried.
const CONNECT: Duration = Duration::from_secs(2);
/// Longer than any fetch is parked: a leader that is silent for so long is not there.
const ANSWER: Duration = Duration::from_secs(15);

pub(in crate::shard) struct OfShard(pub Rc<Shard>);

impl Dial for OfShard {
    fn dial(&self, source: Source, lane: Lane) -> Later<Result<Rc<dyn Fetches>, String>> {
        let shard = self.0.clone();
        Box::pin(async move {
            let (whom, mut hello) = shard.introduction(source.broker, lane).map_err(|e| e.to_string())?;
            hello.shard = source.shard as u32;
            // What an answer has, and one batch that is larger than that.
            let frame = MOST_BYTES + shard.settings().max_frame_bytes;
            let limits = Limits { frame, ..Limits::default() };
            let (link, _) = peer::connect(&whom, &hello, limits, CONNECT).await.map_err(|e| e.to_string())?;
            Ok(Rc::new(Connected(link)) as Rc<dyn Fetches>)
        })
    }
}

struct Connected(Link);

impl Fetches for Connected {
    fn fetch(&self, request: FetchRequest) -> Later<Result<FetchResponse, String>> {
        let answer = self.0.call(&request, VERSION, ANSWER);
        Box::pin(async move { answer.await.map_err(|e| e.to_string()) })
    }
}
