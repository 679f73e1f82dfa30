//! What has changed in the cluster, for those who watch it: the last changes, numbered, while somebody does.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::metadata::quorum::Status;
use crate::metadata::{Delta, Image, Partition};
use crate::model::BrokerId;
use crate::model::report::{Change, Changes, What};
use crate::peer::keys;
use crate::rt;

/// Changes that are kept.
const KEPT: usize = 4096;
/// Changes of one answer.
const MOST: usize = 500;
/// Watchers that wait at once.
const WATCHERS: usize = 64;
/// How long nobody has to ask before nothing is noted any more.
const FORGET: Duration = Duration::from_secs(60);

/// `To` is where an answer goes.
pub struct History<To> {
    source: String,
    last: u64,
    kept: VecDeque<Change>,
    waiting: Vec<(u64, Instant, To)>,
    asked: Option<Instant>,
    controller: Option<What>,
    quorum: Option<What>,
}

/// Answers to give.
pub type Answers<To> = Vec<(To, Changes)>;

impl<To> History<To> {
    /// Numbers are this process's.
    pub fn new(incarnation: [u8; 16]) -> Self {
        Self {
            source: incarnation[..8].iter().map(|byte| format!("{byte:02x}")).collect(),
            last: 0,
            kept: VecDeque::new(),
            waiting: Vec::new(),
            asked: None,
            controller: None,
            quorum: None,
        }
    }

    /// Whether anybody has asked lately: otherwise there is nothing to note.
    pub fn is_watched(&self, now: Instant) -> bool {
        self.asked.is_some_and(|asked| now.duration_since(asked) < FORGET)
    }

    /// Somebody asks for what happened after a change; he waits until something does, or until `until`.
    pub fn ask(&mut self, after: Option<u64>, now: Instant, until: Instant, to: To) -> Answers<To> {
        self.asked = Some(now);
        let after = after.unwrap_or(self.last);
        if after < self.last || until <= now || self.waiting.len() >= WATCHERS {
            return vec![(to, self.since(after))];
        }
        self.waiting.push((after, until, to));
        Vec::new()
    }

    fn since(&self, after: u64) -> Changes {
        let first = self.kept.front().map_or(self.last + 1, |change| change.number);
        let changes: Vec<Change> =
            self.kept.iter().filter(|change| change.number > after).take(MOST).cloned().collect();
        let last = changes.last().map_or(self.last, |change| change.number);
        Changes { source: self.source.clone(), last, missed: after + 1 < first, changes }
    }

    fn note(&mut self, offset: u64, what: What) {
        self.last += 1;
        self.kept.push_back(Change { number: self.last, at_ms: rt::unix_ms(), offset, what });
        if self.kept.len() > KEPT {
            self.kept.pop_front();
        }
    }

    /// The metadata changed.
    pub fn follow(&mut self, old: &Image, new: &Image, delta: &Delta) -> Answers<To> {
        let mut all = Vec::new();
        between(old, new, delta, &mut |what| {
            if all.len() < KEPT {
                all.push(what);
            }
        });
        all.into_iter().for_each(|what| self.note(new.version, what));
        self.tell()
    }

    /// Who leads the quorum and who its members are, as it is now.
    pub fn follow_quorum(&mut self, status: &Status) -> Answers<To> {
        let leader = status.leader.map(|leader| leader.node);
        let controller = What::Controller { broker: leader, epoch: status.epoch };
        let of = |votes: bool| -> Vec<BrokerId> {
            let members = status.membership.members.iter().map(|member| member.voter);
            members.filter(|one| status.membership.is_voter(*one) == votes).map(|one| one.node).collect()
        };
        let quorum = What::Quorum { voters: of(true), observers: of(false) };
        let both = [(controller, &mut self.controller), (quorum, &mut self.quorum)];
        let changed = both.map(|(now, then)| {
            // What was so before anybody watched is no change.
            let before = then.replace(now.clone());
            before.is_some_and(|before| before != now).then_some(now)
        });
        changed.into_iter().flatten().for_each(|what| self.note(status.committed, what));
        self.tell()
    }

    fn tell(&mut self) -> Answers<To> {
        let last = self.last;
        let ready: Vec<_> = self.waiting.extract_if(.., |(after, ..)| *after < last).collect();
        ready.into_iter().map(|(after, _, to)| (to, self.since(after))).collect()
    }

    /// Time passed: who has waited long enough hears that nothing happened.
    pub fn pass(&mut self, now: Instant) -> Answers<To> {
        let over: Vec<_> = self.waiting.extract_if(.., |(_, until, _)| *until <= now).collect();
        if !self.is_watched(now) && !self.kept.is_empty() {
            self.kept.clear();
            (self.controller, self.quorum) = (None, None);
        }
        over.into_iter().map(|(after, _, to)| (to, self.since(after))).collect()
    }

