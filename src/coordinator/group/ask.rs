//! What may be asked of a group's coordinator, each with the kind of its answer.

use super::Groups;
use super::types::{
    Commit, Committed, Description, Fetch, FetchedTopic, GroupError, Join, Joined, Leaving, Member, Name,
    Reply, Request, Sync, Synced,
};
use crate::coordinator::asks;
use crate::model::Producer;

asks! { Groups:
    join(request: Join) = Request::Join(request), Reply::Join(joined) => joined => Joined;
    sync(request: Sync) = Request::Sync(request), Reply::Sync(synced) => synced => Result<Synced, GroupError>;
    heartbeat(from: Member) = Request::Heartbeat(from), Reply::Heartbeat(result) => result => Result<(), GroupError>;
    /// One result for each member.
    leave(group: Name, members: Vec<Leaving>) = Request::Leave { group, members },
        Reply::Leave(results) => results => Vec<Result<(), GroupError>>;
    commit(offsets: Commit) = Request::Commit(offsets), Reply::Commit(results) => results => Committed;
    /// Offsets that count once the producer's transaction commits.
    commit_in(offsets: Commit, producer: Producer) = Request::CommitInTxn(offsets, producer),
        Reply::Commit(results) => results => Committed;
    fetch(offsets: Fetch) = Request::Fetch(offsets), Reply::Fetch(topics) => topics => Vec<FetchedTopic>;
    delete_offsets(group: Name, topics: Vec<(Name, Vec<i32>)>) = Request::DeleteOffsets { group, topics },
        Reply::DeleteOffsets(results) => results => Committed;
    /// `None` where there is no such group.
    describe(group: Name) = Request::Describe(group),
        Reply::Describe(description) => description => Option<Description>;
    delete(group: Name) = Request::Delete(group), Reply::Delete(result) => result => Result<(), GroupError>;
}
