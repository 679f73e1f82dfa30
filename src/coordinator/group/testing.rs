//! A driver for tests: a clock that is set, the log as a list, replies by token, settled ones only when told.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::*;
use crate::coordinator::{Effects, Machine, Record, Replayed, TimerHeap, Token};
use crate::model::{MonoMs, Offset, TopicId, WallMs};

pub const GROUP: &str = "g";

pub struct Bench {
    pub groups: Groups,
    pub settings: GroupSettings,
    pub now: i64,
    pub log: Vec<Record>,
    timers: TimerHeap<Timer>,
    pub replies: HashMap<Token, Reply>,
    next_token: Token,
    random: u128,
}

impl Bench {
    pub fn new(settings: GroupSettings) -> Self {
        let groups = Groups::new(settings.clone());
        let mut bench = Self {
            groups,
            settings,
            now: 0,
            log: Vec::new(),
            timers: TimerHeap::default(),
            replies: HashMap::new(),
            next_token: 0,
            random: 0,
        };
        bench.step(|groups, fx| groups.loaded(fx));
        bench
    }

    fn step(&mut self, event: impl FnOnce(&mut Groups, &mut Effects<Groups>)) {
        let mut fx = Effects::new(
            MonoMs(self.now),
            WallMs(1_000_000 + self.now),
            Offset(self.log.len() as i64),
            1 << 20,
        );
        event(&mut self.groups, &mut fx);
        for (at, timer) in fx.timers {
            self.timers.push(at, timer);
        }
        self.log.extend(fx.records);
        for answer in fx.replies {
            let twice = self.replies.insert(answer.token, answer.reply);
            assert!(twice.is_none(), "token {} is answered twice", answer.token);
        }
    }

    /// Sends a request; the reply, if there is one yet, is under the token.
    pub fn send(&mut self, request: Request) -> Token {
        let token = self.next_token;
        self.next_token += 1;
        self.step(|groups, fx| groups.handle(token, request, fx));
        token
    }

    pub fn call(&mut self, request: Request) -> Reply {
        let token = self.send(request);
        self.replies.remove(&token).expect("answered at once")
    }

    pub fn delete_topic(&mut self, name: &str) {
        self.step(|groups, fx| groups.topics_deleted(&[name.to_string()], fx));
    }

