//! What the classic protocol promises, event by event.

use bytes::Bytes;

use super::testing::{Bench, GROUP, subscription};
use super::*;
use crate::model::{ProducerId, TopicId};

fn bench() -> Bench {
    Bench::new(GroupSettings::default())
}

fn join_error(bench: &mut Bench, join: Join) -> Option<GroupError> {
    match bench.call(Request::Join(join)) {
        Reply::Join(joined) => joined.error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_members_are_waited_for() {
    let mut bench = bench();
    let (first, a) = bench.enter();
    bench.pass(2999);
    assert!(bench.replies.is_empty() && bench.state() == "PreparingRebalance");
    // One more within the delay extends it by another delay.
    let (_, b) = bench.enter();
    bench.pass(2000);
    assert!(bench.replies.is_empty());
    bench.pass(1001);
    let (a, b) = (bench.joined(a), bench.joined(b));
    assert_eq!((a.generation, b.generation), (1, 1));
    assert_eq!(a.leader, Some(first.clone()), "the first to join leads");
    assert_eq!((a.members.len(), b.members.len()), (2, 0), "only the leader is told of the others");
    assert_eq!(bench.state(), "CompletingRebalance");
}

#[test]
fn the_initial_wait_ends_at_the_rebalance_timeout() {
    let mut bench = bench();
    let mut tokens = Vec::new();
    for _ in 0..7 {
        let request = bench.join_request("", None);
        let mut request = Join { requires_known_id: false, ..request };
        request.rebalance_timeout = 10_000;
        tokens.push(bench.send(Request::Join(request)));
        bench.pass(2000);
    }
    assert!(tokens.iter().filter(|t| bench.replies.contains_key(t)).count() >= 5, "at 10 s it is over");
}

#[test]
fn an_assignment_reaches_everybody_and_is_stored() {
    let mut bench = bench();
    let joined = bench.stable(3);
    assert_eq!(bench.state(), "Stable");
    bench.restart();
    assert_eq!(bench.state(), "Stable", "the members are taken to be there");
    for joined in &joined {
        assert_eq!(bench.heartbeat(&joined.member, 1), Ok(()));
        let token = bench.sync(joined, &[]);
        assert_eq!(bench.synced(token), Ok(joined.member.to_string()));
    }
    bench.pass(10_001);
    assert_eq!(bench.state(), "Empty", "nobody sent a heartbeat");
}

#[test]
fn a_dead_member_is_noticed_and_the_others_go_on() {
    let mut bench = bench();
    let joined = bench.stable(2);
    let (alive, dead) = (joined[0].member.clone(), joined[1].member.clone());
    for _ in 0..3 {
        bench.pass(4000);
        let _ = bench.heartbeat(&alive, 1);
    }
    assert_eq!(bench.heartbeat(&alive, 1), Err(GroupError::RebalanceInProgress));
    assert_eq!(bench.heartbeat(&dead, 1), Err(GroupError::UnknownMember));
    let token = bench.rejoin(&alive);
    let joined = bench.joined(token);
    assert_eq!((joined.generation, joined.members.len()), (2, 1));
    let token = bench.sync(&joined, &[(&alive, "all")]);
    assert_eq!(bench.synced(token).as_deref(), Ok("all"));
}

#[test]
fn members_that_do_not_come_back_are_dropped_at_the_rebalance_timeout() {
    let mut bench = bench();
    let joined = bench.stable(2);
    let (_, c) = bench.enter();
    let a = bench.rejoin(&joined[0].member);
    for _ in 0..14 {
        bench.pass(4000);
        assert!(!bench.replies.contains_key(&a));
        // It is alive, and does not join.
        assert_eq!(bench.heartbeat(&joined[1].member, 1), Err(GroupError::RebalanceInProgress));
    }
    bench.pass(4001);
    assert_eq!(bench.joined(a).members.len(), 2);
    assert_eq!(bench.joined(c).generation, 2);
    assert_eq!(bench.heartbeat(&joined[1].member, 1), Err(GroupError::UnknownMember));
}

#[test]
fn members_that_do_not_ask_for_their_assignment_are_dropped() {
    let mut bench = bench();
    let (_, a) = bench.enter();
    let (_, b) = bench.enter();
    bench.pass(6001);
    let (a, b) = (bench.joined(a), bench.joined(b));
    let (leader, other) = if a.members.is_empty() { (b, a) } else { (a, b) };
    let token = bench.sync(&leader, &[(&leader.member, "x")]);
    assert!(bench.synced(token).is_ok());
    for _ in 0..15 {
        bench.pass(4001);
        let _ = bench.heartbeat(&leader.member, 1);
        let _ = bench.heartbeat(&other.member, 1);
    }
    assert_eq!(bench.state(), "PreparingRebalance");
    assert_eq!(bench.heartbeat(&other.member, 1), Err(GroupError::UnknownMember));
}

#[test]
fn foreign_generations_and_forged_ids_change_nothing() {
    let mut bench = bench();
    let joined = bench.stable(2);
    let log = bench.log.clone();
    let member = joined[0].member.clone();
    assert_eq!(bench.heartbeat(&member, 0), Err(GroupError::IllegalGeneration));
    assert_eq!(bench.heartbeat("forged", 1), Err(GroupError::UnknownMember));
    assert_eq!(bench.commit(&member, 2, 5), Err(GroupError::IllegalGeneration));
    assert_eq!(bench.commit("forged", 1, 5), Err(GroupError::UnknownMember));
    assert_eq!(
        bench.commit("", -1, 5),
        Err(GroupError::UnknownMember),
        "a stranger, while there are members"
    );
    assert_eq!(bench.leave("forged", None), Err(GroupError::UnknownMember));
    let stale = Joined { generation: 0, ..joined[0].clone() };
    let token = bench.sync(&stale, &[]);
    assert_eq!(bench.synced(token), Err(GroupError::IllegalGeneration));
    let other = Joined { protocol: Some("other".into()), ..joined[0].clone() };
    let token = bench.sync(&other, &[]);
    assert_eq!(bench.synced(token), Err(GroupError::InconsistentProtocol));
    let request = bench.join_request("forged", None);
    assert_eq!(join_error(&mut bench, request), Some(GroupError::UnknownMember));
    let request = bench.join_request("", None);
    let request = Join { protocols: vec![("other".into(), Bytes::new())], ..request };
    assert_eq!(join_error(&mut bench, request), Some(GroupError::InconsistentProtocol));
    let request = bench.join_request("", None);
    let request = Join { protocol_type: "connect".into(), ..request };
    assert_eq!(join_error(&mut bench, request), Some(GroupError::InconsistentProtocol));
    let short = bench.join_request("", None);
    let short = Join { session_timeout: 5999, ..short };
    assert_eq!(join_error(&mut bench, short), Some(GroupError::InvalidSessionTimeout));
    let nameless = bench.join_request("", None);
    let nameless = Join { group: "".into(), ..nameless };
    assert_eq!(join_error(&mut bench, nameless), Some(GroupError::InvalidGroupId));
    assert_eq!((bench.state(), &bench.log), ("Stable", &log));
}

#[test]
fn the_protocol_is_one_that_all_support_and_most_prefer() {
    let mut bench = bench();
    let lists = [["range", "sticky"], ["sticky", "range"], ["sticky", "own"]];
    let mut tokens = Vec::new();
    for list in lists {
        let protocols = list.iter().map(|name| ((*name).into(), subscription(&["t"]))).collect();
        let request = bench.join_request("", None);
        let request = Join { protocols, requires_known_id: false, ..request };
        tokens.push(bench.send(Request::Join(request)));
    }
    bench.pass(9001);
    for token in tokens {
        assert_eq!(bench.joined(token).protocol.as_deref(), Some("sticky"));
    }
}

#[test]
fn commits_follow_the_phase() {
    let mut bench = bench();
    assert_eq!(bench.commit("", -1, 1), Ok(()), "an empty group takes them from anybody");
    let (id, token) = bench.enter();
    bench.pass(3001);
    let joined = bench.joined(token);
    assert_eq!(bench.commit(&id, 1, 2), Err(GroupError::RebalanceInProgress), "not assigned yet");
    let token = bench.sync(&joined, &[(&id, "x")]);
    bench.synced(token).unwrap();
    assert_eq!(bench.commit(&id, 1, 3), Ok(()));
    let (_, second) = bench.enter();
    assert_eq!(bench.state(), "PreparingRebalance");
    assert_eq!(bench.commit(&id, 1, 4), Ok(()), "before it gives its partitions up");
    let first = bench.rejoin(&id);
    assert!(bench.replies.contains_key(&first) && bench.replies.contains_key(&second));
    assert_eq!(bench.commit(&id, 1, 5), Err(GroupError::IllegalGeneration));
    assert_eq!(bench.committed("t"), Some(4));
    bench.restart();
    assert_eq!(bench.committed("t"), Some(4));
    assert_eq!(bench.committed("u"), None);
}

#[test]
fn metadata_has_a_length() {
    let mut bench = bench();
    let mut commit = bench.commit_request(bench.member("", -1), "t", 1);
    commit.topics[0].partitions[0].metadata = "ü".repeat(4097).into();
    assert_eq!(
        bench.call(Request::Commit(commit.clone())),
        Reply::Commit(Ok(vec![vec![Err(GroupError::MetadataTooLarge)]]))
    );
    assert_eq!(bench.state(), "Dead", "nothing was committed, so there is no group");
    commit.topics[0].partitions[0].metadata = "ü".repeat(4096).into();
    assert_eq!(bench.call(Request::Commit(commit)), Reply::Commit(Ok(vec![vec![Ok(())]])));
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let mut bench = bench();
    let request = bench.join_request("", Some("one"));
    let first = bench.send(Request::Join(request));
    let request = bench.join_request("", Some("two"));
    let second = bench.send(Request::Join(request));
    bench.pass(6001);
    let (a, b) = (bench.joined(first), bench.joined(second));
    let (leader, other) = if a.members.is_empty() { (b, a) } else { (a, b) };
    let token = bench.sync(&leader, &[(&leader.member, "L"), (&other.member, "O")]);
    bench.synced(token).unwrap();
    let instance = if leader.member.starts_with("one") { "two" } else { "one" };
    // It dies and comes back within its session: the same assignment under a new id.
    let request = bench.join_request("", Some(instance));
    let token = bench.send(Request::Join(request));
    let again = bench.joined(token);
    assert_eq!((again.error, again.generation, bench.state()), (None, 1, "Stable"));
    assert_ne!(again.member, other.member);
    let token = bench.sync(&again, &[]);
    assert_eq!(bench.synced(token).as_deref(), Ok("O"));
    // Its former self is fenced, whatever it asks.
    let former =
        |generation| Member { instance: Some(instance.into()), ..bench.member(&other.member, generation) };
    let (heartbeat, commit) = (former(1), bench.commit_request(former(1), "t", 9));
    assert_eq!(bench.call(Request::Heartbeat(heartbeat)), Reply::Heartbeat(Err(GroupError::FencedInstance)));
    assert_eq!(bench.call(Request::Commit(commit)), Reply::Commit(Err(GroupError::FencedInstance)));
    let request = bench.join_request(&other.member, Some(instance));
    assert_eq!(join_error(&mut bench, request), Some(GroupError::FencedInstance));
    assert_eq!(bench.leave(&other.member, Some(instance)), Err(GroupError::FencedInstance));
    // The place is stored under the new id.
    bench.restart();
    let token = bench.sync(&again, &[]);
    assert_eq!(bench.synced(token).as_deref(), Ok("O"));
    // The leader comes back: it is told that it leads and need not assign.
    let instance = if instance == "one" { "two" } else { "one" };
    let request = bench.join_request("", Some(instance));
    let token = bench.send(Request::Join(request));
    let led = bench.joined(token);
    assert!(led.skip_assignment && led.leader.as_ref() == Some(&led.member) && led.members.len() == 2);
    // Administration removes it by its instance.
    assert_eq!(bench.leave("", Some(instance)), Ok(()));
    assert_eq!(bench.state(), "PreparingRebalance");
}

#[test]
fn a_static_member_that_takes_longer_than_its_session_is_gone() {
    let mut bench = bench();
    let request = bench.join_request("", Some("one"));
    let token = bench.send(Request::Join(request));
    bench.pass(3001);
    let joined = bench.joined(token);
    let token = bench.sync(&joined, &[(&joined.member, "x")]);
    bench.synced(token).unwrap();
    bench.pass(10_001);
    assert_eq!(bench.state(), "Empty");
}

#[test]
fn a_changed_subscription_rebalances_and_an_unchanged_one_does_not() {
    let mut bench = bench();
    let joined = bench.stable(2);
    let (leader, other) = (&joined[0].member, &joined[1].member);
    let token = bench.rejoin(other);
    assert_eq!(bench.joined(token).generation, 1, "it lost the answer, nothing else");
    assert_eq!(bench.state(), "Stable");
    let request = bench.join_request(other, None);
    let request = Join { protocols: vec![("range".into(), subscription(&["t", "u"]))], ..request };
    let token = bench.send(Request::Join(request));
    assert_eq!(bench.state(), "PreparingRebalance");
    let led = bench.rejoin(leader);
    assert_eq!((bench.joined(token).generation, bench.joined(led).generation), (2, 2));
    // A leader that joins again has seen a reason to.
    let second = Joined { generation: 2, ..joined[0].clone() };
    let token = bench.sync(&second, &[(leader, "l"), (other, "o")]);
    assert_eq!(bench.synced(token).as_deref(), Ok("l"));
    assert_eq!(bench.state(), "Stable");
    bench.rejoin(leader);
    assert_eq!(bench.state(), "PreparingRebalance");
}

#[test]
fn the_size_of_a_group_is_bounded() {
    let mut bench = Bench::new(GroupSettings { max_size: 2, ..GroupSettings::default() });
    bench.stable(2);
    let request = bench.join_request("", None);
    assert_eq!(join_error(&mut bench, request), Some(GroupError::MaxSizeReached));
    assert_eq!(bench.state(), "Stable");
}

#[test]
fn an_id_that_was_given_out_is_held_for_a_session() {
    let mut bench = bench();
    let request = bench.join_request("", None);
    let Reply::Join(joined) = bench.call(Request::Join(request)) else { panic!("a join") };
    assert!(joined.member.starts_with("client-") && joined.member.len() == "client-".len() + 36);
    bench.pass(10_001);
    let request = bench.join_request(&joined.member, None);
    assert_eq!(join_error(&mut bench, request), Some(GroupError::UnknownMember));
}

#[test]
fn groups_are_listed_described_and_deleted() {
    let mut bench = bench();
    assert_eq!(bench.call(Request::Describe(GROUP.into())), Reply::Describe(None));
    assert_eq!(bench.call(Request::Delete(GROUP.into())), Reply::Delete(Err(GroupError::NotFound)));
    let joined = bench.stable(1);
    bench.commit(&joined[0].member, 1, 7).unwrap();
    let Reply::Describe(Some(description)) = bench.call(Request::Describe(GROUP.into())) else { panic!() };
    assert_eq!((description.state, description.protocol.as_deref()), ("Stable", Some("range")));
    assert_eq!(description.members[0].assignment, joined[0].member.as_bytes());
    let list =
        |bench: &Bench, state: &str| bench.groups.list(&ListFilter { states: vec![state.into()] }).len();
    assert_eq!((list(&bench, "stable"), list(&bench, "empty")), (1, 0));
    assert_eq!(bench.call(Request::Delete(GROUP.into())), Reply::Delete(Err(GroupError::NonEmpty)));
    let delete = Request::DeleteOffsets { group: GROUP.into(), topics: vec![("t".into(), vec![0])] };
    let subscribed = Reply::DeleteOffsets(Ok(vec![vec![Err(GroupError::SubscribedToTopic)]]));
    assert_eq!(bench.call(delete.clone()), subscribed);
    assert_eq!(bench.leave(&joined[0].member, None), Ok(()));
    assert_eq!((bench.state(), list(&bench, "empty")), ("Empty", 1));
    assert_eq!(bench.committed("t"), Some(7));
    assert_eq!(bench.call(delete), Reply::DeleteOffsets(Ok(vec![vec![Ok(())]])));
    assert_eq!(bench.committed("t"), None);
    assert_eq!(bench.call(Request::Delete(GROUP.into())), Reply::Delete(Ok(())));
    bench.restart();
    assert!(bench.groups.is_empty());
}

#[test]
fn offsets_of_empty_groups_expire_and_the_group_with_them() {
    let mut bench = bench();
    let week = GroupSettings::default().offsets_retention_ms;
    let joined = bench.stable(1);
    bench.commit(&joined[0].member, 1, 7).unwrap();
    // While members read the topic nothing expires.
    for _ in 0..(week / 9000 + 1000) {
        bench.pass(9000);
        bench.heartbeat(&joined[0].member, 1).unwrap();
    }
    assert_eq!(bench.committed("t"), Some(7));
    bench.leave(&joined[0].member, None).unwrap();
    bench.pass(week - 700_000);
    assert_eq!(bench.committed("t"), Some(7), "counted from when the group became empty");
    bench.restart();
    bench.pass(1_400_000);
    assert_eq!((bench.committed("t"), bench.state()), (None, "Dead"));
    bench.restart();
    assert!(bench.groups.is_empty());
}

#[test]
fn a_deleted_topic_takes_its_offsets_along() {
    let mut bench = bench();
    bench.commit("", -1, 7).unwrap();
    let other = bench.commit_request(bench.member("", -1), "u", 8);
    bench.call(Request::Commit(other));
    bench.delete_topic("t");
    assert_eq!((bench.committed("t"), bench.committed("u")), (None, Some(8)));
    bench.restart();
    assert_eq!((bench.committed("t"), bench.committed("u")), (None, Some(8)));
    let fetch = |id| Fetch {
        group: GROUP.into(),
        topics: Some(vec![("u".into(), TopicId([id; 16]), vec![0])]),
        require_stable: false,
    };
    let offset = |reply: Reply| match reply {
        Reply::Fetch(topics) => topics[0].partitions[0].1.clone().unwrap().map(|o| o.offset),
        other => panic!("{other:?}"),
    };
    assert_eq!(offset(bench.call(Request::Fetch(fetch(1)))), Some(8));
    assert_eq!(offset(bench.call(Request::Fetch(fetch(2)))), None, "another topic of the same name");
}

#[test]
fn a_transactions_offsets_count_when_it_commits() {
    let pending = |offset, record| codec::StoredOffset {
        offset,
        leader_epoch: -1,
        metadata: "".into(),
        committed_at: 0,
        expires_at: None,
        topic_id: TopicId::ZERO,
        record_offset: record,
    };
    let mut offsets = kept::Offsets::default();
    let t: Name = "t".into();
    offsets.commit(&t, 0, pending(1, 10));
    offsets.commit_pending(ProducerId(5), &t, 0, pending(2, 11));
    assert!(offsets.is_pending("t", 0) && offsets.get("t", 0).unwrap().offset == 1);
    offsets.end_transaction(ProducerId(5), true);
    assert!(!offsets.is_pending("t", 0) && offsets.get("t", 0).unwrap().offset == 2);
    offsets.commit_pending(ProducerId(5), &t, 0, pending(3, 12));
    offsets.commit(&t, 0, pending(4, 13));
    offsets.end_transaction(ProducerId(5), true);
    assert_eq!(offsets.get("t", 0).unwrap().offset, 4, "it was overtaken");
    offsets.commit_pending(ProducerId(5), &t, 0, pending(9, 14));
    offsets.end_transaction(ProducerId(5), false);
    assert_eq!(offsets.get("t", 0).unwrap().offset, 4);
}

#[test]
fn idle_groups_keep_one_timer_a_member() {
    let mut bench = bench();
    let joined = bench.stable(3);
    for _ in 0..1000 {
        bench.pass(100);
        for joined in &joined {
            bench.heartbeat(&joined.member, 1).unwrap();
        }
    }
    assert!(bench.timers() <= 3 + 3, "{} timers", bench.timers());
}
