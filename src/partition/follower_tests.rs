//! The follower's rules one by one: R10 to R15 of the cluster's design.

use super::*;

/// A log's epochs by where they begin, and its end.
struct List(Vec<(i32, i64)>, i64);

impl Epochs for List {
    fn latest(&self) -> Option<LeaderEpoch> {
        self.0.last().map(|(epoch, _)| LeaderEpoch(*epoch))
    }

    fn end_of(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let after = self.0.partition_point(|(known, _)| *known <= epoch.0);
        let end = Offset(self.0.get(after).map_or(self.1, |(_, start)| *start));
        (self.latest()? >= epoch).then(|| (LeaderEpoch(self.0[after - 1].0), end))
    }
}

/// Broker 9 leads in epoch 7. The log is `10..100` with all but ten on disk, and 50 is committed.
fn follower() -> (Follower, List, Offsets) {
    let log = List(vec![(3, 0), (4, 30), (6, 80)], 100);
    let mut offsets = Offsets::recovered(Offset(10), Offset(50), Offset(90));
    offsets.append(Offset(100));
    (Follower::begin(Some(9), LeaderEpoch(7)), log, offsets)
}

fn batches(batches: &[BatchSeen], high_watermark: i64) -> Answer<'_> {
    Answer::Batches { batches, high_watermark: Offset(high_watermark), log_start: Offset(0) }
}

fn seen(base: i64, next: i64, epoch: i32) -> BatchSeen {
    BatchSeen { base: Offset(base), next: Offset(next), epoch: LeaderEpoch(epoch), sound: true }
}

const NOW: MonoMs = MonoMs(1000);

#[test]
fn r10_fetching_begins_at_the_own_end() {
    let (follower, log, offsets) = follower();
    let asked = follower.next_fetch(&log, &offsets, NOW).expect("there is a leader");
    let (epoch, last_epoch) = (LeaderEpoch(7), Some(LeaderEpoch(6)));
    let durable = Offset(90);
    assert_eq!(asked, Asked { leader: 9, epoch, offset: Offset(100), last_epoch, durable });
    let idle = Follower::begin(None, LeaderEpoch(7));
    assert_eq!((idle.state(), idle.next_fetch(&log, &offsets, NOW)), (State::Idle, None));
}

#[test]
fn r11_an_answer_to_another_question_is_nothing() {
    let (mut follower, log, mut offsets) = follower();
    let asked = follower.next_fetch(&log, &offsets, NOW).unwrap();
    let new = [seen(100, 110, 7)];
    let old = [
        Asked { epoch: LeaderEpoch(6), ..asked },
        Asked { offset: Offset(90), ..asked },
        Asked { offset: Offset(110), ..asked },
    ];
    for asked in old {
        for answer in [batches(&new, 100), Answer::Diverging(LeaderEpoch(3), Offset(40)), Answer::Fenced] {
            let take = follower.on_answer(&asked, &answer, &log, &mut offsets, NOW);
            assert_eq!((take, follower.state()), (Take::Nothing, State::Fetching), "{asked:?} {answer:?}");
        }
    }
    assert_eq!(offsets.high_watermark(), Offset(50));
    let take = follower.on_answer(&asked, &batches(&new, 70), &log, &mut offsets, NOW);
    assert_eq!((take, offsets.high_watermark()), (Take::Append(1), Offset(70)));
}

