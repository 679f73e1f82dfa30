//! One group: its members, its generation, its offsets. Methods keep the counts that go with the members; who calls
//! them decides when.
//!
//! ```text
//!            first member              everybody joined           leader's assignment
//!   Empty ───────────────▶ Preparing ──────────────────▶ Completing ────────────────▶ Stable
//!     ▲                     │  ▲  ▲                          │                           │
//!     └──── nobody is left ─┘  │  └──── a member joins, leaves, fails, changes ──────────┤
//!                              └─────────────────────────────────────────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::codec::{StoredGroup, StoredMember, subscribed_topics};
use super::kept::Offsets;
use super::member::Member;
use super::types::{GroupError, Join, Name};
use crate::coordinator::{Deadline, Ms, Token};

/// The protocol type whose metadata names topics.
const CONSUMER: &str = "consumer";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Empty,
    /// Members are being waited for.
    Preparing,
    /// The leader's assignment is being waited for.
    Completing,
    Stable,
}

impl Phase {
    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Preparing => "PreparingRebalance",
            Self::Completing => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// What the join timer stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinWait {
    /// A group that was empty waits for more members: this long now, and so much longer at most.
    Initial { delay: Ms, left: Ms },
    /// Members that are known are waited for.
    Members,
}

#[derive(Clone, Debug)]
pub struct Group {
    pub id: Name,
    pub phase: Phase,
    pub previous: Phase,
    /// When the phase began, by the wall clock; unknown of groups that old brokers stored.
    pub since: Option<Ms>,
    pub protocol_type: Option<Name>,
    pub protocol: Option<Name>,
    pub generation: i32,
    pub leader: Option<Name>,
    pub members: BTreeMap<Name, Member>,
    /// Static members by their instance ids.
    pub statics: BTreeMap<Name, Name>,
    /// Ids that were given out and have not joined with them yet.
    pub pending_join: BTreeMap<Name, Deadline>,
    /// Members of this generation that have not asked for their assignment.
    pub pending_sync: BTreeSet<Name>,
    /// How many members support each protocol.
    supported: BTreeMap<Name, usize>,
    /// Topics that the members read; `None` where that is not known.
    pub topics: Option<BTreeSet<String>>,
    /// Somebody came while the group waited for its first members.
    pub new_member: bool,
    pub join_wait: JoinWait,
    pub join_timer: Deadline,
    pub sync_timer: Deadline,
    joining: usize,
    pub offsets: Offsets,
}

impl Group {
    pub fn new(id: Name, now: Ms) -> Self {
        Self {
            id,
            phase: Phase::Empty,
            previous: Phase::Empty,
            since: Some(now),
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending_join: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            supported: BTreeMap::new(),
            topics: None,
            new_member: false,
            join_wait: JoinWait::Members,
            join_timer: Deadline::default(),
            sync_timer: Deadline::default(),
            joining: 0,
            offsets: Offsets::default(),
        }
    }

    /// The group as its record says, without offsets.
    pub fn restore(id: Name, stored: StoredGroup) -> Self {
        let mut group = Self::new(id, 0);
        group.since = stored.since;
        group.generation = stored.generation;
        group.protocol_type = stored.protocol_type;
        group.protocol = stored.protocol;
        group.leader = stored.leader;
        group.phase = if stored.members.is_empty() { Phase::Empty } else { Phase::Stable };
        for stored in stored.members {
            let protocol = group.protocol.clone().unwrap_or_else(|| "".into());
            let member = Member {
                id: stored.id,
                instance: stored.instance,
                client_id: stored.client_id,
                client_host: stored.client_host,
                rebalance_timeout: stored.rebalance_timeout,
                session_timeout: stored.session_timeout,
                protocols: vec![(protocol, stored.subscription)],
                assignment: stored.assignment,
                joining: None,
                syncing: None,
                is_new: false,
                session: Deadline::default(),
            };
            group.insert(member);
        }
        group.topics = group.subscribed();
        group
    }

    /// What is stored of the group.
    pub fn stored(&self) -> StoredGroup {
        let members = self.members.values().map(|member| StoredMember {
            id: member.id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout: member.rebalance_timeout,
            session_timeout: member.session_timeout,
            subscription: member.metadata(self.protocol.as_deref()),
            assignment: member.assignment.clone(),
        });
        StoredGroup {
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            since: self.since,
            members: members.collect(),
        }
    }

    pub fn enter(&mut self, phase: Phase, now: Ms) {
        self.previous = self.phase;
        self.phase = phase;
        self.since = Some(now);
    }

    pub fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    pub fn is_consumer(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// Members whose JoinGroup waits.
    pub fn joining(&self) -> usize {
        self.joining
    }

    pub fn all_joined(&self) -> bool {
        self.joining == self.members.len() && self.pending_join.is_empty()
    }

    /// The longest that any member may take to join again.
    pub fn rebalance_timeout(&self) -> Ms {
        self.members.values().map(|member| Ms::from(member.rebalance_timeout)).max().unwrap_or(0).max(0)
    }

    /// Whether a member with these protocols could be part of the group.
    pub fn supports(&self, protocol_type: &str, protocols: &[(Name, Bytes)]) -> bool {
        if self.phase == Phase::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let everybody = self.members.len();
        let by_all = |name: &Name| self.supported.get(name).copied().unwrap_or(0) == everybody;
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.iter().any(|(name, _)| by_all(name))
    }

    /// Checks who a request says it comes from.
    pub fn check_member(&self, member: &str, instance: Option<&Name>) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            match self.statics.get(instance) {
                None => return Err(GroupError::UnknownMember),
                Some(current) if **current != *member => return Err(GroupError::FencedInstance),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) { Ok(()) } else { Err(GroupError::UnknownMember) }
    }

