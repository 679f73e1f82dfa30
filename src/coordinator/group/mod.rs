//! Consumer groups of one partition of `__consumer_offsets`, in the classic protocol.
//!
//! State is what the partition's records say (see `codec`) and, on top, what lives only in memory: members that wait,
//! ids given out in advance, sessions. After a restart the members of a stored generation are taken to be there
//! until their sessions end.
//!
//! Invariants: a partition of a topic is assigned by one leader in one generation; a request of another generation,
//! of an unknown member or of a fenced instance changes nothing; a committed offset is answered, and shown to
//! anybody, only when it is durable (the driver sees to that: such answers are *settled*).
//!
//! Where Kafka 4.3 differs: a JoinGroup that is refused does not leave an empty group behind.

mod admin;
pub mod ask;
pub mod codec;
mod join;
mod kept;
mod member;
pub mod offsets;
mod rebalance;
pub mod state;
mod types;

#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::state::{Group, Phase};
pub use self::types::*;
use super::{Effects, Machine, Replayed, Token};
use crate::model::internal::CONSUMER_OFFSETS;
use crate::model::settings::GroupSettings;
use crate::model::{Producer, ProducerId};

/// The groups of one partition.
pub struct Groups {
    settings: GroupSettings,
    /// In an order of their own: what goes over all of them decides alike wherever it runs.
    groups: BTreeMap<Name, Group>,
}

#[derive(Clone, Debug)]
pub enum Timer {
    Session {
        group: Name,
        member: Name,
    },
    Join(Name),
    Sync(Name),
    /// Offsets are looked through for those whose time is over.
    Expire,
}

/// Groups ask for nothing outside of their partition.
pub enum Command {}

/// What the parts of a group's machine work with.
pub struct Cx<'a> {
    settings: &'a GroupSettings,
    fx: &'a mut Effects<Groups>,
}

impl Groups {
    pub fn new(settings: GroupSettings) -> Self {
        Self { settings, groups: BTreeMap::new() }
    }

