use std::cell::RefCell;

use super::*;
use crate::model::TopicId;

const ME: BrokerId = 1;

fn coordinator(index: i32, epoch: i32) -> Coordinator {
    Coordinator { partition: PartitionId { topic: TopicId([9; 16]), index }, epoch: LeaderEpoch(epoch) }
}

fn of(topic: &str, index: i32) -> Partition {
    (topic.into(), index)
}

fn command(id: &str, producer: i64, partitions: &[Partition]) -> Command {
    Command {
        id: id.into(),
        producer: Producer::new(producer, 0),
        commit: true,
        version: Version::V2,
        partitions: partitions.to_vec(),
    }
}

/// One event: what is to be done.
fn round(now: Ms, leader: &dyn Fn(&Partition) -> Leader, event: impl FnOnce(&mut Round<'_>)) -> Vec<Act> {
    let mut round = Round { now, leader, acts: Vec::new() };
    event(&mut round);
    round.acts
}

fn sent(acts: &[Act]) -> Vec<(BrokerId, Vec<Marker>)> {
    let send = |act: &Act| match act {
        Act::Send { to, markers } => Some((*to, markers.clone())),
        _ => None,
    };
    acts.iter().filter_map(send).collect()
}

fn all(markers: &[Marker], outcome: Outcome) -> Vec<(Marker, Outcome)> {
    markers.iter().map(|marker| (marker.clone(), outcome)).collect()
}

#[test]
fn each_leader_gets_its_markers_and_the_last_one_ends_it() {
    let leader = |partition: &Partition| Leader::Broker(1 + partition.1 % 2);
    let mut marking = Marking::new(ME);
    let partitions = [of("a", 0), of("a", 1), of("b", 1), of("b", 2)];
    let acts = round(0, &leader, |r| marking.begin(coordinator(0, 3), command("tx", 7, &partitions), r));
    let requests = sent(&acts);
    let to = |broker| requests.iter().find(|(to, _)| *to == broker).expect("a request").1.clone();
    assert_eq!(requests.len(), 2);
    assert_eq!(to(1).iter().map(|m| m.partition.clone()).collect::<Vec<_>>(), [of("a", 0), of("b", 2)]);
    assert_eq!(to(2).iter().map(|m| m.partition.clone()).collect::<Vec<_>>(), [of("a", 1), of("b", 1)]);
    assert!(to(2).iter().all(|m| m.end.coordinator_epoch == LeaderEpoch(3) && m.end.commit));
    assert_eq!(round(1, &leader, |r| marking.answered(2, all(&to(2), Outcome::Written), r)), []);
    let done = Act::Done { by: coordinator(0, 3), id: "tx".into(), producer: Producer::new(7, 0) };
    assert_eq!(round(2, &leader, |r| marking.answered(1, all(&to(1), Outcome::Written), r)), [done]);
    assert!(marking.is_empty() && marking.lines.is_empty() && marking.by_id.is_empty());
}

#[test]
fn what_ends_nothing_is_done_at_once_and_partitions_that_are_gone_need_no_marker() {
    let mut marking = Marking::new(ME);
    let gone = |_: &Partition| Leader::Gone;
    for partitions in [&[][..], &[of("a", 0)]] {
        let acts = round(0, &gone, |r| marking.begin(coordinator(0, 0), command("tx", 7, partitions), r));
        assert!(matches!(acts[..], [Act::Done { .. }]), "{acts:?}");
    }
    // One that goes while its marker is on its way.
    let two = |_: &Partition| Leader::Broker(2);
    let acts = round(0, &two, |r| marking.begin(coordinator(0, 0), command("tx", 7, &[of("a", 0)]), r));
    round(1, &two, |r| marking.answered(2, all(&sent(&acts)[0].1, Outcome::Again), r));
    let at = marking.next_at().expect("another try");
    let acts = round(at, &gone, |r| marking.tick(r));
    assert!(matches!(acts[..], [Act::Done { .. }]), "{acts:?}");
}

#[test]
fn what_fails_is_tried_again_later_and_later_at_whoever_leads_then() {
    let mut marking = Marking::new(ME);
    let nobody = |_: &Partition| Leader::Nobody;
    let mut acts =
        round(0, &nobody, |r| marking.begin(coordinator(0, 0), command("tx", 7, &[of("a", 0)]), r));
    assert_eq!(acts, []);
    let (mut now, mut rests, mut late) = (0, Vec::new(), Vec::new());
    for attempt in 0..40 {
        let at = marking.next_at().expect("another try");
        assert_eq!(round(at - 1, &nobody, |r| marking.tick(r)), [], "too early");
        rests.push(at - now);
        now = at;
        let broker = 2 + attempt % 2;
        acts = round(now, &|_| Leader::Broker(broker), |r| marking.tick(r));
        let [(to, markers)] = &sent(&acts)[..] else { panic!("{acts:?}") };
        assert_eq!((*to, markers.len()), (broker, 1));
        let acts = round(now, &nobody, |r| marking.answered(*to, all(markers, Outcome::Again), r));
        late.extend(acts.into_iter().filter_map(|act| match act {
            Act::Late { tries, .. } => Some(tries),
            _ => None,
        }));
    }
    assert!(rests.iter().take(6).is_sorted() && *rests.last().expect("one") >= LONGEST_REST, "{rests:?}");
    assert!(rests.iter().all(|rest| *rest <= LONGEST_REST + 2 * REST), "{rests:?}");
    assert_eq!(late, [16, 32]);
}

#[test]
fn another_broker_is_asked_a_few_times_at_once_and_the_rest_goes_together() {
    let leader = |_: &Partition| Leader::Broker(2);
    let mut marking = Marking::new(ME);
    let mut requests = Vec::new();
    for nth in 0..20 {
        let command = command(&format!("tx-{nth}"), nth, &[of("a", 0)]);
        requests.extend(sent(&round(0, &leader, |r| marking.begin(coordinator(0, 0), command, r))));
    }
    assert_eq!(requests.len(), AT_ONCE);
    let (_, markers) = requests.remove(0);
    let acts = round(1, &leader, |r| marking.answered(2, all(&markers, Outcome::Written), r));
    let [(2, rest)] = &sent(&acts)[..] else { panic!("{acts:?}") };
    assert_eq!(rest.len(), 20 - AT_ONCE, "one request for all that waited");
}

#[test]
fn only_the_newest_word_of_a_coordinator_is_carried_out() {
    let leader = |_: &Partition| Leader::Broker(2);
    let mut marking = Marking::new(ME);
    let begin = |marking: &mut Marking, epoch, index| {
        let command = command("tx", 7, &[of("a", 0)]);
        sent(&round(0, &leader, |r| marking.begin(coordinator(index, epoch), command, r))).remove(0).1
    };
    // Loaded again: it decides the same again.
    let first = begin(&mut marking, 0, 0);
    let second = begin(&mut marking, 0, 0);
    assert_eq!(round(1, &leader, |r| marking.answered(2, all(&first, Outcome::Written), r)), []);
    assert_eq!(marking.len(), 1);
    // Gone: nothing is done in its name, and the other coordinator's end goes on.
    let other = begin(&mut marking, 0, 1);
    marking.forget(coordinator(0, 0).partition);
    assert_eq!(round(2, &leader, |r| marking.answered(2, all(&second, Outcome::Written), r)), []);
    let acts = round(2, &leader, |r| marking.answered(2, all(&other, Outcome::Written), r));
    assert!(matches!(acts[..], [Act::Done { by, .. }] if by == coordinator(1, 0)), "{acts:?}");
    // Refused: whoever refuses knows somebody newer.
    let third = begin(&mut marking, 1, 0);
    let acts = round(3, &leader, |r| marking.answered(2, all(&third, Outcome::Refused), r));
    assert!(matches!(acts[..], [Act::GivenUp { .. }]), "{acts:?}");
    assert!(marking.is_empty() && marking.by_id.is_empty());
}

/// Splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// Random ends, leaders that move, requests and answers that are lost, topics that go, coordinators that are loaded again: an end
/// is done only when each partition that still exists has its marker, and in the end every one is done.
#[test]
fn an_end_is_done_when_every_partition_that_exists_has_its_marker() {
    for seed in 0..500 {
        let mut random = Random(seed);
        // A partition's leader; none where it is gone.
        let leaders: RefCell<BTreeMap<Partition, Option<Leader>>> = (0..8)
            .map(|index| (of("t", index), Some(Leader::Broker(1 + (index % 3)))))
            .collect::<BTreeMap<_, _>>()
            .into();
        let leader = |partition: &Partition| {
            leaders.borrow().get(partition).copied().flatten().unwrap_or(Leader::Gone)
        };
        let mut marking = Marking::new(ME);
        let mut written: BTreeSet<(i64, Partition)> = BTreeSet::new();
        let mut wanted: BTreeMap<i64, (String, i32, Vec<Partition>)> = BTreeMap::new();
        let mut under_way: Vec<(BrokerId, Vec<Marker>)> = Vec::new();
        let (mut now, mut last) = (0, 0);
        for step in 0..400 {
            let healed = step >= 300;
            now += random.below(40) as i64;
            let mut acts = Vec::new();
            match random.below(8) {
                0 if !healed => {
                    last += 1;
                    let partitions: Vec<_> =
                        (0..8).filter(|_| random.below(2) == 0).map(|index| of("t", index)).collect();
                    let (id, index) = (format!("tx-{last}"), (last % 2) as i32);
                    wanted.insert(last, (id.clone(), index, partitions.clone()));
                    let command = command(&id, last, &partitions);
                    acts = round(now, &leader, |r| marking.begin(coordinator(index, 0), command, r));
                }
                1 if !healed => {
                    let index = random.below(8) as i32;
                    let next = match random.below(12) {
                        0 => None,
                        1..3 => Some(Leader::Nobody),
                        _ => Some(Leader::Broker(1 + random.below(3) as i32)),
                    };
                    let mut leaders = leaders.borrow_mut();
                    let now = leaders.get_mut(&of("t", index)).expect("one of them");
                    // What is gone stays so.
                    *now = now.and(next);
                }
                2 if !healed && random.below(10) == 0 => {
                    let index = random.below(2) as i32;
                    marking.forget(coordinator(index, 0).partition);
                    for (producer, (id, of, partitions)) in wanted.iter().filter(|(_, w)| w.1 == index) {
                        let command = command(id, *producer, partitions);
                        let by = coordinator(*of, 0);
                        acts.extend(round(now, &leader, |r| marking.begin(by, command, r)));
                    }
                }
                3..6 if !under_way.is_empty() => {
                    let at = random.below(under_way.len() as u64) as usize;
                    let (to, markers) = under_way.swap_remove(at);
                    let lost = !healed && random.below(4) == 0;
                    let outcomes: Vec<_> = markers
                        .into_iter()
                        .map(|marker| {
                            let led = leader(&marker.partition) == Leader::Broker(to);
                            // Whether a lost request was carried out nobody knows.
                            if led && (!lost || random.below(2) == 0) {
                                written.insert((marker.end.producer.id.0, marker.partition.clone()));
                            }
                            let outcome = if led && !lost { Outcome::Written } else { Outcome::Again };
                            (marker, outcome)
                        })
                        .collect();
                    acts = round(now, &leader, |r| marking.answered(to, outcomes, r));
                }
                _ => acts = round(now, &leader, |r| marking.tick(r)),
            }
            if step == 300 {
                for one in leaders.borrow_mut().values_mut().filter(|one| **one == Some(Leader::Nobody)) {
                    *one = Some(Leader::Broker(3));
                }
            }
            for act in acts {
                match act {
                    Act::Send { to, markers } => under_way.push((to, markers)),
                    Act::Done { producer, .. } => {
                        let (_, _, partitions) = wanted.remove(&producer.id.0).expect("an end once");
                        for partition in partitions {
                            let there = written.contains(&(producer.id.0, partition.clone()));
                            assert!(
                                there || leader(&partition) == Leader::Gone,
                                "seed {seed}: {partition:?}"
                            );
                        }
                    }
                    Act::GivenUp { .. } => panic!("seed {seed}: nobody refuses"),
                    Act::Late { .. } => {}
                }
            }
            for broker in [2, 3] {
                let to = under_way.iter().filter(|(to, _)| *to == broker).count();
                assert!(to <= AT_ONCE, "seed {seed}");
            }
        }
        // Everything that is left is answered.
        for _ in 0..400 {
            now += 1000;
            let mut acts = round(now, &leader, |r| marking.tick(r));
            for (to, markers) in std::mem::take(&mut under_way) {
                let outcomes: Vec<_> = markers
                    .into_iter()
                    .map(|m| match leader(&m.partition) == Leader::Broker(to) {
                        true => (m, Outcome::Written),
                        false => (m, Outcome::Again),
                    })
                    .collect();
                acts.extend(round(now, &leader, |r| marking.answered(to, outcomes, r)));
            }
            for act in acts {
                match act {
                    Act::Send { to, markers } => under_way.push((to, markers)),
                    Act::Done { producer, .. } => drop(wanted.remove(&producer.id.0)),
                    _ => {}
                }
            }
        }
        assert!(wanted.is_empty() && marking.is_empty(), "seed {seed}: {wanted:?}");
        assert!(marking.lines.is_empty() && marking.resting.is_empty(), "seed {seed}");
    }
}
