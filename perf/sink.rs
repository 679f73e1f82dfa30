//! `weir-perf sink`: a broker that acknowledges everything and keeps nothing, to find out how fast the generator is.
//!
//! It knows enough of the protocol for this program and other clients to find topics (any name exists, with the
//! partitions it was told) and to produce; nothing can be fetched.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use bytes::{BufMut, BytesMut};
use clap::Args;
use kafka_wire::api_versions_response::ApiVersion as Range;
use kafka_wire::create_topics_response::CreatableTopicResult;
use kafka_wire::delete_topics_response::DeletableTopicResult;
use kafka_wire::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_wire::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_wire::{
    ApiVersionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, InitProducerIdResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
    MetadataResponse,
};
use kafka_wire_core::{ApiVersion, Decoder, KafkaDecode, KafkaEncode, StrBytes};
use weir::client::message;
use weir::wire::frame::{decode_limits, parse_header, response_header_version};

use crate::Outcome;

const MAX_FRAME: usize = 128 << 20;
/// API key with the versions that are answered, where names still stand for topics.
const SERVED: [(i16, i16, i16); 7] =
    [(0, 3, 7), (2, 1, 5), (3, 1, 8), (18, 0, 3), (19, 2, 4), (20, 6, 6), (22, 0, 1)];

#[derive(Args, Debug)]
pub struct SinkArgs {
    #[arg(long, default_value = "127.0.0.1:9092")]
    listen: String,
    /// Partitions of every topic
    #[arg(long, default_value_t = 4)]
    partitions: i32,
}

pub fn run(args: &SinkArgs) -> Outcome<()> {
    let listener = TcpListener::bind(&args.listen).map_err(|e| format!("{}: {e}", args.listen))?;
    note!("swallowing on {}", args.listen);
    serve(&listener, args.partitions)
}

pub fn serve(listener: &TcpListener, partitions: i32) -> Outcome<()> {
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        thread::spawn(move || {
            // A client that leaves is no event.
            let _ = Connection { stream, partitions, port }.run();
        });
    }
    Ok(())
}

struct Connection {
    stream: TcpStream,
    partitions: i32,
    port: u16,
}

impl Connection {
    fn run(mut self) -> Outcome<()> {
        let fail = |e: std::io::Error| e.to_string();
        self.stream.set_nodelay(true).map_err(fail)?;
        let mut input = vec![0; 4 << 20];
        let (mut filled, mut out) = (0, BytesMut::new());
        loop {
            let read = self.stream.read(&mut input[filled..]).map_err(fail)?;
            if read == 0 {
                return Ok(());
            }
            filled += read;
            let mut at = 0;
            let mut needed = 4;
            while let Some(prefix) = input[at..filled].first_chunk::<4>() {
                let length = u32::from_be_bytes(*prefix) as usize;
                if length > MAX_FRAME {
                    return Err("a frame that is too long".to_owned());
                }
                if filled - at < 4 + length {
                    needed = 4 + length;
                    break;
                }
                self.answer(&input[at + 4..at + 4 + length], &mut out)?;
                at += 4 + length;
            }
            input.copy_within(at..filled, 0);
            filled -= at;
            if needed > input.len() {
                input.resize(needed.next_power_of_two(), 0);
            }
            self.stream.write_all(&out).map_err(fail)?;
            out.clear();
        }
    }

