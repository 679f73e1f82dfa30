//! Raft's messages as bytes. Integers are big-endian; entries and snapshots are frames as the metadata log has them, with offset, epoch
//! and checksum of their own.
//!
//! ```text
//! every request: to whom node i32, directory 16 │ body
//! vote: epoch i32 │ granted u8 │ voted u8 │ node i32 │ directory 16          log id: offset u64 │ epoch i32
//! ```

use bytes::{Buf, BufMut, Bytes};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};

use super::types::{LogId, Types, Vote, epoch, log_id, of_entry, place, to_entry};
use crate::metadata::log::{Entry, put_entries, take_entries};
use crate::metadata::quorum::Voter;

pub const APPEND: u8 = 1;
pub const VOTE: u8 = 2;
pub const SNAPSHOT: u8 = 3;
/// Whoever gets this is to be the leader.
pub const ELECT: u8 = 4;

/// A snapshot's bytes in one message.
pub const CHUNK: usize = 1 << 20;
/// A snapshot is refused if it is larger.
pub const MOST_SNAPSHOT: u64 = 300 << 20;

/// The bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a malformed message")]
pub struct Malformed;

pub struct Chunk {
    pub vote: Vote,
    /// What the snapshot is of.
    pub of: LogId,
    pub total: u64,
    pub at: u64,
    pub bytes: Bytes,
}

pub fn begin(to: Voter) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    put_voter(to, &mut out);
    out
}

pub fn put_voter(voter: Voter, out: &mut Vec<u8>) {
    out.put_i32(voter.node);
    out.put_slice(&voter.directory);
}

pub fn take_voter(from: &mut Bytes) -> Result<Voter, Malformed> {
    let node = from.try_get_i32().map_err(|_| Malformed)?;
    let mut directory = [0; 16];
    from.try_copy_to_slice(&mut directory).map_err(|_| Malformed)?;
    Ok(Voter { node, directory })
}

pub fn put_vote(vote: &Vote, out: &mut Vec<u8>) {
    out.put_i32(epoch(vote.leader_id.term));
    out.put_u8(u8::from(vote.committed));
    out.put_u8(u8::from(vote.leader_id.voted_for.is_some()));
    put_voter(vote.leader_id.voted_for.unwrap_or_default(), out);
}

pub fn take_vote(from: &mut Bytes) -> Result<Vote, Malformed> {
    let mut vote = Vote::default();
    vote.leader_id.term = take_epoch(from)?;
    vote.committed = take_bool(from)?;
    let voted = take_bool(from)?;
    let voter = take_voter(from)?;
    vote.leader_id.voted_for = voted.then_some(voter);
    // A vote that was granted was for somebody.
    if vote.committed && !voted { Err(Malformed) } else { Ok(vote) }
}

fn take_epoch(from: &mut Bytes) -> Result<u64, Malformed> {
    let epoch = from.try_get_i32().map_err(|_| Malformed)?;
    u64::try_from(epoch).map_err(|_| Malformed)
}

fn take_bool(from: &mut Bytes) -> Result<bool, Malformed> {
    match from.try_get_u8() {
        Ok(0) => Ok(false),
        Ok(1) => Ok(true),
        _ => Err(Malformed),
    }
}

fn put_log_id(id: Option<LogId>, out: &mut Vec<u8>) {
    let (offset, epoch) = place(id);
    out.put_u64(offset);
    out.put_i32(epoch);
}

fn take_log_id(from: &mut Bytes) -> Result<Option<LogId>, Malformed> {
    let offset = from.try_get_u64().map_err(|_| Malformed)?;
    let epoch = take_epoch(from)?;
    Ok(log_id(offset, i32::try_from(epoch).map_err(|_| Malformed)?))
}

fn end<T>(from: &Bytes, value: T) -> Result<T, Malformed> {
    if from.is_empty() { Ok(value) } else { Err(Malformed) }
}