    /// Lets time pass, and the timers in it.
    pub fn pass(&mut self, ms: i64) {
        let until = self.now + ms;
        while let Some(at) = self.timers.next_at().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            while let Some(timer) = self.timers.pop_due(self.now) {
                self.step(|groups, fx| groups.fire(timer, fx));
            }
        }
        self.now = until;
    }

    pub fn timers(&self) -> usize {
        self.timers.len()
    }

    /// Loses what is only in memory: the groups are loaded from the log, of which compaction has kept the last
    /// record of each key.
    pub fn restart(&mut self) {
        self.groups = Groups::new(self.settings.clone());
        self.timers = TimerHeap::default();
        self.replies.clear();
        let mut last: BTreeMap<&Bytes, usize> = BTreeMap::new();
        for (i, record) in self.log.iter().enumerate() {
            last.insert(&record.key, i);
        }
        let mut kept: Vec<usize> = last.into_values().collect();
        kept.sort_unstable();
        for i in kept {
            let record = &self.log[i];
            self.groups.replay(&Replayed {
                offset: i as i64,
                producer: None,
                is_control: false,
                key: Some(record.key.clone()),
                value: record.value.clone(),
            });
        }
        self.step(|groups, fx| groups.loaded(fx));
    }

    pub fn join_request(&mut self, member: &str, instance: Option<&str>) -> Join {
        self.random += 1;
        Join {
            group: GROUP.into(),
            member: member.into(),
            instance: instance.map(Into::into),
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout: 10_000,
            rebalance_timeout: 60_000,
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), subscription(&["t"]))],
            random: self.random,
            requires_known_id: true,
            can_skip_assignment: true,
        }
    }

    /// Gets an id for a new dynamic member and joins with it; the JoinGroup's token.
    pub fn enter(&mut self) -> (Name, Token) {
        let request = self.join_request("", None);
        let Reply::Join(joined) = self.call(Request::Join(request)) else { panic!("a join") };
        assert_eq!(joined.error, Some(GroupError::MemberIdRequired));
        let request = self.join_request(&joined.member, None);
        (joined.member, self.send(Request::Join(request)))
    }

    pub fn rejoin(&mut self, member: &str) -> Token {
        let request = self.join_request(member, None);
        self.send(Request::Join(request))
    }

    pub fn joined(&mut self, token: Token) -> Joined {
        match self.replies.remove(&token) {
            Some(Reply::Join(joined)) => joined,
            other => panic!("token {token}: {other:?}"),
        }
    }

    pub fn sync(&mut self, joined: &Joined, assignments: &[(&Name, &str)]) -> Token {
        self.send(Request::Sync(Sync {
            member: self.member(&joined.member, joined.generation),
            protocol_type: Some("consumer".into()),
            protocol: joined.protocol.clone(),
            assignments: assignments
                .iter()
                .map(|(member, what)| ((*member).clone(), Bytes::copy_from_slice(what.as_bytes())))
                .collect(),
        }))
    }

    pub fn synced(&mut self, token: Token) -> Result<String, GroupError> {
        match self.replies.remove(&token) {
            Some(Reply::Sync(result)) => {
                result.map(|synced| String::from_utf8(synced.assignment.to_vec()).unwrap())
            }
            other => panic!("token {token}: {other:?}"),
        }
    }

    pub fn member(&self, member: &str, generation: i32) -> Member {
        Member { group: GROUP.into(), member: member.into(), instance: None, generation }
    }

    pub fn heartbeat(&mut self, member: &str, generation: i32) -> Result<(), GroupError> {
        let from = self.member(member, generation);
        match self.call(Request::Heartbeat(from)) {
            Reply::Heartbeat(result) => result,
            other => panic!("{other:?}"),
        }
    }

    pub fn leave(&mut self, member: &str, instance: Option<&str>) -> Result<(), GroupError> {
        let members = vec![Leaving { member: member.into(), instance: instance.map(Into::into) }];
        match self.call(Request::Leave { group: GROUP.into(), members }) {
            Reply::Leave(results) => results[0],
            other => panic!("{other:?}"),
        }
    }

    pub fn commit_request(&self, from: Member, topic: &str, offset: i64) -> Commit {
        let partition = CommitPartition { index: 0, offset, leader_epoch: 4, metadata: "m".into() };
        Commit {
            from,
            retention_ms: -1,
            says_not_found: true,
            topics: vec![CommitTopic {
                name: topic.into(),
                id: TopicId([1; 16]),
                partitions: vec![partition],
            }],
        }
    }

    pub fn commit(&mut self, member: &str, generation: i32, offset: i64) -> Result<(), GroupError> {
        let commit = self.commit_request(self.member(member, generation), "t", offset);
        match self.call(Request::Commit(commit)) {
            Reply::Commit(result) => result.and_then(|topics| topics[0][0]),
            other => panic!("{other:?}"),
        }
    }

    pub fn committed(&mut self, topic: &str) -> Option<i64> {
        let fetch = Fetch {
            group: GROUP.into(),
            topics: Some(vec![(topic.into(), TopicId::ZERO, vec![0])]),
            require_stable: true,
        };
        match self.call(Request::Fetch(fetch)) {
            Reply::Fetch(topics) => topics[0].partitions[0].1.as_ref().unwrap().as_ref().map(|o| o.offset),
            other => panic!("{other:?}"),
        }
    }

    pub fn state(&self) -> &'static str {
        self.groups.group(GROUP).map_or("Dead", |group| group.phase.name())
    }

    /// Members join an empty group and reach a stable generation; what each was told, the leader first.
    pub fn stable(&mut self, members: usize) -> Vec<Joined> {
        let entered: Vec<(Name, Token)> = (0..members).map(|_| self.enter()).collect();
        self.pass(self.settings.initial_rebalance_delay_ms * (members as i64 + 1));
        let mut joined: Vec<Joined> = entered.iter().map(|(_, token)| self.joined(*token)).collect();
        joined.sort_by_key(|joined| joined.leader.as_ref() != Some(&joined.member));
        let assignments: Vec<(&Name, &str)> = entered.iter().map(|(id, _)| (id, &**id)).collect();
        for joined in joined.clone() {
            let token = self.sync(&joined, &assignments);
            assert_eq!(self.synced(token), Ok(joined.member.to_string()));
        }
        joined
    }
}

/// A consumer's subscription, version 1.
pub fn subscription(topics: &[&str]) -> Bytes {
    let mut out = vec![0, 1];
    out.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        out.extend((topic.len() as i16).to_be_bytes());
        out.extend(topic.as_bytes());
    }
    out.extend([0xff; 4]);
    out.into()
}
