use std::collections::BTreeSet;

use super::cluster::{Cluster, MS, ids, run};
use crate::control::quorum::Quorum;
use crate::control::raft::{ChangeError, VoterChange};
use crate::metadata::Store;
use crate::metadata::quorum::{Member, Membership, Voter};
use crate::metadata::recover::{Survivor, go_alone};

/// A small generator: a seed makes the same draws.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let first = number("WEIR_SEED").unwrap_or(1);
    first..first + number("WEIR_SEEDS").unwrap_or(2)
}

#[test]
fn a_node_that_is_alone_leads_at_once_and_keeps_what_it_commits() {
    run(async {
        let mut cluster = Cluster::new(1).await;
        let last = cluster.commit(50).await;
        let first_epoch = cluster.nodes[0].raft.as_ref().unwrap().leads().unwrap();
        cluster.stop(0).await;
        cluster.start(0).await;
        cluster.leader().await;
        let raft = cluster.nodes[0].raft.clone().unwrap();
        assert!(raft.leads().unwrap() > first_epoch, "each life has an epoch of its own");
        assert!(raft.image().next_producer_id == 50 && raft.image().version > last);
        cluster.check();
        // The same files open as those of a node that is alone.
        cluster.stop(0).await;
        let mut store = Store::open(cluster.nodes[0].dir.path(), 1).unwrap();
        assert!(store.is_alone() && store.image().next_producer_id == 50);
        store.commit(vec![ids(60)]).unwrap();
        drop(store);
        cluster.start(0).await;
        cluster.leader().await;
        assert_eq!(cluster.nodes[0].raft.as_ref().unwrap().image().next_producer_id, 60);
    });
}

#[test]
fn one_becomes_three_and_any_two_go_on() {
    run(async {
        let mut cluster = Cluster::voting(3).await;
        cluster.commit(20).await;
        cluster.level(&[0, 1, 2]).await;
        let status = cluster.nodes[0].raft.as_ref().unwrap().status();
        assert_eq!(status.membership.voters.len(), 1, "the change is complete");
        assert_eq!(status.members.iter().filter(|member| member.votes).count(), 3);
        let others = || status.members.iter().filter(|member| member.voter != status.me);
        assert!(others().all(|member| member.end.is_some() && member.heard_ms.is_some()), "{status:?}");
        let leader = cluster.leader().await;
        cluster.stop(leader).await;
        cluster.commit(5).await;
        cluster.start(leader).await;
        cluster.level(&[0, 1, 2]).await;
        cluster.check();
    });
}

#[test]
fn a_leader_that_is_cut_off_stops_acting_and_what_it_proposed_is_unknown() {
    run(async {
        let mut cluster = Cluster::voting(3).await;
        cluster.commit(3).await;
        let old = cluster.leader().await;
        cluster.isolate(old);
        let lost = cluster.propose(old).unwrap();
        cluster.until("it to step down", |cluster| cluster.nodes[old].heard.borrow().leads.is_none()).await;
        assert!(cluster.propose(old).is_none(), "nothing is taken by one that does not lead");
        assert!(cluster.nodes[old].heard.borrow().pending.is_empty(), "it is told that nobody knows");
        let new = cluster.leader().await;
        assert_ne!(new, old);
        cluster.commit(3).await;
        cluster.heal();
        cluster.level(&[0, 1, 2]).await;
        let heard = cluster.nodes[old].heard.borrow();
        assert!(heard.commits[&lost].epoch > *heard.led.first().unwrap(), "another's change has its offset");
        drop(heard);
        cluster.check();
    });
}

#[test]
fn one_that_is_far_behind_is_given_a_snapshot() {
    run(async {
        let mut cluster = Cluster::new(2).await;
        cluster.commit(300).await;
        let raft = cluster.nodes[0].raft.clone().unwrap();
        raft.core.trigger().snapshot().await.unwrap();
        cluster.until("the log to be cut", |_| raft.core.metrics().borrow().purged.is_some()).await;
        cluster.commit(10).await;
        cluster.learn(&[1]).await;
        assert!(cluster.links.snapshots.get() > 0);
        cluster.commit(10).await;
        cluster.level(&[0, 1]).await;
        // It has it on disk.
        cluster.stop(1).await;
        let store = Store::join(cluster.nodes[1].dir.path(), 2).unwrap();
        assert!(store.image().version > 300 && store.image().cluster_id == raft.image().cluster_id);
        drop(store);
        cluster.start(1).await;
        cluster.commit(10).await;
        cluster.level(&[0, 1]).await;
        cluster.check();
    });
}