    pub fn insert(&mut self, member: Member) {
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), member.id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member.id.clone());
        }
        self.count_protocols(&member.protocols, true);
        self.joining += usize::from(member.joining.is_some());
        self.pending_join.remove(&member.id);
        self.members.insert(member.id.clone(), member);
    }

    pub fn remove(&mut self, id: &str) -> Option<Member> {
        self.pending_join.remove(id);
        self.pending_sync.remove(id);
        let member = self.members.remove(id)?;
        self.count_protocols(&member.protocols, false);
        self.joining -= usize::from(member.joining.is_some());
        if let Some(instance) = &member.instance {
            self.statics.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Takes over what a member now says of itself, and the JoinGroup that it waits with.
    pub fn update(&mut self, id: &str, join: &Join, token: Token) {
        let Some(mut member) = self.members.remove(id) else { return };
        self.count_protocols(&member.protocols, false);
        self.count_protocols(&join.protocols, true);
        self.joining += usize::from(member.joining.is_none());
        member.protocols = join.protocols.clone();
        member.rebalance_timeout = join.rebalance_timeout;
        member.session_timeout = join.session_timeout;
        member.joining = Some(token);
        self.members.insert(member.id.clone(), member);
    }

    /// Ends a member's wait for the generation.
    pub fn take_joining(&mut self, id: &str) -> Option<Token> {
        let token = self.members.get_mut(id)?.joining.take()?;
        self.joining -= 1;
        Some(token)
    }

    /// Gives a static member's place to a new id. Returns what the old one waited with: JoinGroup and SyncGroup.
    pub fn replace_static(&mut self, old: &str, new: Name) -> (Option<Token>, Option<Token>) {
        let Some(mut member) = self.members.remove(old) else { return (None, None) };
        let waiting = (member.joining.take(), member.syncing.take());
        self.joining -= usize::from(waiting.0.is_some());
        if self.is_leader(old) {
            self.leader = Some(new.clone());
        }
        if self.pending_sync.remove(old) {
            self.pending_sync.insert(new.clone());
        }
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), new.clone());
        }
        member.id = new.clone();
        member.session = Deadline::default();
        self.members.insert(new, member);
        waiting
    }

    /// Makes a member that has joined the leader, if the leader has not; says whether the leader has joined.
    pub fn elect(&mut self) -> bool {
        let joined = |id: &Name| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let next =
            self.members.values().find(|member| member.joining.is_some()).map(|member| member.id.clone());
        match (next, &self.leader) {
            (Some(next), Some(_)) => {
                self.leader = Some(next);
                true
            }
            _ => false,
        }
    }

    /// The protocol with the most votes among those that everybody supports; of equal ones the first by name.
    pub fn choose_protocol(&self) -> Option<Name> {
        let everybody = self.members.len();
        let common = |name: &Name| self.supported.get(name).copied() == Some(everybody);
        let mut votes: BTreeMap<&Name, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| common(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    /// Begins the next generation with the members there are.
    pub fn next_generation(&mut self, now: Ms) {
        // Like Kafka's: a generation that wraps would be taken for none.
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.protocol = if self.members.is_empty() { None } else { self.choose_protocol() };
        self.topics = self.subscribed();
        self.enter(if self.members.is_empty() { Phase::Empty } else { Phase::Completing }, now);
        self.pending_sync.clear();
    }

    /// Whether the group's members read the topic, as far as can be known.
    pub fn reads(&self, topic: &str) -> bool {
        self.topics.as_ref().map_or(self.is_consumer(), |topics| topics.contains(topic))
    }

    fn subscribed(&self) -> Option<BTreeSet<String>> {
        if !self.is_consumer() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = Some(&**self.protocol.as_ref()?);
        let mut all = BTreeSet::new();
        for member in self.members.values() {
            all.extend(subscribed_topics(&member.metadata(protocol))?);
        }
        Some(all)
    }

    fn count_protocols(&mut self, protocols: &[(Name, Bytes)], up: bool) {
        // A name that is given twice counts once: it is one protocol of one member.
        let names: BTreeSet<&Name> = protocols.iter().map(|(name, _)| name).collect();
        for name in names {
            if up {
                *self.supported.entry(name.clone()).or_default() += 1;
            } else if let Some(count) = self.supported.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.supported.remove(name);
                }
            }
        }
    }

    /// Nothing is left that would have to be kept.
    pub fn is_disposable(&self) -> bool {
        self.phase == Phase::Empty && self.offsets.is_empty()
    }

    #[cfg(test)]
    pub fn check_counts(&self) {
        let joining = self.members.values().filter(|member| member.joining.is_some()).count();
        assert_eq!(self.joining, joining, "{}: waiting JoinGroups", self.id);
        let mut supported: BTreeMap<Name, usize> = BTreeMap::new();
        for member in self.members.values() {
            let names: BTreeSet<&Name> = member.protocols.iter().map(|(name, _)| name).collect();
            names.into_iter().for_each(|name| *supported.entry(name.clone()).or_default() += 1);
        }
        assert_eq!(self.supported, supported, "{}: supported protocols", self.id);
    }
}