pub fn put_append(request: &AppendEntriesRequest<Types>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    put_vote(&request.vote, out);
    put_log_id(request.prev_log_id, out);
    put_log_id(request.leader_commit, out);
    let entries: Vec<Entry> = request.entries.iter().map(to_entry).collect();
    put_entries(&entries, out).map_err(|_| Malformed)
}

pub fn take_append(mut from: Bytes) -> Result<AppendEntriesRequest<Types>, Malformed> {
    let vote = take_vote(&mut from)?;
    let prev_log_id = take_log_id(&mut from)?;
    let leader_commit = take_log_id(&mut from)?;
    let (offset, epoch) = place(prev_log_id);
    let entries = take_entries(&from, offset.checked_add(1).ok_or(Malformed)?).map_err(|_| Malformed)?;
    if entries.first().is_some_and(|first| first.epoch < epoch) {
        return Err(Malformed);
    }
    let entries = entries.into_iter().filter_map(of_entry).collect();
    Ok(AppendEntriesRequest { vote, prev_log_id, leader_commit, entries })
}

pub fn put_appended(response: &AppendEntriesResponse<Voter>, out: &mut Vec<u8>) {
    match response {
        AppendEntriesResponse::Success => out.put_u8(0),
        AppendEntriesResponse::PartialSuccess(id) => {
            out.put_u8(1);
            put_log_id(*id, out);
        }
        AppendEntriesResponse::Conflict => out.put_u8(2),
        AppendEntriesResponse::HigherVote(vote) => {
            out.put_u8(3);
            put_vote(vote, out);
        }
    }
}

pub fn take_appended(mut from: Bytes) -> Result<AppendEntriesResponse<Voter>, Malformed> {
    let response = match from.try_get_u8() {
        Ok(0) => AppendEntriesResponse::Success,
        Ok(1) => AppendEntriesResponse::PartialSuccess(take_log_id(&mut from)?),
        Ok(2) => AppendEntriesResponse::Conflict,
        Ok(3) => AppendEntriesResponse::HigherVote(take_vote(&mut from)?),
        _ => return Err(Malformed),
    };
    end(&from, response)
}

pub fn put_ask(request: &VoteRequest<Voter>, out: &mut Vec<u8>) {
    put_vote(&request.vote, out);
    put_log_id(request.last_log_id, out);
}

pub fn take_ask(mut from: Bytes) -> Result<VoteRequest<Voter>, Malformed> {
    let request = VoteRequest { vote: take_vote(&mut from)?, last_log_id: take_log_id(&mut from)? };
    end(&from, request)
}

pub fn put_answer(response: &VoteResponse<Voter>, out: &mut Vec<u8>) {
    put_vote(&response.vote, out);
    out.put_u8(u8::from(response.vote_granted));
    put_log_id(response.last_log_id, out);
}

pub fn take_answer(mut from: Bytes) -> Result<VoteResponse<Voter>, Malformed> {
    let response = VoteResponse {
        vote: take_vote(&mut from)?,
        vote_granted: take_bool(&mut from)?,
        last_log_id: take_log_id(&mut from)?,
    };
    end(&from, response)
}

pub fn put_chunk(chunk: &Chunk, out: &mut Vec<u8>) {
    put_vote(&chunk.vote, out);
    put_log_id(Some(chunk.of), out);
    out.put_u64(chunk.total);
    out.put_u64(chunk.at);
    out.put_slice(&chunk.bytes);
}

pub fn take_chunk(mut from: Bytes) -> Result<Chunk, Malformed> {
    let vote = take_vote(&mut from)?;
    let of = take_log_id(&mut from)?.ok_or(Malformed)?;
    let total = from.try_get_u64().map_err(|_| Malformed)?;
    let at = from.try_get_u64().map_err(|_| Malformed)?;
    let len = from.len() as u64;
    let fits =
        len <= CHUNK as u64 && total <= MOST_SNAPSHOT && at.checked_add(len).is_some_and(|end| end <= total);
    if fits && len > 0 { Ok(Chunk { vote, of, total, at, bytes: from }) } else { Err(Malformed) }
}