    pub fn len(&self) -> usize {
        self.groups.len()
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub fn group(&self, group: &str) -> Option<&Group> {
        self.groups.get(group)
    }

    /// Ends a transaction on this partition: its offsets count from now on, or never did.
    pub fn end_transaction(&mut self, producer: ProducerId, committed: bool) {
        for group in self.groups.values_mut() {
            group.offsets.end_transaction(producer, committed);
        }
    }

    fn join(&mut self, token: Token, join: &Join, fx: &mut Effects<Self>) {
        let cx = &mut Cx { settings: &self.settings, fx };
        if let Err(why) = join::check(join, cx) {
            return join::refuse_without_group(token, join, why, cx);
        }
        if let Some(group) = self.groups.get_mut(&join.group) {
            return join::handle(group, token, join, cx);
        }
        if !join.member.is_empty() {
            return join::refuse_without_group(token, join, GroupError::UnknownMember, cx);
        }
        let mut group = Group::new(join.group.clone(), cx.fx.wall);
        join::handle(&mut group, token, join, cx);
        if !group.members.is_empty() || !group.pending_join.is_empty() {
            // The group exists from now on, also for a broker that starts in this moment.
            let stored = codec::StoredGroup { since: group.since, ..codec::StoredGroup::default() };
            cx.fx.write(codec::group_record(&group.id, &stored));
            self.groups.insert(join.group.clone(), group);
        }
    }

    fn sync(&mut self, token: Token, sync: &Sync, fx: &mut Effects<Self>) {
        let from = &sync.member;
        let group = self.groups.get_mut(&from.group).filter(|group| group.phase != Phase::Empty);
        let checked = check_group_id(&from.group).and_then(|()| group.ok_or(GroupError::UnknownMember));
        let cx = &mut Cx { settings: &self.settings, fx };
        match checked.and_then(|group| check_sync(group, sync).map(|()| group)) {
            Err(why) => cx.fx.reply(token, Reply::Sync(Err(why))),
            Ok(group) => sync_checked(group, token, sync, cx),
        }
    }

    fn heartbeat(&mut self, from: &Member, fx: &mut Effects<Self>) -> Result<(), GroupError> {
        check_group_id(&from.group)?;
        let group = self.groups.get_mut(&from.group).ok_or(GroupError::UnknownMember)?;
        group.check_member(&from.member, from.instance.as_ref())?;
        if from.generation != group.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let cx = &mut Cx { settings: &self.settings, fx };
        rebalance::touch_session(group, &from.member, cx);
        match group.phase {
            Phase::Empty => Err(GroupError::UnknownMember),
            Phase::Preparing => Err(GroupError::RebalanceInProgress),
            Phase::Completing | Phase::Stable => Ok(()),
        }
    }

    fn leave(
        &mut self,
        group: &Name,
        members: &[Leaving],
        fx: &mut Effects<Self>,
    ) -> Vec<Result<(), GroupError>> {
        if let Err(why) = check_group_id(group) {
            return vec![Err(why); members.len()];
        }
        let Some(group) = self.groups.get_mut(group) else {
            return vec![Err(GroupError::UnknownMember); members.len()];
        };
        let cx = &mut Cx { settings: &self.settings, fx };
        let results: Vec<_> = members.iter().map(|leaving| leave_one(group, leaving, cx)).collect();
        if results.iter().any(Result::is_ok) {
            match group.phase {
                Phase::Stable | Phase::Completing => rebalance::prepare_or_complete(group, cx),
                Phase::Preparing => rebalance::maybe_complete_join(group, cx),
                Phase::Empty => {}
            }
        }
        results
    }

    fn commit(&mut self, token: Token, commit: &Commit, producer: Option<Producer>, fx: &mut Effects<Self>) {
        let from = &commit.from;
        if !self.groups.contains_key(&from.group) && from.generation >= 0 {
            let why = if commit.says_not_found && producer.is_none() {
                GroupError::NotFound
            } else {
                GroupError::IllegalGeneration
            };
            return fx.reply(token, Reply::Commit(Err(why)));
        }
        let cx = &mut Cx { settings: &self.settings, fx };
        if let Some(group) = self.groups.get_mut(&from.group) {
            return offsets::commit(group, token, commit, producer, cx);
        }
        // Who commits without being a member makes a group that has offsets and nothing else.
        let mut group = Group::new(from.group.clone(), cx.fx.wall);
        offsets::commit(&mut group, token, commit, producer, cx);
        if !group.is_disposable() {
            self.groups.insert(from.group.clone(), group);
        }
    }

    /// Calls for a group that is still there.
    fn with(&mut self, group: &Name, fx: &mut Effects<Self>, act: impl FnOnce(&mut Group, &mut Cx<'_>)) {
        if let Some(group) = self.groups.get_mut(group) {
            act(group, &mut Cx { settings: &self.settings, fx });
        }
    }
}

fn check_group_id(group: &str) -> Result<(), GroupError> {
    if group.is_empty() { Err(GroupError::InvalidGroupId) } else { Ok(()) }
}

fn check_sync(group: &Group, sync: &Sync) -> Result<(), GroupError> {
    let from = &sync.member;
    group.check_member(&from.member, from.instance.as_ref())?;
    if from.generation != group.generation {
        return Err(GroupError::IllegalGeneration);
    }
    let differs = |said: &Option<Name>, is: &Option<Name>| said.is_some() && is.is_some() && said != is;
    if differs(&sync.protocol_type, &group.protocol_type) || differs(&sync.protocol, &group.protocol) {
        return Err(GroupError::InconsistentProtocol);
    }
    Ok(())
}

fn sync_checked(group: &mut Group, token: Token, sync: &Sync, cx: &mut Cx<'_>) {
    let id = &sync.member.member;
    match group.phase {
        Phase::Empty => cx.fx.reply(token, Reply::Sync(Err(GroupError::UnknownMember))),
        Phase::Preparing => cx.fx.reply(token, Reply::Sync(Err(GroupError::RebalanceInProgress))),
        Phase::Completing => {
            let before = group.members.get_mut(id).and_then(|member| member.syncing.replace(token));
            if let Some(superseded) = before {
                cx.fx.reply(superseded, Reply::Sync(Err(GroupError::RebalanceInProgress)));
            }
            synced(group, id);
            if group.is_leader(id) {
                rebalance::assign(group, &sync.assignments, cx);
            }
        }
        Phase::Stable => {
            synced(group, id);
            let assignment =
                group.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default();
            let reply = Synced {
                protocol_type: group.protocol_type.clone(),
                protocol: group.protocol.clone(),
                assignment,
            };
            cx.fx.reply_settled(token, Reply::Sync(Ok(reply)));
        }
    }
}

/// A member asked for its assignment.
fn synced(group: &mut Group, member: &Name) {
    group.pending_sync.remove(member);
    if group.pending_sync.is_empty() {
        group.sync_timer.clear();
    }
}

fn leave_one(group: &mut Group, leaving: &Leaving, cx: &mut Cx<'_>) -> Result<(), GroupError> {
    let member = if leaving.member.is_empty() {
        // Administration removes static members by their instance ids.
        let instance = leaving.instance.as_ref().ok_or(GroupError::UnknownMember)?;
        group.statics.get(instance).cloned().ok_or(GroupError::UnknownMember)?
    } else if group.pending_join.contains_key(&leaving.member) {
        group.remove(&leaving.member);
        return Ok(());
    } else {
        group.check_member(&leaving.member, leaving.instance.as_ref())?;
        leaving.member.clone()
    };
    rebalance::drop_member(group, &member, cx);
    Ok(())
}

impl Machine for Groups {
    type Request = Request;
    type Reply = Reply;
    type Timer = Timer;
    type Command = Command;

    const TOPIC: &'static str = CONSUMER_OFFSETS;

    fn writes(request: &Request) -> bool {
        !matches!(request, Request::Heartbeat(_) | Request::Fetch(_) | Request::Describe(_))
    }

    fn replay(&mut self, record: &Replayed) {
        let Some(key) = &record.key else { return };
        if record.is_control {
            // i16 version, i16 type: 0 aborts, 1 commits.
            if let (Some(producer), [_, _, 0, kind @ (0 | 1), ..]) = (record.producer, &key[..]) {
                self.end_transaction(producer.id, *kind == 1);
            }
            return;
        }
        match (codec::read_key(key), &record.value) {
            (Some(codec::Key::Offset { group, topic, partition }), Some(value)) => {
                let Some(offset) = codec::read_offset(value, record.offset) else { return };
                let known = self.groups.entry(group.clone()).or_insert_with(|| Group::new(group, 0));
                match record.producer {
                    None => known.offsets.commit(&topic, partition, offset),
                    Some(producer) => known.offsets.commit_pending(producer.id, &topic, partition, offset),
                }
            }
            (Some(codec::Key::Offset { group, topic, partition }), None) => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.offsets.remove(&topic, partition);
                }
            }
            (Some(codec::Key::Group(name)), value) => {
                let offsets = self.groups.remove(&name).map(|group| group.offsets).unwrap_or_default();
                let stored = value.as_ref().and_then(|value| codec::read_group(value));
                if stored.is_some() || !offsets.is_empty() {
                    let forgotten = codec::StoredGroup { since: Some(0), ..codec::StoredGroup::default() };
                    let mut group = Group::restore(name.clone(), stored.unwrap_or(forgotten));
                    group.offsets = offsets;
                    self.groups.insert(name, group);
                }
            }
            (None, _) => {}
        }
    }

