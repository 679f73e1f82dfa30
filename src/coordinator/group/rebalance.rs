//! From one generation to the next: waiting for members, choosing leader and protocol, handing out assignments, and
//! what ends a wait.

use bytes::Bytes;

use super::codec;
use super::member::Member;
use super::state::{Group, JoinWait, Phase};
use super::types::{GroupError, Joined, Name, Reply, Synced};
use super::{Cx, Timer};
use crate::coordinator::{Fired, Ms, Token};
use crate::wire::batch::HEADER_SIZE;
use crate::wire::records::BatchBuilder;

/// Renews a member's session.
pub fn touch(group: &mut Group, member: &str, timeout: Ms, cx: &mut Cx<'_>) {
    let id = group.id.clone();
    if let Some(member) = group.members.get_mut(member)
        && let Some(at) = member.session.set(cx.fx.now.saturating_add(timeout))
    {
        cx.fx.schedule(at, Timer::Session { group: id, member: member.id.clone() });
    }
}

/// Renews a member's session for as long as it asked for.
pub fn touch_session(group: &mut Group, member: &str, cx: &mut Cx<'_>) {
    let timeout = group.members.get(member).map_or(0, |member| Ms::from(member.session_timeout));
    touch(group, member, timeout, cx);
}

fn wait_for_members(group: &mut Group, delay: Ms, what: JoinWait, cx: &mut Cx<'_>) {
    group.join_wait = what;
    if let Some(at) = group.join_timer.set(cx.fx.now.saturating_add(delay)) {
        cx.fx.schedule(at, Timer::Join(group.id.clone()));
    }
}

/// A change that needs a new generation.
pub fn prepare_or_complete(group: &mut Group, cx: &mut Cx<'_>) {
    match group.phase {
        Phase::Preparing => maybe_complete_join(group, cx),
        Phase::Empty | Phase::Completing | Phase::Stable => prepare(group, cx),
    }
}

/// Makes everybody join again.
pub fn prepare(group: &mut Group, cx: &mut Cx<'_>) {
    if group.phase == Phase::Completing {
        refuse_assignments(group, GroupError::RebalanceInProgress, cx);
    }
    group.pending_sync.clear();
    group.sync_timer.clear();
    let initial = group.phase == Phase::Empty;
    group.enter(Phase::Preparing, cx.fx.wall);
    if initial {
        let delay = cx.settings.initial_rebalance_delay_ms;
        let left = (group.rebalance_timeout() - delay).max(0);
        group.new_member = false;
        wait_for_members(group, delay, JoinWait::Initial { delay, left }, cx);
    } else if group.all_joined() {
        complete_join(group, cx);
    } else {
        wait_for_members(group, group.rebalance_timeout(), JoinWait::Members, cx);
    }
}

/// Goes on once everybody is there; a group that was empty waits its time out.
pub fn maybe_complete_join(group: &mut Group, cx: &mut Cx<'_>) {
    if group.phase == Phase::Preparing && group.previous != Phase::Empty && group.all_joined() {
        complete_join(group, cx);
    }
}

pub fn join_timer(group: &mut Group, cx: &mut Cx<'_>) {
    match group.join_timer.fired(cx.fx.now) {
        Fired::Nothing => {}
        Fired::Again(at) => cx.fx.schedule(at, Timer::Join(group.id.clone())),
        Fired::Due if group.phase != Phase::Preparing => {}
        Fired::Due => match group.join_wait {
            JoinWait::Initial { delay, left } if group.new_member && left > 0 => {
                group.new_member = false;
                let next = cx.settings.initial_rebalance_delay_ms.min(left);
                let left = (left - delay).max(0);
                wait_for_members(group, next, JoinWait::Initial { delay: next, left }, cx);
            }
            _ => complete_join(group, cx),
        },
    }
}

/// Ends the wait for members: who has not come goes, except static members.
pub fn complete_join(group: &mut Group, cx: &mut Cx<'_>) {
    group.join_timer.clear();
    let late = group.members.values().filter(|member| member.joining.is_none() && member.instance.is_none());
    let late: Vec<Name> = late.map(|member| member.id.clone()).collect();
    for id in &late {
        group.remove(id);
    }
    if !group.members.is_empty() && !group.elect() {
        // Only static members are left and none has come: their sessions decide.
        return wait_for_members(group, group.rebalance_timeout(), JoinWait::Members, cx);
    }
    group.next_generation(cx.fx.wall);
    if group.phase == Phase::Empty {
        cx.fx.write(codec::group_record(&group.id, &group.stored()));
        return;
    }
    let everybody: Vec<Name> = group.members.keys().cloned().collect();
    for id in everybody {
        let token = group.take_joining(&id);
        if let Some(token) = token {
            let joined = joined(group, &id, group.is_leader(&id));
            cx.fx.reply(token, Reply::Join(joined));
        }
        touch_session(group, &id, cx);
        if let Some(member) = group.members.get_mut(&id) {
            member.is_new = false;
        }
        group.pending_sync.insert(id);
    }
    if let Some(at) = group.sync_timer.set(cx.fx.now.saturating_add(group.rebalance_timeout())) {
        cx.fx.schedule(at, Timer::Sync(group.id.clone()));
    }
}