    /// Nobody is to wait any more.
    pub fn end(&mut self) -> Answers<To> {
        let all = std::mem::take(&mut self.waiting);
        all.into_iter().map(|(after, _, to)| (to, self.since(after))).collect()
    }
}

/// Each thing that is not as it was.
fn between(old: &Image, new: &Image, delta: &Delta, note: &mut dyn FnMut(What)) {
    delta.brokers.iter().for_each(|id| brokers(old, new, *id, note));
    for topic in delta.deleted.values() {
        note(What::TopicDeleted { topic: topic.name.to_string() });
    }
    let mut made = None;
    for id in &delta.partitions {
        let Some(topic) = new.topic_by_id(id.topic) else { continue };
        let Some(now) = topic.partition(id.index) else { continue };
        match old.partition(*id) {
            Some(then) => partitions((&topic.name, id.index), then, now, note),
            // Those of a topic follow each other.
            None if old.topic_by_id(id.topic).is_none() && made.replace(id.topic) != Some(id.topic) => {
                note(What::TopicCreated {
                    topic: topic.name.to_string(),
                    partitions: topic.partitions.len(),
                });
            }
            None => {}
        }
    }
}

fn brokers(old: &Image, new: &Image, broker: BrokerId, note: &mut dyn FnMut(What)) {
    let Some(now) = new.broker(broker) else {
        return if old.broker(broker).is_some() {
            note(What::Unregistered { broker })
        };
    };
    let then = old.broker(broker).filter(|then| then.epoch == now.epoch);
    if then.is_none() {
        let address = now.endpoints.iter().find(|endpoint| endpoint.listener != keys::LISTENER);
        let address = address.map_or_else(String::new, |at| format!("{}:{}", at.host, at.port));
        note(What::Registered { broker, epoch: now.epoch.0, address });
    }
    let was = |is: fn(&crate::metadata::Broker) -> bool, new: bool| then.map_or(new, is);
    if was(|broker| broker.draining, false) != now.draining {
        note(What::Draining { broker, is: now.draining });
    }
    if now.shutting_down && !was(|broker| broker.shutting_down, false) {
        note(What::Stopping { broker });
    }
    // A new life begins fenced.
    match (was(|broker| broker.fenced, true), now.fenced) {
        (true, false) => note(What::Unfenced { broker }),
        (false, true) => note(What::Fenced { broker }),
        _ => {}
    }
}

