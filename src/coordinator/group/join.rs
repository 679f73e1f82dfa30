//! JoinGroup: who may join, under which id, and what its coming changes.

use std::fmt::Write;

use super::member::Member;
use super::rebalance::{complete_join, joined, maybe_complete_join, prepare, prepare_or_complete, touch};
use super::rebalance::{fits, touch_session};
use super::state::{Group, Phase};
use super::types::{GroupError, Join, Joined, Name, Reply};
use super::{Cx, Timer, codec};
use crate::coordinator::{Deadline, Ms, Token};

/// Bytes of a client's id that go into the ids of its members; stored strings end at 32767.
const CLIENT_ID_IN_MEMBER_ID: usize = 249;

/// Ids of one group that may be given out and not joined with.
const MAX_PENDING: usize = 10_000;

fn refuse(token: Token, member: &Name, why: GroupError, cx: &mut Cx<'_>) {
    let joined = Joined { error: Some(why), member: member.clone(), generation: -1, ..Joined::default() };
    cx.fx.reply(token, Reply::Join(joined));
}

fn nobody() -> Name {
    "".into()
}

/// What can be said without the group.
pub fn check(join: &Join, cx: &Cx<'_>) -> Result<(), GroupError> {
    if join.group.is_empty() {
        return Err(GroupError::InvalidGroupId);
    }
    let allowed = cx.settings.min_session_timeout_ms..=cx.settings.max_session_timeout_ms;
    if !allowed.contains(&join.session_timeout) {
        return Err(GroupError::InvalidSessionTimeout);
    }
    Ok(())
}

pub fn refuse_without_group(token: Token, join: &Join, why: GroupError, cx: &mut Cx<'_>) {
    refuse(token, &join.member, why, cx);
}

pub fn handle(group: &mut Group, token: Token, join: &Join, cx: &mut Cx<'_>) {
    if !accepts(group, &join.member, cx) {
        group.remove(&join.member);
        return refuse(token, &nobody(), GroupError::MaxSizeReached, cx);
    }
    if !group.supports(&join.protocol_type, &join.protocols) {
        return refuse(token, &join.member, GroupError::InconsistentProtocol, cx);
    }
    if join.protocols.iter().any(|(name, metadata)| name.len() + metadata.len() > cx.fx.max_batch) {
        return refuse(token, &join.member, GroupError::TooLarge, cx);
    }
    if !join.member.is_empty() {
        return rejoin(group, token, join, cx);
    }
    let id = new_member_id(join);
    match join.instance.as_ref().and_then(|instance| group.statics.get(instance).cloned()) {
        Some(old) => replace_static(group, token, join, &old, id, cx),
        None if join.instance.is_none() && join.requires_known_id => {
            if group.pending_join.len() >= MAX_PENDING {
                return refuse(token, &nobody(), GroupError::MaxSizeReached, cx);
            }
            let mut deadline = Deadline::default();
            if let Some(at) = deadline.set(cx.fx.now + Ms::from(join.session_timeout)) {
                cx.fx.schedule(at, Timer::Session { group: group.id.clone(), member: id.clone() });
            }
            group.pending_join.insert(id.clone(), deadline);
            refuse(token, &id, GroupError::MemberIdRequired, cx);
        }
        None => add(group, token, join, id, cx),
    }
}

/// Whether there is room. While members are waited for, those that came first have it.
fn accepts(group: &Group, member: &str, cx: &Cx<'_>) -> bool {
    let known = group.members.get(member);
    match group.phase {
        Phase::Empty => true,
        Phase::Preparing => {
            known.is_some_and(|member| member.joining.is_some()) || group.joining() < cx.settings.max_size
        }
        Phase::Completing | Phase::Stable => known.is_some() || group.members.len() < cx.settings.max_size,
    }
}

fn new_member_id(join: &Join) -> Name {
    let base = join.instance.as_ref().unwrap_or(&join.client_id);
    let end = base.floor_char_boundary(CLIENT_ID_IN_MEMBER_ID);
    let mut id = String::with_capacity(end + 37);
    id.push_str(&base[..end]);
    // A random (version 4) UUID.
    let bits = (join.random & !(0xf000_u128 << 64) | (0x4000_u128 << 64)) & !(3_u128 << 62) | (2_u128 << 62);
    let hex = format!("{bits:032x}");
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    for part in parts {
        let _ = write!(id, "-{part}");
    }
    id.into()
}

