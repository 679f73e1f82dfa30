use super::*;
use crate::controller::{Registration, register};
use crate::metadata::quorum::Membership;
use crate::metadata::records::Record;
use crate::model::BrokerSettings;

pub const NOW: i64 = 1_000_000;

fn due(status: &Status, image: &Image) -> Option<VoterChange> {
    next_change(View { status, image, now_ms: NOW }, None, &BTreeSet::new())
}

pub fn image(brokers: i32) -> Image {
    (1..=brokers).fold(Image::empty(), |image, id| {
        let settings = BrokerSettings { broker_id: id, ..BrokerSettings::default() };
        let registration = Registration::of(&settings, 1, [id as u8; 16], [id as u8; 16]);
        image.with(&register(&image, image.version + 1, &registration)).unwrap().0
    })
}

pub fn status(image: &Image, voting: i32, members: i32, end: u64) -> Status {
    let all: Vec<Voter> = image.brokers().map(voter).collect();
    let of = |count: i32| all.iter().take(count as usize).copied();
    let endpoints = |one: Voter| image.broker(one.node).unwrap().endpoints.clone();
    Status {
        me: all[0],
        leader: Some(all[0]),
        epoch: 1,
        committed: 1000,
        membership: Membership {
            voters: vec![of(voting).collect()],
            members: of(members).map(|voter| Member { voter, endpoints: endpoints(voter) }).collect(),
        },
        members: of(members)
            .map(|voter| MemberStatus {
                voter,
                votes: false,
                end: Some(end),
                heard_ms: None,
                caught_up_ms: None,
            })
            .collect(),
    }
}

#[test]
fn whoever_registers_becomes_a_member_and_from_three_on_three_vote() {
    let two = image(2);
    assert!(
        matches!(due(&status(&two, 1, 1, 1000), &two), Some(VoterChange::Learner(m)) if m.voter.node == 2)
    );
    assert!(due(&status(&two, 1, 2, 1000), &two).is_none(), "a set of two is the weakest");
    let three = image(3);
    let change = due(&status(&three, 1, 3, 1000), &three);
    assert!(matches!(change, Some(VoterChange::Voters(voters)) if voters.len() == 3));
    assert!(due(&status(&three, 1, 3, 10), &three).is_none(), "too far behind to vote");
    assert!(due(&status(&three, 3, 3, 1000), &three).is_none());
    let seven = image(7);
    let change = due(&status(&seven, 3, 7, 1000), &seven);
    assert!(matches!(change, Some(VoterChange::Voters(voters)) if voters.len() == 5));
}

#[test]
fn other_endpoints_are_made_known_and_half_a_change_is_ended() {
    let three = image(3);
    let mut moved = status(&three, 3, 3, 1000);
    moved.membership.members[1].endpoints.clear();
    assert!(matches!(due(&moved, &three), Some(VoterChange::Learner(m)) if m.voter.node == 2));
    let mut joint = status(&three, 1, 3, 1000);
    let all: Vec<Voter> = three.brokers().map(voter).collect();
    joint.membership.voters.push(all);
    assert!(matches!(due(&joint, &three), Some(VoterChange::Voters(voters)) if voters.len() == 3));
}