#[test]
fn a_voter_is_replaced_and_the_leader_can_leave() {
    run(async {
        let mut cluster = Cluster::voting(3).await;
        cluster.commit(5).await;
        let (gone, leader) = (2, cluster.leader().await);
        assert_ne!(gone, leader);
        cluster.stop(gone).await;
        let new = cluster.add(false).await;
        let far = BTreeSet::from([cluster.nodes[new].me]);
        cluster.commit(200).await;
        let raft = cluster.nodes[leader].raft.clone().unwrap();
        let refused = raft.change_voters(VoterChange::Voters(far)).await;
        assert!(matches!(refused, Err(ChangeError::Behind(4))), "{refused:?}");
        cluster.learn(&[new]).await;
        let voters = [0, 1, new].map(|index| cluster.nodes[index].me);
        cluster.change(VoterChange::Voters(voters.into())).await;
        cluster.change(VoterChange::Remove(cluster.nodes[gone].me)).await;
        let status = raft.status();
        assert_eq!(status.membership.voters, [voters.to_vec()]);
        assert_eq!(status.membership.members.len(), 3);
        // The one that is gone comes back with what it had, and does not disturb the others.
        cluster.start(gone).await;
        cluster.commit(5).await;
        cluster.level(&[0, 1, new]).await;
        assert!(cluster.nodes[gone].heard.borrow().leads.is_none());
        let to = cluster.nodes[new].me;
        raft.hand_over(to).await.unwrap();
        cluster.until("the successor to lead", |cluster| cluster.leaders() == [new]).await;
        cluster.commit(5).await;
        cluster.level(&[0, 1, new]).await;
        cluster.check();
    });
}

#[test]
fn a_hand_over_that_cannot_be_ends_and_work_goes_on() {
    run(async {
        let mut cluster = Cluster::voting(3).await;
        cluster.commit(3).await;
        let leader = cluster.leader().await;
        let other = (0..3).find(|index| *index != leader).unwrap();
        let (raft, to) = (cluster.nodes[leader].raft.clone().unwrap(), cluster.nodes[other].me);
        cluster.cut(leader, other);
        let done = raft.hand_over(to).await;
        assert!(matches!(done, Err(ChangeError::Failed(_) | ChangeError::NotLeading)), "{done:?}");
        raft.ready().await;
        cluster.heal();
        cluster.commit(3).await;
        cluster.level(&[0, 1, 2]).await;
        cluster.check();
    });
}

#[test]
fn a_node_with_another_directory_is_another_voter() {
    run(async {
        let mut cluster = Cluster::voting(3).await;
        cluster.commit(3).await;
        let me = cluster.nodes[1].me;
        let other = Voter { directory: [9; 16], ..me };
        let raft = cluster.nodes[1].raft.clone().unwrap();
        let body = crate::control::raft::wire::begin(other);
        for what in 0..=5 {
            assert!(raft.receive(cluster.nodes[0].me, what, body.clone().into()).await.is_err());
        }
        // Nor does anybody speak for another.
        let leader = cluster.nodes[0].me;
        let mut body = crate::control::raft::wire::begin(me);
        let vote = crate::control::raft::types::Vote::new_committed(90, leader);
        crate::control::raft::wire::put_vote(&vote, &mut body);
        body.extend_from_slice(&[0; 24]);
        assert!(raft.receive(cluster.nodes[2].me, 1, body.into()).await.is_err());
        cluster.commit(3).await;
        cluster.check();
    });
}