fn partitions(
    (topic, partition): (&str, i32),
    then: &Partition,
    now: &Partition,
    note: &mut dyn FnMut(What),
) {
    let topic = || topic.to_owned();
    if then.replicas() != now.replicas() || then.is_moving() != now.is_moving() {
        note(What::Replicas {
            topic: topic(),
            partition,
            replicas: now.replicas().to_vec(),
            adding: now.adding().collect(),
            removing: now.removing().collect(),
        });
    }
    if (then.leader, then.leader_epoch) != (now.leader, now.leader_epoch) {
        let (was, leader, epoch) = (then.leader, now.leader, now.leader_epoch.0);
        note(What::Leader { topic: topic(), partition, was, leader, epoch });
    }
    let (was, isr): (Vec<BrokerId>, Vec<BrokerId>) = (then.isr().collect(), now.isr().collect());
    if was != isr {
        note(What::InSync { topic: topic(), partition, was, isr });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{Registration, register};
    use crate::metadata::quorum::{Member, Membership, Voter};
    use crate::metadata::records::Record;
    use crate::model::{BrokerSettings, TopicId};

    const TOPIC: TopicId = TopicId([1; 16]);

    struct Rig {
        history: History<u8>,
        image: Image,
        now: Instant,
    }

    impl Rig {
        fn new() -> Self {
            let mut rig = Self { history: History::new([7; 16]), image: Image::empty(), now: Instant::now() };
            let nothing = rig.ask(None, 0);
            assert_eq!((nothing.last, nothing.changes.len(), nothing.source.len()), (0, 0, 16));
            rig
        }

        fn ask(&mut self, after: Option<u64>, wait_ms: u64) -> Changes {
            let until = self.now + Duration::from_millis(wait_ms);
            self.history.ask(after, self.now, until, 1).pop().map(|(_, changes)| changes).unwrap_or_default()
        }

        fn commit(&mut self, records: &[Record]) -> (Vec<What>, Answers<u8>) {
            let before = self.history.last;
            let (new, delta) = self.image.with(records).unwrap();
            let answers = self.history.follow(&self.image, &new, &delta);
            self.image = new;
            (self.history.since(before).changes.into_iter().map(|change| change.what).collect(), answers)
        }

        fn come(&mut self, id: BrokerId, life: u8) -> Vec<What> {
            let settings = BrokerSettings { broker_id: id, ..BrokerSettings::default() };
            let registration = Registration::of(&settings, 1, [id as u8; 16], [life; 16]);
            self.commit(&register(&self.image, self.image.version + 1, &registration)).0
        }
    }

    fn changed(id: BrokerId, epoch: i64, fenced: Option<bool>, shutting_down: Option<bool>) -> Record {
        Record::BrokerChanged { id, epoch: epoch as u64, fenced, draining: Some(true), shutting_down }
    }

    #[test]
    fn what_brokers_partitions_and_topics_become_is_told_change_by_change() {
        let mut rig = Rig::new();
        let address = "127.0.0.1:9092".to_owned();
        let registered = |broker, epoch| What::Registered { broker, epoch, address: address.clone() };
        assert_eq!(rig.come(1, 1), [registered(1, 1), What::Unfenced { broker: 1 }]);
        assert_eq!(rig.come(2, 1), [registered(2, 2), What::Unfenced { broker: 2 }]);
        let made = [Record::Topic { id: TOPIC, name: "t".into() }, Record::new_partition(TOPIC, 0, &[1, 2])];
        assert_eq!(rig.commit(&made).0, [What::TopicCreated { topic: "t".into(), partitions: 1 }]);
        let (topic, partition) = ("t".to_owned(), 0);
        let (was, leader, epoch) = (Some(1), Some(2), 1);
        let elected = What::Leader { topic: topic.clone(), partition, was, leader, epoch };
        let shrunk = What::InSync { topic, partition, was: vec![1, 2], isr: vec![2] };
        assert_eq!(rig.come(1, 2), [registered(1, 4), What::Unfenced { broker: 1 }, elected, shrunk]);
        let stops = rig.commit(&[changed(1, 4, Some(true), Some(true))]).0;
        let broker = 1;
        let told = [What::Draining { broker, is: true }, What::Stopping { broker }, What::Fenced { broker }];
        assert_eq!(stops, told);
        let gone = [Record::TopicDeleted { id: TOPIC }, Record::BrokerUnregistered { id: 1, epoch: 4 }];
        let gone = rig.commit(&gone).0;
        assert_eq!(gone, [What::Unregistered { broker }, What::TopicDeleted { topic: "t".into() }]);
    }

    #[test]
    fn who_waits_hears_what_happens_and_else_that_nothing_did() {
        let mut rig = Rig::new();
        assert_eq!(rig.ask(Some(0), 500), Changes::default(), "it is not answered yet");
        let told =
            |answers: Answers<u8>| answers.into_iter().map(|(_, c)| c.changes.len()).collect::<Vec<_>>();
        let settings = BrokerSettings::default();
        let registration = Registration::of(&settings, 1, [1; 16], [1; 16]);
        assert_eq!(told(rig.commit(&register(&rig.image, 1, &registration)).1), [2]);
        assert_eq!(rig.ask(Some(1), 500).changes.len(), 1, "what is there already is told at once");
        rig.ask(Some(2), 500);
        assert!(told(rig.history.pass(rig.now)).is_empty());
        assert_eq!(told(rig.history.pass(rig.now + Duration::from_millis(500))), [0]);
        rig.ask(Some(2), 500);
        assert_eq!(told(rig.history.end()), [0]);
        (0..WATCHERS).for_each(|_| drop(rig.ask(Some(2), 500)));
        assert_eq!(rig.ask(Some(2), 500).last, 2, "more than can wait are answered at once");
    }

    #[test]
    fn who_comes_too_late_hears_that_something_is_missing() {
        let mut rig = Rig::new();
        (0..=KEPT).for_each(|_| rig.history.note(1, What::Unregistered { broker: 1 }));
        let late = rig.ask(Some(0), 0);
        assert!(late.missed && late.changes.len() == MOST && late.last == MOST as u64 + 1);
        assert!(!rig.ask(Some(late.last), 0).missed);
        drop(rig.history.pass(rig.now + FORGET));
        let forgotten = rig.ask(Some(late.last), 0);
        assert!(forgotten.missed && forgotten.changes.is_empty() && forgotten.last == KEPT as u64 + 1);
    }

    #[test]
    fn the_quorum_is_told_when_it_changes() {
        let mut rig = Rig::new();
        let voter = |node: i32| Voter { node, directory: [node as u8; 16] };
        let member = |node| Member { voter: voter(node), endpoints: Vec::new() };
        let mut status = Status {
            me: voter(1),
            leader: Some(voter(1)),
            epoch: 3,
            committed: 9,
            membership: Membership { voters: vec![vec![voter(1)]], members: vec![member(1), member(2)] },
            members: Vec::new(),
        };
        rig.history.follow_quorum(&status);
        assert_eq!(rig.history.last, 0, "as it was");
        (status.leader, status.epoch) = (None, 4);
        status.membership.voters = vec![vec![voter(1), voter(2)]];
        rig.history.follow_quorum(&status);
        let told: Vec<What> = rig.history.since(0).changes.into_iter().map(|change| change.what).collect();
        let quorum = What::Quorum { voters: vec![1, 2], observers: vec![] };
        assert_eq!(told, [What::Controller { broker: None, epoch: 4 }, quorum]);
    }
}