/// What a member of the generation is told when it joins.
pub fn joined(group: &Group, member: &Name, with_members: bool) -> Joined {
    let protocol = group.protocol.as_deref();
    let describe = |member: &Member| (member.id.clone(), member.instance.clone(), member.metadata(protocol));
    Joined {
        error: None,
        member: member.clone(),
        generation: group.generation,
        protocol_type: group.protocol_type.clone(),
        protocol: group.protocol.clone(),
        leader: group.leader.clone(),
        skip_assignment: false,
        members: if with_members { group.members.values().map(describe).collect() } else { Vec::new() },
    }
}

/// Whether the group as it is now, and so many bytes more, can be stored.
pub fn fits(group: &Group, more: usize, cx: &Cx<'_>) -> bool {
    let record = codec::group_record(&group.id, &group.stored());
    let cost = BatchBuilder::cost(Some(&record.key), record.value.as_deref());
    cost + more + HEADER_SIZE <= cx.fx.max_batch
}

/// Takes the leader's assignment: stores it, and gives everybody who asked theirs once it is stored.
pub fn assign(group: &mut Group, assignments: &[(Name, Bytes)], cx: &mut Cx<'_>) {
    let given: std::collections::HashMap<&str, &Bytes> =
        assignments.iter().map(|(member, assignment)| (&**member, assignment)).collect();
    for member in group.members.values_mut() {
        member.assignment = given.get(&*member.id).map(|bytes| (*bytes).clone()).unwrap_or_default();
    }
    if !fits(group, 0, cx) {
        refuse_assignments(group, GroupError::TooLarge, cx);
        return prepare_or_complete(group, cx);
    }
    cx.fx.write(codec::group_record(&group.id, &group.stored()));
    group.enter(Phase::Stable, cx.fx.wall);
    let synced: Vec<(Name, Token, Bytes)> = group
        .members
        .values_mut()
        .filter_map(|member| Some((member.id.clone(), member.syncing.take()?, member.assignment.clone())))
        .collect();
    for (id, token, assignment) in synced {
        let reply = Synced {
            protocol_type: group.protocol_type.clone(),
            protocol: group.protocol.clone(),
            assignment,
        };
        cx.fx.reply_settled(token, Reply::Sync(Ok(reply)));
        touch_session(group, &id, cx);
    }
}

/// Tells everybody who waits for an assignment that there will be none.
fn refuse_assignments(group: &mut Group, why: GroupError, cx: &mut Cx<'_>) {
    let mut refused = Vec::new();
    for member in group.members.values_mut() {
        member.assignment = Bytes::new();
        if let Some(token) = member.syncing.take() {
            cx.fx.reply(token, Reply::Sync(Err(why)));
            refused.push(member.id.clone());
        }
    }
    for id in refused {
        touch_session(group, &id, cx);
    }
}

/// Members that did not ask for their assignment in time are gone.
pub fn sync_timer(group: &mut Group, cx: &mut Cx<'_>) {
    match group.sync_timer.fired(cx.fx.now) {
        Fired::Nothing => {}
        Fired::Again(at) => cx.fx.schedule(at, Timer::Sync(group.id.clone())),
        Fired::Due => {
            let late: Vec<Name> = group.pending_sync.iter().cloned().collect();
            if !late.is_empty() && matches!(group.phase, Phase::Completing | Phase::Stable) {
                for id in &late {
                    group.remove(id);
                }
                prepare(group, cx);
            }
        }
    }
}

pub fn session_timer(group: &mut Group, member: &Name, cx: &mut Cx<'_>) {
    let now = cx.fx.now;
    if let Some(deadline) = group.pending_join.get_mut(member) {
        match deadline.fired(now) {
            Fired::Nothing => {}
            Fired::Again(at) => {
                cx.fx.schedule(at, Timer::Session { group: group.id.clone(), member: member.clone() });
            }
            Fired::Due => {
                group.remove(member);
                after_pending_left(group, cx);
            }
        }
        return;
    }
    let Some(known) = group.members.get_mut(member) else { return };
    match known.session.fired(now) {
        Fired::Nothing => {}
        Fired::Again(at) => {
            cx.fx.schedule(at, Timer::Session { group: group.id.clone(), member: member.clone() });
        }
        Fired::Due if known.is_alive() => {}
        Fired::Due => {
            drop_member(group, member, cx);
            match group.phase {
                Phase::Stable | Phase::Completing => prepare_or_complete(group, cx),
                Phase::Preparing if group.all_joined() => complete_join(group, cx),
                Phase::Preparing | Phase::Empty => {}
            }
        }
    }
}

/// An id that was waited for will not come.
pub fn after_pending_left(group: &mut Group, cx: &mut Cx<'_>) {
    if group.phase == Phase::Preparing && group.all_joined() {
        complete_join(group, cx);
    }
}

/// Removes a member; what it waits with is told to start over.
pub fn drop_member(group: &mut Group, member: &str, cx: &mut Cx<'_>) {
    if let Some(token) = group.take_joining(member) {
        let joined = Joined { error: Some(GroupError::UnknownMember), generation: -1, ..Joined::default() };
        cx.fx.reply(token, Reply::Join(joined));
    }
    if let Some(member) = group.remove(member)
        && let Some(token) = member.syncing
    {
        cx.fx.reply(token, Reply::Sync(Err(GroupError::UnknownMember)));
    }
}
