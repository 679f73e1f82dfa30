//! The leader's rules one by one: R1 to R9 of the cluster's design.

use super::*;

const TERMS: Terms = Terms { min_insync: 2, lag_max_ms: 100 };

/// Epochs by where they begin, of a log that ends at 100.
struct List(&'static [(i32, i64)]);

impl Epochs for List {
    fn latest(&self) -> Option<LeaderEpoch> {
        self.0.last().map(|(epoch, _)| LeaderEpoch(*epoch))
    }

    fn end_of(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let after = self.0.partition_point(|(known, _)| *known <= epoch.0);
        let end = Offset(self.0.get(after).map_or(100, |(_, start)| *start));
        (self.latest()? >= epoch).then(|| (LeaderEpoch(self.0[after - 1].0), end))
    }
}

const LOG: List = List(&[(3, 0), (5, 40), (7, 60)]);

fn peer(id: BrokerId) -> PeerState {
    PeerState { id, epoch: BrokerEpoch(i64::from(id) * 10), eligible: true }
}

/// Broker 1 leads in epoch 7, which began at 60; of `0..100` it has all but the last ten on disk, and 50 is committed.
fn leader(isr: &[BrokerId], terms: Terms) -> (Leader, Offsets) {
    let epochs = (LeaderEpoch(7), PartitionEpoch(20));
    let leader = Leader::begin(peer(1), epochs, (1..=3).map(peer), isr, terms, (Offset(60), MonoMs(0)));
    let mut offsets = Offsets::recovered(Offset(0), Offset(50), Offset(90));
    offsets.append(Offset(100));
    (leader, offsets)
}

fn report(from: BrokerId, offset: i64, durable: i64) -> Report {
    Report {
        from,
        broker_epoch: peer(from).epoch,
        leader_epoch: LeaderEpoch(7),
        offset: Offset(offset),
        last_epoch: Some(LeaderEpoch(if offset > 60 { 7 } else { 5 })),
        durable: Offset(durable),
    }
}

fn fetch(leader: &mut Leader, offsets: &mut Offsets, from: BrokerId, durable: i64, now: i64) -> Effects {
    let (heard, fx) = leader.on_fetch(&report(from, 100, durable), &LOG, offsets, MonoMs(now));
    assert_eq!(heard, Heard::Counted);
    fx
}

fn members(proposal: Option<Proposal>) -> Vec<BrokerId> {
    proposal.map_or_else(Vec::new, |proposal| proposal.isr.iter().map(|(id, _)| *id).collect())
}

#[test]
fn r1_an_epoch_begins_with_nothing_known_of_followers() {
    let (mut leader, mut offsets) = leader(&[1, 2], TERMS);
    assert!(!leader.on_local(&mut offsets, MonoMs(0)), "nobody said what 2 has");
    assert_eq!((leader.epoch_start(), leader.sent(2)), (Offset(60), None));
    assert!(leader.on_tick(&offsets, MonoMs(100)).is_none(), "it has the time that all have");
    assert_eq!(members(leader.on_tick(&offsets, MonoMs(101))), [1]);
}

#[test]
fn r2_a_fetch_counts_if_it_is_of_this_epoch_and_life_and_log() {
    use Heard::*;
    let whole = report(2, 100, 80);
    let at = |offset, epoch| Report { last_epoch: Some(LeaderEpoch(epoch)), ..report(2, offset, 0) };
    let cases = [
        (whole, Counted),
        (Report { leader_epoch: LeaderEpoch(6), ..whole }, Ignored),
        (Report { leader_epoch: LeaderEpoch(8), ..whole }, Ignored),
        (Report { broker_epoch: BrokerEpoch(19), ..whole }, Ignored),
        (Report { from: 4, ..whole }, Ignored),
        (at(40, 3), Counted),
        (at(41, 3), Diverging(LeaderEpoch(3), Offset(40))),
        (at(41, 4), Diverging(LeaderEpoch(3), Offset(40))),
        (at(60, 5), Counted),
        (at(60, 6), Diverging(LeaderEpoch(5), Offset(60))),
        (at(101, 7), Diverging(LeaderEpoch(7), Offset(100))),
        (at(60, 8), OutOfRange),
        (at(9, 3), OutOfRange),
        (Report { last_epoch: None, ..report(2, 10, 10) }, Counted),
        (Report { last_epoch: None, ..report(2, 101, 10) }, OutOfRange),
    ];
    for (report, expected) in cases {
        let (mut leader, mut offsets) = leader(&[1, 2], TERMS);
        offsets.start_at(Offset(10));
        let (heard, fx) = leader.on_fetch(&report, &LOG, &mut offsets, MonoMs(1));
        assert_eq!(heard, expected, "{report:?}");
        let counts = expected == Counted;
        assert_eq!(leader.sent(2), counts.then_some(report.offset));
        assert!(counts || fx == Effects::default(), "{report:?}: {fx:?}");
    }
}

#[test]
fn r3_what_the_whole_isr_has_on_disk_is_committed() {
    // The committed ISR, min.insync.replicas, durable ends of 2 and 3: the high watermark.
    let cases: [(&[BrokerId], usize, i64, i64, i64); 8] = [
        (&[1, 2, 3], 2, 95, 70, 70),
        (&[1, 2, 3], 2, 95, 96, 90),
        (&[1, 2, 3], 2, 95, 40, 50),
        (&[1, 2], 2, 80, 70, 80),
        (&[1], 2, 80, 70, 50),
        (&[1], 1, 80, 70, 90),
        (&[1, 2], 3, 80, 70, 50),
        (&[1, 2, 3], 9, 80, 70, 70),
    ];
    for (isr, min_insync, second, third, expected) in cases {
        let (mut leader, mut offsets) = leader(isr, Terms { min_insync, ..TERMS });
        // Nobody joins meanwhile.
        for id in [2, 3] {
            leader.on_peer(PeerState { eligible: isr.contains(&id), ..peer(id) }, &mut offsets, MonoMs(0));
        }
        fetch(&mut leader, &mut offsets, 2, second, 1);
        fetch(&mut leader, &mut offsets, 3, third, 1);
        let found = offsets.high_watermark();
        assert_eq!(found, Offset(expected), "{isr:?} {min_insync} {second} {third}");
    }
}

#[test]
fn r3_who_is_about_to_be_in_the_isr_is_waited_for() {
    for (eligible, expected) in [(true, 90), (false, 100)] {
        let (mut leader, mut offsets) = leader(&[1, 2], TERMS);
        leader.on_peer(PeerState { eligible, ..peer(3) }, &mut offsets, MonoMs(0));
        offsets.make_durable(Offset(90));
        // It had everything a moment ago.
        fetch(&mut leader, &mut offsets, 3, 90, 1);
        leader.on_isr((PartitionEpoch(21), &[1, 2]), &mut offsets, MonoMs(1));
        let everything = fetch(&mut leader, &mut offsets, 3, 100, 2);
        drop(everything);
        offsets.append(Offset(110));
        offsets.make_durable(Offset(110));
        fetch(&mut leader, &mut offsets, 2, 100, 2);
        let mut beyond = report(2, 110, 110);
        beyond.last_epoch = None;
        leader.on_fetch(&beyond, &LOG, &mut offsets, MonoMs(3));
        let high_watermark = if eligible { 100 } else { 110 };
        assert_eq!(offsets.high_watermark(), Offset(high_watermark), "{expected}");
    }
}

#[test]
fn r4_whose_disk_is_behind_leaves_though_it_fetches() {
    let (mut leader, mut offsets) = leader(&[1, 2, 3], TERMS);
    // 2 has at each fetch what there was at the one before; of 3 nothing more reaches the disk.
    fetch(&mut leader, &mut offsets, 2, 90, 0);
    fetch(&mut leader, &mut offsets, 3, 70, 0);
    for now in 1..=6 {
        offsets.append(Offset(100 + now));
        let mut second = report(2, 100 + now, 99 + now);
        second.last_epoch = None;
        leader.on_fetch(&second, &LOG, &mut offsets, MonoMs(now * 30));
        let third = Report { offset: Offset(100 + now), durable: Offset(70), from: 3, ..second };
        let third = Report { broker_epoch: peer(3).epoch, ..third };
        leader.on_fetch(&third, &LOG, &mut offsets, MonoMs(now * 30));
    }
    assert_eq!(members(leader.on_tick(&offsets, MonoMs(181))), [1, 2]);
}

#[test]
fn r5_who_has_what_is_committed_and_some_of_the_epoch_joins() {
    // Durable end, eligible, committed: whether it is proposed.
    for (durable, eligible, committed, joins) in
        [(60, true, 50, true), (59, true, 50, false), (60, true, 61, false), (100, false, 50, false)]
    {
        let (mut leader, mut offsets) = leader(&[1, 2], TERMS);
        offsets.commit(Offset(committed));
        leader.on_peer(PeerState { eligible, ..peer(3) }, &mut offsets, MonoMs(0));
        let fx = fetch(&mut leader, &mut offsets, 3, durable, 1);
        let expected: &[BrokerId] = if joins { &[1, 2, 3] } else { &[] };
        assert_eq!(members(fx.propose.clone()), expected, "{durable} {eligible} {committed}");
        if let Some(proposal) = fx.propose {
            assert_eq!(
                (proposal.leader_epoch, proposal.partition_epoch),
                (LeaderEpoch(7), PartitionEpoch(20))
            );
            assert_eq!(proposal.isr[2], (3, peer(3).epoch), "with the life that was judged");
        }
    }
}

#[test]
fn r5_who_follows_a_log_that_rests_does_not_lag() {
    let (mut leader, mut offsets) = leader(&[1, 2, 3], TERMS);
    let half = TERMS.lag_max_ms / 2;
    fetch(&mut leader, &mut offsets, 2, 100, 1);
    fetch(&mut leader, &mut offsets, 3, 100, 1);
    for tick in 1..=20 {
        assert_eq!(leader.on_tick(&offsets, MonoMs(tick * half)), None, "nothing happened: {tick}");
    }
    offsets.append(Offset(110));
    assert_eq!(leader.on_tick(&offsets, MonoMs(21 * half)), None);
    assert_eq!(leader.on_tick(&offsets, MonoMs(22 * half)), None);
    let lags = leader.on_tick(&offsets, MonoMs(23 * half));
    assert_eq!(members(lags), [1], "for more than the time that all have");
}

#[test]
fn r5_another_life_of_a_follower_begins_with_nothing() {
    let (mut leader, mut offsets) = leader(&[1, 2], TERMS);
    fetch(&mut leader, &mut offsets, 2, 80, 1);
    assert_eq!(offsets.high_watermark(), Offset(80));
    leader.on_peer(PeerState { epoch: BrokerEpoch(21), ..peer(2) }, &mut offsets, MonoMs(2));
    assert_eq!(leader.on_fetch(&report(2, 100, 100), &LOG, &mut offsets, MonoMs(3)).0, Heard::Ignored);
    let reborn = Report { broker_epoch: BrokerEpoch(21), ..report(2, 70, 70) };
    let (heard, fx) = leader.on_fetch(&reborn, &LOG, &mut offsets, MonoMs(4));
    assert_eq!((heard, fx.lost), (Heard::Counted, None));
    assert_eq!(offsets.high_watermark(), Offset(80), "what is committed stays so");
}

#[test]
fn r6_a_proposal_counts_until_it_is_settled() {
    // What the controller says; the high watermark once 3, which was proposed, lags at 70 and 2 has 95.
    let committed = |isr: &[BrokerId]| Verdict::Committed(PartitionEpoch(21), isr.to_vec());
    let cases = [
        (committed(&[1, 2, 3]), 70, false),
        (committed(&[1, 2]), 90, false),
        (Verdict::Refused, 90, false),
        (Verdict::Outdated, 70, false),
        (Verdict::Unknown, 70, true),
    ];
    for (verdict, expected, again) in cases {
        let (mut leader, mut offsets) = leader(&[1, 2], TERMS);
        let proposal = fetch(&mut leader, &mut offsets, 3, 70, 1).propose.expect("3 may join");
        leader.on_peer(PeerState { eligible: false, ..peer(3) }, &mut offsets, MonoMs(1));
        let fx = fetch(&mut leader, &mut offsets, 2, 95, 1);
        assert_eq!((fx.propose, offsets.high_watermark()), (None, Offset(70)), "one at a time");
        let other = leader.on_answer(proposal.number + 1, verdict.clone(), &mut offsets, MonoMs(1));
        assert_eq!(other, Effects::default(), "the answer to another one");
        let fx = leader.on_answer(proposal.number, verdict.clone(), &mut offsets, MonoMs(1));
        assert_eq!(
            (offsets.high_watermark(), fx.propose.is_some()),
            (Offset(expected), again),
            "{verdict:?}"
        );
        assert!(!again || fx.propose == Some(proposal.clone()), "the same is asked again");
        let fx = leader.on_answer(proposal.number, Verdict::Refused, &mut offsets, MonoMs(1));
        let open = matches!(verdict, Verdict::Outdated | Verdict::Unknown);
        assert_eq!(fx.advanced, open, "{verdict:?}: what was settled is not settled again");
        leader.on_isr((PartitionEpoch(22), &[1, 2]), &mut offsets, MonoMs(1));
        assert_eq!(offsets.high_watermark(), Offset(90), "the metadata has the last word");
    }
}

#[test]
fn r7_an_isr_that_is_too_small_takes_nothing_with_acks_all() {
    for (isr, min_insync, enough) in [
        (&[1, 2][..], 2, true),
        (&[1], 2, false),
        (&[1], 1, true),
        (&[1, 2, 3], 9, true),
        (&[1, 2], 9, false),
    ] {
        let (leader, _) = leader(isr, Terms { min_insync, ..TERMS });
        assert_eq!(leader.has_enough(), enough, "{isr:?} {min_insync}");
    }
    let (mut leader, mut offsets) = leader(&[1], TERMS);
    assert!(!leader.on_local(&mut offsets, MonoMs(0)));
    leader.set_terms(Terms { min_insync: 1, ..TERMS });
    assert!(leader.on_local(&mut offsets, MonoMs(0)));
}

#[test]
fn r8_a_follower_that_lost_what_was_on_its_disk_leaves_at_once() {
    let (mut leader, mut offsets) = leader(&[1, 2, 3], TERMS);
    fetch(&mut leader, &mut offsets, 3, 85, 1);
    fetch(&mut leader, &mut offsets, 2, 80, 1);
    let fx = fetch(&mut leader, &mut offsets, 2, 65, 2);
    assert_eq!((fx.lost, members(fx.propose.clone())), (Some(2), vec![1, 3]));
    assert_eq!(offsets.high_watermark(), Offset(80));
    assert_eq!(fetch(&mut leader, &mut offsets, 2, 66, 3).lost, None, "that is said once");
    let number = fx.propose.expect("just seen").number;
    let fx =
        leader.on_answer(number, Verdict::Committed(PartitionEpoch(21), vec![1, 3]), &mut offsets, MonoMs(4));
    assert!(fx.advanced && offsets.high_watermark() == Offset(85));
    assert_eq!(
        members(fetch(&mut leader, &mut offsets, 2, 90, 5).propose),
        [1, 3, 2],
        "it comes back as anybody"
    );
}

#[test]
fn r9_what_an_earlier_leader_committed_is_known_from_the_epochs_start_on() {
    let (leader, mut offsets) = leader(&[1, 2], TERMS);
    assert!(!leader.knows_committed(&offsets));
    offsets.commit(Offset(60));
    assert!(leader.knows_committed(&offsets));
}

#[test]
fn r5_a_replica_that_is_added_in_an_epoch_joins_and_one_that_is_removed_is_heard_no_more() {
    let (mut leader, mut offsets) = leader(&[1, 2], TERMS);
    leader.on_replicas([1, 3, 4].map(peer));
    leader.on_isr((PartitionEpoch(99), &[1]), &mut offsets, MonoMs(1));
    let (heard, fx) = leader.on_fetch(&report(2, 100, 100), &LOG, &mut offsets, MonoMs(2));
    assert_eq!((heard, fx), (Heard::Ignored, Effects::default()));
    let fx = fetch(&mut leader, &mut offsets, 4, 100, 2);
    assert_eq!(members(fx.propose), [1, 4]);
}

#[test]
fn r5_who_was_far_enough_before_he_could_join_is_let_in_without_another_fetch() {
    let (mut leader, mut offsets) = leader(&[1], TERMS);
    for id in [2, 3] {
        leader.on_peer(PeerState { eligible: false, ..peer(id) }, &mut offsets, MonoMs(0));
        assert_eq!(fetch(&mut leader, &mut offsets, id, 100, 1).propose, None);
    }
    assert_eq!(leader.invite(&offsets), None);
    for id in [2, 3] {
        leader.on_peer(peer(id), &mut offsets, MonoMs(2));
    }
    let first = leader.invite(&offsets).unwrap();
    assert_eq!(members(Some(first.clone())), [1, 2]);
    let taken = Verdict::Committed(PartitionEpoch(99), vec![1, 2]);
    let fx = leader.on_answer(first.number, taken, &mut offsets, MonoMs(3));
    assert_eq!(members(fx.propose), [1, 2, 3], "who had to wait for the answer");
}