fn add(group: &mut Group, token: Token, join: &Join, id: Name, cx: &mut Cx<'_>) {
    if group.phase == Phase::Preparing && group.previous == Phase::Empty {
        group.new_member = true;
    }
    if group.members.is_empty() {
        group.protocol_type = Some(join.protocol_type.clone());
    }
    let mut member = Member::new(id.clone(), join);
    member.joining = Some(token);
    if let Some(deadline) = group.pending_join.remove(&id) {
        // Its entry in the heap is the member's from now on.
        member.session = deadline;
    }
    group.insert(member);
    // It cannot send heartbeats while it waits for its first generation.
    touch(group, &id, cx.settings.new_member_timeout_ms, cx);
    prepare_or_complete(group, cx);
}

/// A JoinGroup from somebody who has an id.
fn rejoin(group: &mut Group, token: Token, join: &Join, cx: &mut Cx<'_>) {
    let id = &join.member;
    if group.pending_join.contains_key(id) {
        // Ids are given in advance to dynamic members only.
        return match join.instance {
            Some(_) => refuse(token, id, GroupError::UnknownMember, cx),
            None => add(group, token, join, id.clone(), cx),
        };
    }
    if let Err(why) = group.check_member(id, join.instance.as_ref()) {
        return refuse(token, id, why, cx);
    }
    let unchanged = group.members.get(id).is_some_and(|member| member.protocols == join.protocols);
    match group.phase {
        Phase::Completing if unchanged => {
            // It did not get the answer to its last JoinGroup.
            let joined = joined(group, id, group.is_leader(id));
            cx.fx.reply(token, Reply::Join(joined));
        }
        Phase::Stable if unchanged && !group.is_leader(id) => {
            let joined = joined(group, id, false);
            cx.fx.reply(token, Reply::Join(joined));
        }
        Phase::Preparing | Phase::Completing | Phase::Stable => {
            supersede(group, id, cx);
            group.update(id, join, token);
            prepare_or_complete(group, cx);
        }
        Phase::Empty => refuse(token, id, GroupError::UnknownMember, cx),
    }
}

/// A member that asks again has given up on the JoinGroup that it sent before.
fn supersede(group: &mut Group, id: &Name, cx: &mut Cx<'_>) {
    if let Some(old) = group.take_joining(id) {
        refuse(old, id, GroupError::RebalanceInProgress, cx);
    }
}

/// A static member that was started again: it takes the place of its former self.
fn replace_static(group: &mut Group, token: Token, join: &Join, old: &Name, id: Name, cx: &mut Cx<'_>) {
    let grows = id.len() + join.protocols.iter().map(|(_, metadata)| metadata.len()).max().unwrap_or(0);
    if group.phase == Phase::Stable && !fits(group, grows, cx) {
        return refuse(token, &nobody(), GroupError::TooLarge, cx);
    }
    let old_leader = group.leader.clone();
    let (old_join, old_sync) = group.replace_static(old, id.clone());
    group.update(&id, join, token);
    let keeps_protocol = group.phase == Phase::Stable && group.protocol == group.choose_protocol();
    if let Some(fenced) = old_join {
        refuse(fenced, old, GroupError::FencedInstance, cx);
    }
    if let Some(fenced) = old_sync {
        cx.fx.reply(fenced, Reply::Sync(Err(GroupError::FencedInstance)));
    }
    touch_session(group, &id, cx);
    match group.phase {
        Phase::Stable if keeps_protocol => {
            cx.fx.write(codec::group_record(&group.id, &group.stored()));
            group.take_joining(&id);
            let is_leader = group.is_leader(&id);
            let mut joined = joined(group, &id, join.can_skip_assignment && is_leader);
            joined.skip_assignment = join.can_skip_assignment && is_leader;
            if !join.can_skip_assignment {
                // It would assign if it were told that it leads, and nobody would be waiting for that.
                joined.leader = old_leader;
            }
            cx.fx.reply_settled(token, Reply::Join(joined));
        }
        Phase::Stable => prepare_or_complete(group, cx),
        // The old id may be in the leader's hands: an assignment for it would go to nobody.
        Phase::Completing => prepare(group, cx),
        Phase::Preparing => maybe_complete_join(group, cx),
        Phase::Empty => complete_join(group, cx),
    }
}