#[test]
fn a_survivor_goes_on_alone_where_it_is_told_to() {
    run(async {
        let mut cluster = Cluster::voting(3).await;
        cluster.commit(10).await;
        cluster.level(&[0, 1, 2]).await;
        for index in 0..3 {
            cluster.stop(index).await;
        }
        let (dir, me) = (cluster.nodes[1].dir.path(), cluster.nodes[1].me);
        let before = Store::open(dir, 2).unwrap();
        assert!(!before.is_alone() && before.membership().is_voter(me));
        let (epoch, image) = (before.epoch(), before.image().clone());
        drop(before);
        let survivor = Survivor::of(dir, None).unwrap().unwrap();
        assert!(survivor.me == me && survivor.offset >= image.version);
        let recovered = go_alone(dir, &survivor, [1; 16]).unwrap();
        assert!(recovered.epoch > epoch && *survivor.cluster == *image.cluster_id);
        let store = Store::open(dir, 2).unwrap();
        assert_eq!(*store.membership(), Membership::of_one(me));
        assert!(store.is_alone() && store.image().next_producer_id > 10);
        drop(store);
        cluster.start(1).await;
        cluster.commit(5).await;
        cluster.check();
    });
}

/// Cuts, delays and restarts in any order, and then none: all know the same.
async fn random_life(seed: u64, size: usize) {
    let mut random = Random(seed);
    let mut cluster = Cluster::voting(size).await;
    let mut down = BTreeSet::new();
    for _ in 0..40 {
        let index = random.below(size);
        match random.below(12) {
            0 if down.len() < size / 2 && !down.contains(&index) => {
                cluster.stop(index).await;
                down.insert(index);
            }
            1 | 2 => {
                for index in std::mem::take(&mut down) {
                    cluster.start(index).await;
                }
            }
            3 => cluster.isolate(index),
            4 => cluster.cut_from(index, (index + 1) % size),
            5 => cluster.links.delay.set(random.below(120) as u64),
            6 | 7 => cluster.heal(),
            8 if random.below(3) == 0 => {
                for index in (0..size).filter(|index| !down.contains(index)).collect::<Vec<_>>() {
                    cluster.stop(index).await;
                    down.insert(index);
                }
            }
            9 => {
                if let Some(raft) = cluster.nodes[index].raft.clone() {
                    drop(raft.core.trigger().snapshot().await);
                }
            }
            _ => {}
        }
        for index in 0..size {
            (0..random.below(4)).for_each(|_| _ = cluster.propose(index));
        }
        tokio::time::sleep(MS(random.below(150) as u64)).await;
        cluster.check();
    }
    cluster.heal();
    for index in down {
        cluster.start(index).await;
    }
    cluster.commit(3).await;
    cluster.level(&(0..size).collect::<Vec<_>>()).await;
    cluster.check();
    let image = |index: usize| cluster.nodes[index].heard.borrow().image.clone().unwrap();
    let whole = |index: usize| image(index).snapshot();
    assert!((1..size).all(|index| whole(index) == whole(0)), "the images are one");
    let leaders = cluster.leaders();
    assert_eq!(leaders.len(), 1, "{leaders:?}");
    println!(
        "seed {seed}: {} nodes, {} proposed, epoch {:?}",
        size,
        cluster.proposed,
        cluster.nodes[leaders[0]].heard.borrow().leads
    );
}

#[test]
fn whatever_happens_what_is_committed_is_the_same_everywhere() {
    for seed in seeds() {
        println!("WEIR_SEED={seed}");
        run(random_life(seed, if seed % 2 == 0 { 5 } else { 3 }));
    }
}

#[test]
fn members_return_from_their_stored_form() {
    let members = |nodes: &[i32]| -> Vec<Member> {
        let member =
            |node: &i32| Member { voter: Voter { node: *node, directory: [1; 16] }, endpoints: vec![] };
        nodes.iter().map(member).collect()
    };
    let voters = |nodes: &[i32]| members(nodes).into_iter().map(|member| member.voter).collect::<Vec<_>>();
    for sets in [vec![], vec![voters(&[1])], vec![voters(&[1]), voters(&[1, 2, 3])]] {
        let membership = Membership { voters: sets, members: members(&[1, 2, 3, 4]) };
        let raft = crate::control::raft::types::of_membership(&membership);
        assert_eq!(crate::control::raft::types::to_membership(&raft), membership);
    }
}