#[test]
fn r11_what_the_logs_do_not_share_is_cut() {
    // What the leader has up to the epoch that it was told: where to cut.
    let cases = [
        ((6, 95), 95),
        ((6, 120), 100),
        // Epoch 5 is not known here: 4 is the last that could be shared.
        ((5, 95), 80),
        ((5, 70), 70),
        ((4, 60), 60),
        ((4, 90), 80),
    ];
    for ((epoch, end), to) in cases {
        let (mut follower, log, mut offsets) = follower();
        let asked = follower.next_fetch(&log, &offsets, NOW).unwrap();
        let answer = Answer::Diverging(LeaderEpoch(epoch), Offset(end));
        let take = follower.on_answer(&asked, &answer, &log, &mut offsets, NOW);
        assert_eq!(take, Take::Truncate { to: Offset(to), below_high_watermark: false }, "{epoch} {end}");
        assert_eq!(follower.next_fetch(&log, &offsets, NOW), None, "not before it is cut");
        offsets.truncate(Offset(to));
        follower.on_cut();
        assert_eq!(follower.next_fetch(&log, &offsets, NOW).map(|asked| asked.offset), Some(Offset(to)));
    }
    let (mut follower, log, mut offsets) = follower();
    let asked = follower.next_fetch(&log, &offsets, NOW).unwrap();
    let answer = Answer::Diverging(LeaderEpoch(3), Offset(25));
    let take = follower.on_answer(&asked, &answer, &log, &mut offsets, NOW);
    assert_eq!(take, Take::Truncate { to: Offset(25), below_high_watermark: true }, "it is told of");
    follower.on_cut();
    let answer = Answer::Diverging(LeaderEpoch(3), Offset(5));
    let take = follower.on_answer(&asked, &answer, &log, &mut offsets, NOW);
    assert_eq!(take, Take::Reset { at: Offset(5) }, "nothing of the log is left");
}

#[test]
fn r11_nothing_is_committed_by_an_answer_that_tells_of_divergence() {
    let (mut follower, log, mut offsets) = follower();
    let asked = follower.next_fetch(&log, &offsets, NOW).unwrap();
    follower.on_answer(&asked, &Answer::Diverging(LeaderEpoch(6), Offset(95)), &log, &mut offsets, NOW);
    assert!(!follower.on_local(&mut offsets) && offsets.high_watermark() == Offset(50));
    let take = follower.on_answer(&asked, &batches(&[seen(100, 110, 7)], 100), &log, &mut offsets, NOW);
    assert_eq!(
        (take, offsets.high_watermark()),
        (Take::Nothing, Offset(50)),
        "nor by one that comes meanwhile"
    );
}

#[test]
fn r12_only_what_follows_is_appended() {
    let damaged = BatchSeen { sound: false, ..seen(105, 110, 7) };
    let cases: [(&[BatchSeen], usize); 9] = [
        (&[], 0),
        (&[seen(100, 105, 6), seen(105, 110, 7)], 2),
        (&[seen(100, 105, 6), seen(108, 110, 6)], 2),
        (&[seen(99, 105, 6)], 0),
        (&[seen(100, 105, 6), seen(104, 110, 6)], 1),
        (&[seen(100, 105, 5)], 0),
        (&[seen(100, 105, 8)], 0),
        (&[seen(100, 105, 7), seen(105, 110, 6)], 1),
        (&[seen(100, 105, 7), damaged, seen(110, 115, 7)], 1),
    ];
    for (answer, fit) in cases {
        let (mut follower, log, mut offsets) = follower();
        let asked = follower.next_fetch(&log, &offsets, NOW).unwrap();
        let take = follower.on_answer(&asked, &batches(answer, 0), &log, &mut offsets, NOW);
        assert_eq!(take, if fit == 0 { Take::Nothing } else { Take::Append(fit) }, "{answer:?}");
        let again = follower.next_fetch(&log, &offsets, NOW);
        assert_eq!(again.is_some(), fit == answer.len(), "who was sent something else waits: {answer:?}");
        assert_eq!(follower.next_fetch(&log, &offsets, MonoMs(NOW.0 + 50)), Some(asked));
    }
}

