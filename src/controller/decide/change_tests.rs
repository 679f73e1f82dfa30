use super::*;
use crate::metadata::PartitionParts as Parts;
use crate::model::TopicId;

const ID: PartitionId = PartitionId { topic: TopicId([1; 16]), index: 0 };

/// Replicas, ISR, ELR, leader.
type State<'a> = (&'a [BrokerId], &'a [BrokerId], &'a [BrokerId], Option<BrokerId>);

fn partition((replicas, isr, elr, leader): State<'_>) -> Partition {
    let parts = Parts { leader, replicas, isr, elr, ..Parts::default() };
    Partition::new(ID.topic, &parts).unwrap()
}

/// The partition after a change, with `min` in sync wanted and these alive.
fn after(
    partition: &Partition,
    min: usize,
    alive: &[BrokerId],
    edit: impl FnOnce(&mut Change<'_>),
) -> Option<Partition> {
    let mut change = Change::of(ID, partition);
    edit(&mut change);
    let may = |id| alive.contains(&id);
    let record = change.record(&|factor| min.min(factor), &may, &may)?;
    let (_, change) = crate::metadata::Change::of(&record).unwrap();
    Some(partition.changed(ID.topic, &change).unwrap())
}

fn shown(partition: &Partition) -> (Vec<BrokerId>, Vec<BrokerId>, Option<BrokerId>, i32) {
    (partition.isr().collect(), partition.elr().collect(), partition.leader, partition.leader_epoch.0)
}

#[test]
fn who_leaves_an_isr_that_is_too_small_stays_eligible() {
    let (all, none) = (&[1, 2, 3][..], &[][..]);
    // Before; in sync wanted; who is alive; the ISR that is to be; ISR, ELR, leader and its epoch after.
    let cases: [(State<'_>, usize, &[BrokerId], &[BrokerId], _); 9] = [
        ((all, all, none, Some(1)), 2, all, &[1, 2], (vec![1, 2], vec![], Some(1), 0)),
        ((all, &[1, 2], none, Some(1)), 2, all, &[1], (vec![1], vec![2], Some(1), 0)),
        ((all, &[1], &[2], Some(1)), 2, &[2, 3], none, (vec![2], vec![1], Some(2), 1)),
        ((all, &[1], &[2], Some(1)), 2, &[3], none, (vec![], vec![1, 2], None, 1)),
        ((all, &[1], &[2], Some(1)), 2, all, &[1, 3], (vec![1, 3], vec![], Some(1), 0)),
        ((all, &[1, 2], none, Some(1)), 1, &[2, 3], &[2], (vec![2], vec![], Some(2), 1)),
        // Two at once, and one of them comes back: with one in sync it commits, and the other is eligible no more.
        ((all, &[1, 2], none, Some(1)), 1, &[3], none, (vec![], vec![1, 2], None, 1)),
        ((all, none, &[1, 2], None), 1, &[2], none, (vec![2], vec![], Some(2), 1)),
        ((all, none, &[1, 2], None), 2, &[2], none, (vec![2], vec![1], Some(2), 1)),
    ];
    for (before, min, alive, isr, expected) in cases {
        let changed = after(&partition(before), min, alive, |change| change.isr = isr.to_vec());
        assert_eq!(shown(&changed.unwrap()), expected, "{before:?} {min} {alive:?} {isr:?}");
    }
    let same = partition((all, all, none, Some(1)));
    assert!(after(&same, 2, all, |_| ()).is_none(), "nothing changes");
}

#[test]
fn who_has_lost_what_it_had_is_not_eligible() {
    let alone = partition((&[1, 2], &[1], &[2], Some(1)));
    let gone = after(&alone, 2, &[], |change| {
        change.isr.clear();
        change.lost = Some(1);
    });
    let gone = gone.unwrap();
    assert_eq!((shown(&gone), gone.last_known()), ((vec![], vec![2], None, 1), Some(1)));
    let empty = after(&gone, 2, &[1], |change| {
        change.lost = Some(2);
        change.empty = true;
    });
    // Nobody is left: the last leader may, at the cost of what it lacks.
    let last = empty.unwrap();
    assert_eq!((shown(&last), last.recovering), ((vec![1], vec![], Some(1), 2), true));
    assert_eq!(last.last_known(), None);
    let forgotten = after(&gone, 2, &[1], |change| {
        change.lost = Some(1);
        change.empty = true;
    });
    assert_eq!(forgotten.unwrap().last_known(), None, "it has nothing at all");
}

#[test]
fn an_unclean_election_is_a_choice() {
    let dead = partition((&[1, 2, 3], &[], &[1], None));
    assert!(after(&dead, 2, &[2, 3], |_| ()).is_none());
    let chosen = after(&dead, 2, &[3], |change| change.election = Election::Unclean).unwrap();
    assert_eq!((shown(&chosen), chosen.recovering), ((vec![3], vec![], Some(3), 1), true));
    let clean = after(&dead, 2, &[1, 3], |change| change.election = Election::Unclean).unwrap();
    assert_eq!((shown(&clean), clean.recovering), ((vec![1], vec![], Some(1), 1), false), "not without need");
}

#[test]
fn the_preferred_replica_leads_if_it_is_in_sync() {
    let prefer = |change: &mut Change<'_>| change.election = Election::Preferred;
    let away = partition((&[1, 2], &[1, 2], &[], Some(2)));
    assert_eq!(shown(&after(&away, 1, &[1, 2], prefer).unwrap()), (vec![1, 2], vec![], Some(1), 1));
    assert!(after(&away, 1, &[2], prefer).is_none(), "it is not alive");
    assert!(after(&away, 1, &[1, 2], |_| ()).is_none(), "nobody asks for it");
    let behind = partition((&[1, 2], &[2], &[], Some(2)));
    assert!(after(&behind, 1, &[1, 2], prefer).is_none(), "it is not in sync");
}

#[test]
fn a_move_ends_when_all_that_it_adds_are_in_sync() {
    let moving = |replicas: &[BrokerId], isr: &[BrokerId], adding: &[BrokerId], removing: &[BrokerId]| {
        let parts = Parts { leader: Some(isr[0]), replicas, isr, adding, removing, ..Parts::default() };
        Partition::new(ID.topic, &parts).unwrap()
    };
    let to = |partition: &Partition, isr: &[BrokerId]| {
        after(partition, 1, &[1, 2, 3, 4, 5], |change| change.isr = isr.to_vec()).unwrap()
    };
    let one = moving(&[3, 1, 2], &[1, 2], &[3], &[1]);
    let done = to(&one, &[1, 2, 3]);
    assert_eq!((done.replicas(), shown(&done)), (&[3, 2][..], (vec![3, 2], vec![], Some(3), 1)));
    assert!(!done.is_moving());
    let waits = to(&one, &[1]);
    assert!(waits.is_moving() && waits.replicas().len() == 3);
    let shrinks = moving(&[2, 3, 4, 5, 1, 6], &[1, 6], &[5], &[1, 6]);
    assert!(to(&shrinks, &[1, 6, 5]).is_moving(), "the ISR would shrink for nothing");
    assert!(!to(&shrinks, &[2, 3, 4, 5, 1, 6]).is_moving());
    let same_leader = moving(&[2, 3, 1], &[2, 1], &[3], &[1]);
    let done = to(&same_leader, &[2, 1, 3]);
    assert_eq!(
        (done.leader, done.leader_epoch.0),
        (Some(2), 1),
        "who is no replica any more is not to be taken for one"
    );
}