#[test]
fn who_was_taken_out_does_not_vote_any_more() {
    let (four, three, two) = (image(4), image(3), image(2));
    let voting = |status: &Status, image: &Image| match due(status, image) {
        Some(VoterChange::Voters(voters)) => voters.iter().map(|voter| voter.node).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let gone = |image: &Image, id: i32| {
        let epoch = image.broker(id).unwrap().epoch.0 as u64;
        image.with(&[Record::BrokerUnregistered { id, epoch }]).unwrap().0
    };
    // Another takes its place; without one there are two, and with two brokers one is enough.
    assert_eq!(voting(&status(&four, 3, 4, 1000), &gone(&four, 2)), [1, 3, 4]);
    assert_eq!(voting(&status(&three, 3, 3, 1000), &gone(&three, 2)), [1]);
    assert_eq!(voting(&status(&four, 3, 4, 10), &gone(&four, 2)), [1, 3], "the fourth is too far behind");
    assert!(due(&status(&two, 1, 2, 1000), &two).is_none());
}

#[test]
fn who_lives_and_has_most_leads_next() {
    let three = image(3);
    let mut all = status(&three, 3, 3, 1000);
    all.members.iter_mut().for_each(|member| member.votes = true);
    all.members[1].end = Some(900);
    assert_eq!(successor(&all, &three).map(|voter| voter.node), Some(3));
    let epoch = three.broker(3).unwrap().epoch.0 as u64;
    let stops =
        Record::BrokerChanged { id: 3, epoch, fenced: None, draining: None, shutting_down: Some(true) };
    let (stopping, _) = three.with(&[stops]).unwrap();
    assert_eq!(successor(&all, &stopping).map(|voter| voter.node), Some(2));
    all.members[1].votes = false;
    assert_eq!(successor(&all, &stopping), None, "nobody else votes");
}

#[test]
fn who_is_no_broker_any_more_is_no_member() {
    let (three, two) = (image(3), image(2));
    let change = due(&status(&three, 1, 3, 1000), &two);
    assert!(matches!(change, Some(VoterChange::Remove(voter)) if voter.node == 3));
}

fn voting_after(change: Option<VoterChange>) -> Vec<i32> {
    match change {
        Some(VoterChange::Voters(voters)) => voters.iter().map(|voter| voter.node).collect(),
        other => panic!("{other:?}"),
    }
}

pub fn changed(image: &Image, records: &[Record]) -> Image {
    image.with(records).unwrap().0
}

pub fn fenced(image: &Image, id: i32) -> Image {
    let epoch = image.broker(id).unwrap().epoch.0 as u64;
    let fenced = Some(true);
    changed(image, &[Record::BrokerChanged { id, epoch, fenced, draining: None, shutting_down: None }])
}

#[test]
fn voters_that_were_chosen_by_hand_stay_but_for_those_that_leave_the_cluster() {
    let (five, by_hand) = (image(5), [Record::VotersByHand { is: true }]);
    let chosen = changed(&five, &by_hand);
    assert!(due(&status(&chosen, 2, 5, 1000), &chosen).is_none(), "two are a choice, too");
    assert_eq!(voting_after(due(&status(&five, 2, 5, 1000), &five)), [1, 2, 3]);
    assert_eq!(voting_after(due(&status(&five, 4, 5, 1000), &five)), [1, 2, 3]);
    let epoch = chosen.broker(3).unwrap().epoch.0 as u64;
    let without = changed(&chosen, &[Record::BrokerUnregistered { id: 3, epoch }]);
    assert_eq!(voting_after(due(&status(&chosen, 3, 5, 1000), &without)), [1, 2]);
    let auto = changed(&chosen, &[Record::VotersByHand { is: false }]);
    assert_eq!(voting_after(due(&status(&auto, 2, 5, 1000), &auto)), [1, 2, 3]);
}

#[test]
fn no_set_of_voters_is_made_that_could_decide_nothing() {
    let three = image(3);
    let lost = fenced(&fenced(&three, 2), 3);
    assert!(due(&status(&lost, 1, 3, 1000), &lost).is_none());
    let mut silent = status(&three, 3, 3, 1000);
    silent.members[1].heard_ms = Some(NOW - SILENT_MS);
    let epoch = three.broker(3).unwrap().epoch.0 as u64;
    let without = changed(&three, &[Record::BrokerUnregistered { id: 3, epoch }]);
    let two = changed(&without, &[Record::VotersByHand { is: true }]);
    assert!(due(&silent, &two).is_none(), "of 1 and 2 one does not answer");
    silent.members[1].heard_ms = Some(NOW - 100);
    assert_eq!(voting_after(due(&silent, &two)), [1, 2]);
    let one = fenced(&three, 3);
    assert!(due(&status(&one, 1, 3, 1000), &one).is_none(), "who is fenced is not asked");
}

#[test]
fn how_many_vote_is_what_was_set_and_odd() {
    let all = |most: Option<usize>| [1, 2, 3, 4, 5, 6, 7, 9].map(|brokers| voters_among(brokers, most));
    assert_eq!(all(None), [1, 1, 3, 3, 3, 3, 5, 5]);
    assert_eq!(all(Some(1)), [1; 8]);
    assert_eq!(all(Some(3)), [1, 1, 3, 3, 3, 3, 3, 3]);
    assert_eq!(all(Some(5)), [1, 1, 3, 3, 5, 5, 5, 5]);
    let (five, seven) = (image(5), image(7));
    let after = |status: &Status, image: &Image, most| {
        next_change(View { status, image, now_ms: NOW }, Some(most), &BTreeSet::new())
    };
    assert_eq!(voting_after(after(&status(&five, 3, 5, 1000), &five, 5)), [1, 2, 3, 4, 5]);
    assert_eq!(voting_after(after(&status(&seven, 5, 7, 1000), &seven, 3)), [1, 2, 3]);
    assert!(after(&status(&five, 3, 5, 1000), &five, 3).is_none());
    assert!(
        due(&status(&five, 5, 5, 1000), &five).is_none(),
        "five that vote stay when there are fewer brokers"
    );
}

#[test]
fn another_takes_the_place_of_who_is_gone_for_long() {
    let (four, three) = (image(4), image(3));
    let gone = |image: &Image, ids: &[i32]| -> BTreeSet<Voter> {
        ids.iter().map(|id| voter(image.broker(*id).unwrap())).collect()
    };
    let replaced = |image: &Image, dead: i32, end: u64, records: &[Record]| {
        let image = changed(&fenced(image, dead), records);
        let brokers = image.brokers().len() as i32;
        let status = status(&image, 3, brokers, end);
        next_change(View { status: &status, image: &image, now_ms: NOW }, None, &gone(&image, &[dead]))
    };
    assert_eq!(voting_after(replaced(&four, 2, 1000, &[])), [1, 3, 4]);
    assert!(replaced(&three, 2, 1000, &[]).is_none(), "there is nobody for the place");
    assert!(replaced(&four, 2, 10, &[]).is_none(), "who could take it is too far behind");
    assert!(replaced(&four, 2, 1000, &[Record::VotersByHand { is: true }]).is_none());
    // Both of two are replaced at once; of those who lead, nobody.
    let five = image(5);
    let dead = fenced(&five, 3);
    let status_of = status(&dead, 3, 5, 1000);
    let view = View { status: &status_of, image: &dead, now_ms: NOW };
    assert_eq!(voting_after(next_change(view, None, &gone(&dead, &[1, 3]))), [1, 2, 4]);
}

#[test]
fn who_comes_back_in_time_keeps_its_place() {
    let three = image(3);
    let (dead, mut gone) = (fenced(&three, 2), Gone::default());
    let of = status(&three, 3, 3, 1000);
    let mut look = |image: &Image, at: i64| {
        let view = View { status: &of, image, now_ms: NOW };
        let lost = gone.look(&view, MonoMs(at), 100);
        lost.iter().map(|one| one.node).collect::<Vec<_>>()
    };
    let seen = [
        (look(&three, 0), vec![]),
        (look(&dead, 10), vec![]),
        (look(&dead, 109), vec![]),
        (look(&dead, 110), vec![2]),
        (look(&three, 120), vec![]),
        (look(&dead, 130), vec![]),
        (look(&dead, 229), vec![]),
        (look(&dead, 230), vec![2]),
    ];
    seen.into_iter().for_each(|(found, expected): (Vec<i32>, Vec<i32>)| assert_eq!(found, expected));
}

#[test]
fn voters_are_spread_over_racks() {
    let mut five = image(5);
    for (id, rack) in [(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "c")] {
        let settings = BrokerSettings { broker_id: id, rack: Some(rack.into()), ..BrokerSettings::default() };
        let registration = Registration::of(&settings, 1, [id as u8; 16], [id as u8 + 100; 16]);
        five = changed(&five, &register(&five, five.version + 1, &registration));
    }
    assert_eq!(voting_after(due(&status(&five, 1, 5, 1000), &five)), [1, 4, 5]);
}