#[test]
fn r13_a_log_elsewhere_is_cut_or_begun_anew() {
    for ((log_start, end), expected) in [
        ((0, 90), Take::Truncate { to: Offset(90), below_high_watermark: false }),
        ((101, 200), Take::Reset { at: Offset(101) }),
        ((0, 200), Take::Nothing),
    ] {
        let (mut follower, log, mut offsets) = follower();
        let asked = follower.next_fetch(&log, &offsets, NOW).unwrap();
        let answer = Answer::OutOfRange { log_start: Offset(log_start), end: Offset(end) };
        assert_eq!(follower.on_answer(&asked, &answer, &log, &mut offsets, NOW), expected);
        if let Take::Reset { at } = expected {
            offsets.restart(at);
            follower.on_cut();
            let log = List(Vec::new(), at.0);
            let asked = follower.next_fetch(&log, &offsets, NOW).unwrap();
            assert_eq!((asked.offset, asked.last_epoch, asked.durable), (at, None, at));
            assert_eq!(offsets.high_watermark(), at);
        }
    }
}

#[test]
fn r14_what_passes_is_tried_again_and_what_does_not_waits_for_the_metadata() {
    let (mut follower, log, mut offsets) = follower();
    let asked = follower.next_fetch(&log, &offsets, NOW).unwrap();
    let mut now = NOW;
    for pause in [50, 100, 200, 400, 800, 1000, 1000] {
        follower.on_answer(&asked, &Answer::NotNow, &log, &mut offsets, now);
        assert_eq!(follower.next_fetch(&log, &offsets, MonoMs(now.0 + pause - 1)), None, "{pause}");
        now.0 += pause;
        assert!(follower.next_fetch(&log, &offsets, now).is_some(), "{pause}");
    }
    follower.on_answer(&asked, &batches(&[], 0), &log, &mut offsets, now);
    assert!(follower.next_fetch(&log, &offsets, now).is_some(), "an answer ends the pauses");
    follower.on_answer(&asked, &Answer::Fenced, &log, &mut offsets, now);
    assert_eq!((follower.state(), follower.next_fetch(&log, &offsets, now)), (State::Idle, None));
    follower.on_metadata(Some(9), LeaderEpoch(7));
    assert_eq!(follower.state(), State::Idle, "nothing new");
    follower.on_metadata(Some(8), LeaderEpoch(8));
    assert_eq!((follower.state(), follower.epoch()), (State::Fetching, LeaderEpoch(8)));
    follower.on_refused();
    assert_eq!(follower.next_fetch(&log, &offsets, now), None);
    follower.on_metadata(Some(8), LeaderEpoch(8));
    assert_eq!(follower.state(), State::Fetching, "who failed is tried again with any metadata");
}

#[test]
fn r14_a_cut_outlives_the_epoch_that_asked_for_it() {
    let (mut follower, log, mut offsets) = follower();
    let asked = follower.next_fetch(&log, &offsets, NOW).unwrap();
    follower.on_answer(&asked, &Answer::Diverging(LeaderEpoch(6), Offset(95)), &log, &mut offsets, NOW);
    follower.on_metadata(None, LeaderEpoch(8));
    assert_eq!(follower.state(), State::Truncating { to: Offset(95) });
    offsets.truncate(Offset(95));
    follower.on_cut();
    assert_eq!(follower.state(), State::Idle);
}

#[test]
fn r15_what_the_leader_committed_is_committed_here_once_it_is_on_disk() {
    let (mut follower, log, mut offsets) = follower();
    let asked = follower.next_fetch(&log, &offsets, NOW).unwrap();
    let answer = Answer::Batches { batches: &[], high_watermark: Offset(97), log_start: Offset(60) };
    follower.on_answer(&asked, &answer, &log, &mut offsets, NOW);
    assert_eq!((offsets.high_watermark(), offsets.log_start()), (Offset(90), Offset(60)));
    offsets.make_durable(Offset(100));
    assert!(follower.on_local(&mut offsets) && offsets.high_watermark() == Offset(97));
    let answer = Answer::Batches { batches: &[], high_watermark: Offset(80), log_start: Offset(99) };
    follower.on_answer(&asked, &answer, &log, &mut offsets, NOW);
    assert_eq!(
        (offsets.high_watermark(), offsets.log_start()),
        (Offset(97), Offset(97)),
        "neither passes it"
    );
}
