//! Who is to be a member of the quorum, and who is to vote (CLUSTER 1.3): all registered brokers are members, and of them one votes,
//! from three brokers on three, from seven on five. Pure.

use std::collections::BTreeSet;

use super::raft::VoterChange;
use crate::metadata::quorum::{Member, Status, Voter};
use crate::metadata::{Broker, Image};

/// A member that is this near to the log's end may vote.
const NEAR: u64 = 100;

/// How many are to vote among so many brokers.
const fn voters_among(brokers: usize) -> usize {
    match brokers {
        0..3 => 1,
        3..7 => 3,
        _ => 5,
    }
}

fn voter(broker: &Broker) -> Voter {
    Voter { node: broker.id, directory: broker.directory }
}

/// The next change of the members, if one is due: one at a time, each of which makes the next possible.
pub fn next_change(status: &Status, image: &Image) -> Option<VoterChange> {
    let membership = &status.membership;
    if image.brokers().len() == 1 && membership.members.len() == 1 {
        return None;
    }
    for broker in image.brokers() {
        let there = membership.members.iter().find(|member| member.voter == voter(broker));
        if there.is_none_or(|member| member.endpoints != broker.endpoints) {
            return Some(VoterChange::Learner(Member {
                voter: voter(broker),
                endpoints: broker.endpoints.clone(),
            }));
        }
    }
    if let [_, .., newer] = &membership.voters[..] {
        // A change that was begun and not ended.
        return Some(VoterChange::Voters(newer.iter().copied().collect()));
    }
    let now: BTreeSet<Voter> = membership.voters.iter().flatten().copied().collect();
    if let Some(gone) = membership.members.iter().find(|member| {
        !now.contains(&member.voter) && !image.brokers().any(|broker| voter(broker) == member.voter)
    }) {
        return Some(VoterChange::Remove(gone.voter));
    }
    let wanted = voters_among(image.brokers().len());
    let stays = |one: &Voter| *one == status.me || image.brokers().any(|broker| voter(broker) == *one);
    let kept: BTreeSet<Voter> = now.iter().copied().filter(stays).collect();
    if kept.len() == now.len() && now.len() >= wanted {
        return None;
    }
    let near = |one: &Voter| {
        let end = status.members.iter().find(|member| member.voter == *one).and_then(|member| member.end);
        end.is_some_and(|end| end + NEAR >= status.committed)
    };
    let mut next = kept.clone();
    let alive = image.brokers().filter(|broker| !broker.fenced).map(voter);
    let more = wanted.saturating_sub(kept.len());
    next.extend(alive.filter(|one| !now.contains(one) && near(one)).take(more));
    // Who was taken out of the cluster does not vote, be there others for its place or not. With two one of them would do.
    if next.len() == 2 && wanted < 2 {
        next.retain(|one| *one == status.me);
    }
    (next.len() == wanted || kept.len() < now.len()).then_some(VoterChange::Voters(next))
}

/// Who had best lead instead of this node: a voter whose broker lives and goes on, of these the one that has most.
pub fn successor(status: &Status, image: &Image) -> Option<Voter> {
    let goes_on = |one: &Voter| {
        image.brokers().any(|broker| voter(broker) == *one && !broker.fenced && !broker.shutting_down)
    };
    let others = status.members.iter().filter(|member| member.votes && member.voter != status.me);
    others.filter(|member| goes_on(&member.voter)).max_by_key(|member| member.end).map(|member| member.voter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{Registration, register};
    use crate::metadata::quorum::{MemberStatus, Membership};
    use crate::metadata::records::Record;
    use crate::model::BrokerSettings;

    fn image(brokers: i32) -> Image {
        (1..=brokers).fold(Image::empty(), |image, id| {
            let settings = BrokerSettings { broker_id: id, ..BrokerSettings::default() };
            let registration = Registration::of(&settings, 1, [id as u8; 16], [id as u8; 16]);
            image.with(&register(&image, image.version + 1, &registration)).unwrap().0
        })
    }

    fn status(image: &Image, voting: i32, members: i32, end: u64) -> Status {
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
            matches!(next_change(&status(&two, 1, 1, 1000), &two), Some(VoterChange::Learner(m)) if m.voter.node == 2)
        );
        assert!(next_change(&status(&two, 1, 2, 1000), &two).is_none(), "a set of two is the weakest");
        let three = image(3);
        let change = next_change(&status(&three, 1, 3, 1000), &three);
        assert!(matches!(change, Some(VoterChange::Voters(voters)) if voters.len() == 3));
        assert!(next_change(&status(&three, 1, 3, 10), &three).is_none(), "too far behind to vote");
        assert!(next_change(&status(&three, 3, 3, 1000), &three).is_none());
        let seven = image(7);
        let change = next_change(&status(&seven, 3, 7, 1000), &seven);
        assert!(matches!(change, Some(VoterChange::Voters(voters)) if voters.len() == 5));
    }

    #[test]
    fn other_endpoints_are_made_known_and_half_a_change_is_ended() {
        let three = image(3);
        let mut moved = status(&three, 3, 3, 1000);
        moved.membership.members[1].endpoints.clear();
        assert!(matches!(next_change(&moved, &three), Some(VoterChange::Learner(m)) if m.voter.node == 2));
        let mut joint = status(&three, 1, 3, 1000);
        let all: Vec<Voter> = three.brokers().map(voter).collect();
        joint.membership.voters.push(all);
        assert!(
            matches!(next_change(&joint, &three), Some(VoterChange::Voters(voters)) if voters.len() == 3)
        );
    }

    #[test]
    fn who_was_taken_out_does_not_vote_any_more() {
        let (four, three, two) = (image(4), image(3), image(2));
        let voting = |status: &Status, image: &Image| match next_change(status, image) {
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
        assert!(next_change(&status(&two, 1, 2, 1000), &two).is_none());
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
        let change = next_change(&status(&three, 1, 3, 1000), &two);
        assert!(matches!(change, Some(VoterChange::Remove(voter)) if voter.node == 3));
    }
}