    fn answer(&self, frame: &[u8], out: &mut BytesMut) -> Outcome<()> {
        let head = frame.first_chunk::<8>().ok_or("a frame without a header")?;
        let key = i16::from_be_bytes([head[0], head[1]]);
        let version = i16::from_be_bytes([head[2], head[3]]);
        let start = out.len();
        out.put_i32(0);
        out.extend_from_slice(&head[4..8]);
        if key == 0 {
            if !produce(&frame[8..], version, out)? {
                out.truncate(start);
                return Ok(());
            }
        } else {
            let mut body = BytesMut::from(frame);
            parse_header(&mut body).map_err(|e| e.to_string())?;
            if response_header_version(key, version) == 1 {
                out.put_u8(0);
            }
            self.control(key, version, body, out)?;
        }
        let length = (out.len() - start - 4) as i32;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn control(&self, key: i16, version: i16, body: BytesMut, out: &mut BytesMut) -> Outcome<()> {
        match key {
            18 => {
                let known = version <= 3;
                let answer = message::<ApiVersionsResponse>(|r| {
                    r.error_code = if known { 0 } else { 35 };
                    let range = |(key, min, max): &(i16, i16, i16)| {
                        message::<Range>(|k| (k.api_key, k.min_version, k.max_version) = (*key, *min, *max))
                    };
                    r.api_keys = SERVED.iter().map(range).collect();
                });
                encode(&answer, if known { version } else { 0 }, out)
            }
            3 => encode(&self.metadata(decode(body, version)?), version, out),
            2 => encode(&offsets(decode(body, version)?), version, out),
            19 => {
                let request: CreateTopicsRequest = decode(body, version)?;
                let created = request.topics.into_iter();
                let topic = |t: kafka_wire::create_topics_request::CreatableTopic| {
                    message::<CreatableTopicResult>(|r| r.name = t.name)
                };
                encode(
                    &message::<CreateTopicsResponse>(|r| r.topics = created.map(topic).collect()),
                    version,
                    out,
                )
            }
            20 => {
                let request: DeleteTopicsRequest = decode(body, version)?;
                let topic = |name| message::<DeletableTopicResult>(|r| r.name = name);
                let deleted = request.topics.into_iter().map(|t| topic(t.name)).collect();
                encode(&message::<DeleteTopicsResponse>(|r| r.responses = deleted), version, out)
            }
            22 => encode(&InitProducerIdResponse::default(), version, out),
            _ => Err(format!("API {key} is not served")),
        }
    }

    fn metadata(&self, request: MetadataRequest) -> MetadataResponse {
        let broker = message::<MetadataResponseBroker>(|b| {
            (b.node_id, b.host, b.port) = (1, StrBytes::from("127.0.0.1"), i32::from(self.port));
        });
        let partition = |index| {
            message::<MetadataResponsePartition>(|p| {
                (p.partition_index, p.leader_id) = (index, 1);
                (p.replica_nodes, p.isr_nodes) = (vec![1], vec![1]);
            })
        };
        let topic = |name| {
            message::<MetadataResponseTopic>(|t| {
                t.name = name;
                t.partitions = (0..self.partitions).map(partition).collect();
            })
        };
        message::<MetadataResponse>(|r| {
            r.brokers = vec![broker];
            r.controller_id = 1;
            r.topics = request.topics.into_iter().flatten().map(|t| topic(t.name)).collect();
        })
    }
}

fn offsets(request: ListOffsetsRequest) -> ListOffsetsResponse {
    let topic = |t: kafka_wire::list_offsets_request::ListOffsetsTopic| {
        message::<ListOffsetsTopicResponse>(|r| {
            r.name = t.name;
            let partition = |index| {
                message::<ListOffsetsPartitionResponse>(|p| (p.partition_index, p.offset) = (index, 0))
            };
            r.partitions = t.partitions.iter().map(|p| partition(p.partition_index)).collect();
        })
    };
    message::<ListOffsetsResponse>(|r| r.topics = request.topics.into_iter().map(topic).collect())
}

/// Says yes to every partition of a Produce request; false if it wants no answer.
fn produce(rest: &[u8], version: i16, out: &mut BytesMut) -> Outcome<bool> {
    let mut at = rest;
    // Client id and transactional id.
    string(&mut at)?;
    string(&mut at)?;
    let acks = i16::from_be_bytes(*take(&mut at, 2)?.first_chunk().ok_or("cut short")?);
    take(&mut at, 4)?;
    let topics = int(&mut at)?;
    out.put_i32(topics);
    for _ in 0..topics {
        let name = string(&mut at)?;
        out.put_i16(name.len() as i16);
        out.extend_from_slice(name);
        let partitions = int(&mut at)?;
        out.put_i32(partitions);
        for _ in 0..partitions {
            let index = int(&mut at)?;
            let length = int(&mut at)?.max(0) as usize;
            take(&mut at, length)?;
            out.put_i32(index);
            out.put_i16(0);
            out.put_i64(0);
            out.put_i64(-1);
            if version >= 5 {
                out.put_i64(0);
            }
        }
    }
    out.put_i32(0);
    Ok(acks != 0)
}

fn take<'a>(at: &mut &'a [u8], n: usize) -> Outcome<&'a [u8]> {
    let (taken, rest) = at.split_at_checked(n).ok_or("a request that is cut short")?;
    *at = rest;
    Ok(taken)
}

fn int(at: &mut &[u8]) -> Outcome<i32> {
    Ok(i32::from_be_bytes(*take(at, 4)?.first_chunk().ok_or("cut short")?))
}

fn string<'a>(at: &mut &'a [u8]) -> Outcome<&'a [u8]> {
    let length = i16::from_be_bytes(*take(at, 2)?.first_chunk().ok_or("cut short")?);
    take(at, length.max(0) as usize)
}

fn decode<Q: KafkaDecode>(body: BytesMut, version: i16) -> Outcome<Q> {
    let mut decoder = Decoder::new(body.freeze(), decode_limits(MAX_FRAME)).map_err(|e| e.to_string())?;
    Q::decode(&mut decoder, ApiVersion::new(version)).map_err(|e| e.to_string())
}

fn encode<R: KafkaEncode>(answer: &R, version: i16, out: &mut BytesMut) -> Outcome<()> {
    answer.encode_into(out, ApiVersion::new(version)).map(|_| ()).map_err(|e| e.to_string())
}