    fn loaded(&mut self, fx: &mut Effects<Self>) {
        // A group that was stored for the sake of its offsets alone is gone with them.
        self.groups.retain(|_, group| group.since != Some(0) || !group.is_disposable());
        for group in self.groups.values_mut() {
            let cx = &mut Cx { settings: &self.settings, fx };
            let members: Vec<Name> = group.members.keys().cloned().collect();
            members.iter().for_each(|member| rebalance::touch_session(group, member, cx));
            if group.members.len() > cx.settings.max_size {
                rebalance::prepare(group, cx);
            }
        }
        fx.schedule(fx.now + self.settings.retention_check_ms, Timer::Expire);
    }

    fn handle(&mut self, token: Token, request: Request, fx: &mut Effects<Self>) {
        match request {
            Request::Join(join) => self.join(token, &join, fx),
            Request::Sync(sync) => self.sync(token, &sync, fx),
            Request::Heartbeat(from) => {
                let result = self.heartbeat(&from, fx);
                fx.reply(token, Reply::Heartbeat(result));
            }
            Request::Leave { group, members } => {
                let results = self.leave(&group, &members, fx);
                fx.reply(token, Reply::Leave(results));
            }
            Request::Commit(commit) => self.commit(token, &commit, None, fx),
            Request::CommitInTxn(commit, producer) => self.commit(token, &commit, Some(producer), fx),
            Request::Fetch(fetch) => {
                let fetched = offsets::fetch(self.groups.get(&fetch.group), &fetch);
                fx.reply_settled(token, Reply::Fetch(fetched));
            }
            Request::DeleteOffsets { group, topics } => {
                let reply = match self.groups.get_mut(&group) {
                    _ if group.is_empty() => Reply::DeleteOffsets(Err(GroupError::InvalidGroupId)),
                    None => Reply::DeleteOffsets(Err(GroupError::NotFound)),
                    Some(group) => offsets::delete(group, &topics, fx),
                };
                fx.reply_settled(token, reply);
            }
            Request::Describe(group) => {
                let description = self.describe(&group);
                fx.reply_settled(token, Reply::Describe(description));
            }
            Request::Delete(group) => {
                let result = self.delete(&group, fx);
                fx.reply_settled(token, Reply::Delete(result));
            }
        }
    }

    fn fire(&mut self, timer: Timer, fx: &mut Effects<Self>) {
        match timer {
            Timer::Session { group, member } => {
                self.with(&group, fx, |group, cx| rebalance::session_timer(group, &member, cx));
            }
            Timer::Join(group) => self.with(&group, fx, rebalance::join_timer),
            Timer::Sync(group) => self.with(&group, fx, rebalance::sync_timer),
            Timer::Expire => self.expire(fx),
        }
    }

    fn topics_deleted(&mut self, names: &[String], fx: &mut Effects<Self>) {
        for group in self.groups.values_mut() {
            fx.write_all(offsets::delete_topics(group, names));
        }
    }
}
