//! Who is to be a member of the quorum, and who is to vote (CLUSTER 1.3): all registered brokers are members, and of them one votes,
//! from three brokers on three, from seven on five, unless an operator chose them. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::raft::VoterChange;
use crate::metadata::quorum::{Member, MemberStatus, Status, Voter};
use crate::metadata::{Broker, Image};
use crate::model::MonoMs;

/// A member that is this near to the log's end may vote.
const NEAR: u64 = 100;
/// A member that has not answered for so long is not counted on.
const SILENT_MS: i64 = 2_000;

/// How many are to vote among so many brokers; `most` where that was set.
fn voters_among(brokers: usize, most: Option<usize>) -> usize {
    let fit = |most: usize| [5, 3, 1].into_iter().find(|count| *count <= most.min(brokers)).unwrap_or(1);
    match (brokers, most) {
        (_, Some(most)) => fit(most),
        (0..7, None) => fit(3),
        _ => 5,
    }
}

pub(super) fn voter(broker: &Broker) -> Voter {
    Voter { node: broker.id, directory: broker.directory }
}

/// The voters of the newest set.
pub(super) fn voting(status: &Status) -> BTreeSet<Voter> {
    status.membership.voters.last().into_iter().flatten().copied().collect()
}

/// A quorum as its leader sees it, on the metadata, at a time of the wall clock.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub status: &'a Status,
    pub image: &'a Image,
    pub now_ms: i64,
}

impl<'a> View<'a> {
    pub fn broker(&self, one: &Voter) -> Option<&'a Broker> {
        self.image.broker(one.node).filter(|broker| broker.directory == one.directory)
    }

    fn member(&self, one: &Voter) -> Option<&'a MemberStatus> {
        self.status.members.iter().find(|member| member.voter == *one)
    }

    fn lives(&self, one: &Voter) -> bool {
        let heard = self.member(one).and_then(|member| member.heard_ms);
        let answers = heard.is_none_or(|heard| self.now_ms - heard < SILENT_MS);
        *one == self.status.me || answers && self.broker(one).is_some_and(|broker| !broker.fenced)
    }

    /// Whether it has nearly all that there is.
    pub fn is_near(&self, one: &Voter) -> bool {
        let end = self.member(one).and_then(|member| member.end);
        end.is_some_and(|end| end + NEAR >= self.status.committed)
    }

    /// Whether a majority of these lives: with fewer nothing could be decided from then on.
    pub fn can_decide(&self, voters: &BTreeSet<Voter>) -> bool {
        voters.iter().filter(|one| self.lives(one)).count() > voters.len() / 2
    }

    /// Who had best vote beside these: of a rack that none of them is in.
    fn best(&self, next: &BTreeSet<Voter>, now: &BTreeSet<Voter>) -> Option<Voter> {
        let may = |broker: &&Broker| {
            let one = voter(broker);
            let is_new = !next.contains(&one) && !now.contains(&one);
            is_new && self.lives(&one) && !broker.shutting_down && !broker.draining && self.is_near(&one)
        };
        let of_rack = |rack: &Option<String>| {
            let racks = next.iter().filter_map(|one| self.broker(one)).map(|broker| &broker.rack);
            racks.filter(|other| rack.is_some() && *other == rack).count()
        };
        let all = self.image.brokers().filter(may);
        all.min_by_key(|broker| (of_rack(&broker.rack), broker.id)).map(voter)
    }
}

/// The next change of the members, if one is due: one at a time, each of which makes the next possible. `most` is how many vote at
/// most, where that was set; `gone` are voters that have been for so long that others take their places.
pub fn next_change(view: View<'_>, most: Option<usize>, gone: &BTreeSet<Voter>) -> Option<VoterChange> {
    let View { status, image, .. } = view;
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
    let now = voting(status);
    if membership.voters.len() > 1 {
        // A change that was begun and not ended.
        return Some(VoterChange::Voters(now));
    }
    let is_over = |member: &&Member| !now.contains(&member.voter) && view.broker(&member.voter).is_none();
    if let Some(over) = membership.members.iter().find(is_over) {
        return Some(VoterChange::Remove(over.voter));
    }
    let next = choose(&view, &now, most, gone);
    (next != now && view.can_decide(&next)).then_some(VoterChange::Voters(next))
}

fn choose(
    view: &View<'_>,
    now: &BTreeSet<Voter>,
    most: Option<usize>,
    gone: &BTreeSet<Voter>,
) -> BTreeSet<Voter> {
    let me = view.status.me;
    // Who was taken out of the cluster does not vote, be there others for its place or not.
    let stays = |one: &Voter| *one == me || view.broker(one).is_some();
    let mut next: BTreeSet<Voter> = now.iter().copied().filter(stays).collect();
    if view.image.voters_by_hand {
        return next;
    }
    let wanted = voters_among(view.image.brokers().len(), most);
    let more = fill(view, &next, now, wanted);
    next.extend(more);
    // One joint change gives the place of one to another: a set of four in between would stand less, not more.
    for lost in gone.iter().filter(|lost| **lost != me) {
        if next.contains(lost)
            && let Some(other) = view.best(&next, now)
        {
            next.remove(lost);
            next.insert(other);
        }
    }
    // An even set stands no more losses than one that has one less.
    let too_many = next.len() > wanted && (next.len().is_multiple_of(2) || most.is_some());
    while too_many && next.len() > wanted {
        let worst = next.iter().copied().filter(|one| *one != me);
        match worst.max_by_key(|one| (!view.lives(one), Reverse(view.is_near(one)), one.node)) {
            Some(worst) => drop(next.remove(&worst)),
            None => break,
        }
    }
    next
}

/// Who comes to vote besides: as many as are wanted, or as make their number odd.
fn fill(view: &View<'_>, kept: &BTreeSet<Voter>, now: &BTreeSet<Voter>, wanted: usize) -> Vec<Voter> {
    let (mut next, mut more) = (kept.clone(), Vec::new());
    while next.len() < wanted
        && let Some(one) = view.best(&next, now)
    {
        next.insert(one);
        more.push(one);
    }
    if next.len().is_multiple_of(2) {
        more.pop();
    }
    more
}

/// Voters that are gone, and since when.
#[derive(Default)]
pub struct Gone(BTreeMap<Voter, MonoMs>);

impl Gone {
    /// Those that have been gone for so long. To be called again and again.
    pub fn look(&mut self, view: &View<'_>, now: MonoMs, ms: i64) -> BTreeSet<Voter> {
        let dead: BTreeSet<Voter> = voting(view.status).into_iter().filter(|one| !view.lives(one)).collect();
        self.0.retain(|one, _| dead.contains(one));
        for one in dead {
            self.0.entry(one).or_insert(now);
        }
        self.0.iter().filter(|(_, since)| now.since(**since) >= ms).map(|(one, _)| *one).collect()
    }
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
#[path = "voters_tests.rs"]
pub mod tests;
