//! Voters that an operator chooses (AddRaftVoter, RemoveRaftVoter, `weir cluster voters`): one change at a time, of members that have
//! all there is (Q5), by a voter's node and directory (Q1). From the first on the controller chooses none by itself, until it is
//! told to.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::Control;
use super::quorum::Quorum;
use super::raft::{ChangeError, VoterChange};
use super::voters::{View, voting};
use crate::controller::{ControlError, ControlErrorKind as Kind, ControlReply, ControlRequest};
use crate::metadata::quorum::{Voter, VoterWish};
use crate::rt;
use crate::rt::mesh::To;
use crate::shard::message;

/// How long to wait before the next try.
const REST: Duration = Duration::from_millis(20);
/// The longest that a change is waited for.
const LONGEST: Duration = Duration::from_secs(300);

/// How long somebody else may take to lead.
const HAND_OVER: Duration = Duration::from_secs(10);

/// What comes of a wish.
#[derive(Debug, PartialEq, Eq)]
enum Wished {
    Voters(BTreeSet<Voter>),
    /// Something has to come to its end first.
    NotYet(String),
    Auto,
}

type Outcome = Result<Wished, ControlError>;

fn refuse(kind: Kind, why: impl Into<String>) -> Outcome {
    Err(ControlError::new(kind, why))
}

fn listed(voters: &BTreeSet<Voter>) -> String {
    voters.iter().map(|voter| voter.node.to_string()).collect::<Vec<_>>().join(", ")
}

/// Who is to vote after a wish, as the leader sees the quorum now.
fn wished(view: View<'_>, wish: VoterWish) -> Outcome {
    let View { status, image, .. } = view;
    let now = voting(status);
    if wish == VoterWish::Auto {
        return Ok(Wished::Auto);
    }
    if status.membership.voters.len() > 1 {
        return Ok(Wished::NotYet("another change of the voters is under way".into()));
    }
    let mut next = now.clone();
    match wish {
        VoterWish::Add(voter) => {
            let id = voter.node;
            if now.iter().any(|one| one.node == id) {
                let why = format!("broker {id} votes already: the voters are {}", listed(&now));
                return refuse(Kind::DuplicateVoter, why);
            }
            match image.broker(id) {
                None => {
                    let why = format!("there is no broker {id}: start it with --join, voters are brokers");
                    return refuse(Kind::InvalidRequest, why);
                }
                Some(broker) if broker.directory != voter.directory => {
                    let why = format!("broker {id} has another directory than the one that was named");
                    return refuse(Kind::InvalidVoterKey, why);
                }
                Some(broker) if broker.fenced => {
                    return Ok(Wished::NotYet(format!("broker {id} does not serve")));
                }
                Some(_) if !view.is_near(&voter) => {
                    return Ok(Wished::NotYet(format!("broker {id} has not caught up with the metadata")));
                }
                Some(_) => next.insert(voter),
            };
        }
        VoterWish::Remove(voter) if !next.remove(&voter) => {
            let why = match now.iter().find(|one| one.node == voter.node) {
                Some(_) => format!("broker {} votes with another directory", voter.node),
                None => format!("broker {} is none of the voters, {}", voter.node, listed(&now)),
            };
            return refuse(Kind::VoterNotFound, why);
        }
        VoterWish::Remove(_) | VoterWish::Auto => {}
    }
    if next.is_empty() {
        return refuse(Kind::InvalidRequest, "the last voter stays: add another one first");
    }
    if !view.can_decide(&next) {
        let why = format!("of the voters {} most do not serve: nothing could be decided", listed(&next));
        return refuse(Kind::InvalidRequest, why);
    }
    Ok(Wished::Voters(next))
}

/// Only one at a time has the voters changed, for as long as that takes.
struct Choosing(Rc<Cell<bool>>);

impl Choosing {
    fn begin(choosing: &Rc<Cell<bool>>) -> Option<Self> {
        (!choosing.replace(true)).then(|| Self(choosing.clone()))
    }
}

impl Drop for Choosing {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

fn late(why: impl Into<String>) -> ControlError {
    ControlError::new(Kind::TimedOut, why)
}

impl Control {
    pub(super) fn change_voters(
        self: &Rc<Self>,
        asked: message::ChangeVoters,
        to: To<message::ChangeVoters>,
    ) {
        let message::ChangeVoters(wish, limit) = asked;
        let control = self.clone();
        tokio::task::spawn_local(async move {
            let until = Instant::now() + limit.min(LONGEST);
            let done = control.clone().have_voters(wish, until).await;
            control.port.reply(to, done);
        });
    }

    async fn have_voters(self: Rc<Self>, wish: VoterWish, until: Instant) -> Result<(), ControlError> {
        let Some(choosing) = Choosing::begin(&self.choosing) else {
            return Err(late("another change of the voters is under way"));
        };
        let next = loop {
            if self.quorum.leads().is_none() {
                return Err(self.not_controller());
            }
            let (status, image) = (self.quorum.status(), self.image());
            match wished(View { status: &status, image: &image, now_ms: rt::unix_ms() }, wish)? {
                Wished::Auto => return self.choose_by_hand(false).await,
                Wished::Voters(next) => break next,
                Wished::NotYet(why) if Instant::now() >= until => return Err(late(why)),
                Wished::NotYet(_) => sleep(REST).await,
            }
        };
        // Before the change, which would be undone otherwise.
        self.choose_by_hand(true).await?;
        let done = tokio::task::spawn_local(self.clone().change_to(next, choosing));
        match timeout_at(until, done).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => Err(ControlError::new(Kind::Unavailable, error.to_string())),
            Err(_) => Err(late("the change was begun and is not committed yet")),
        }
    }

    async fn choose_by_hand(&self, is: bool) -> Result<(), ControlError> {
        match self.ask_here(ControlRequest::VotersByHand { is }).await {
            ControlReply::VotersByHand => Ok(()),
            ControlReply::Failed(error) => Err(error),
            other => Err(ControlError::new(Kind::Unavailable, format!("{other:?}"))),
        }
    }

    async fn change_to(
        self: Rc<Self>,
        next: BTreeSet<Voter>,
        choosing: Choosing,
    ) -> Result<(), ControlError> {
        loop {
            match self.quorum.change(VoterChange::Voters(next.clone())).await {
                Ok(()) => {
                    log::info!("an operator has {} vote on the metadata", listed(&next));
                    if !next.contains(&self.quorum.status().me) {
                        // It would lead on for ever, without a vote.
                        tokio::task::spawn_local(async move {
                            self.hand_over(HAND_OVER).await;
                            drop(choosing);
                        });
                    }
                    return Ok(());
                }
                // Of a broker that has just come.
                Err(ChangeError::UnderWay | ChangeError::Behind(_)) => sleep(REST).await,
                Err(ChangeError::NotLeading) => return Err(self.not_controller()),
                Err(ChangeError::Failed(why)) => return Err(ControlError::new(Kind::Unavailable, why)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::voters::tests::{NOW, changed, fenced, image, status};
    use super::super::voters::voter;
    use super::*;
    use crate::metadata::Image;
    use crate::metadata::quorum::Status;
    use crate::metadata::records::Record;

    fn ask(status: &Status, image: &Image, wish: VoterWish) -> Outcome {
        wished(View { status, image, now_ms: NOW }, wish)
    }

    fn kind(outcome: Outcome) -> Kind {
        outcome.unwrap_err().kind
    }

    fn nodes(outcome: Outcome) -> Vec<i32> {
        match outcome {
            Ok(Wished::Voters(voters)) => voters.iter().map(|voter| voter.node).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_wish_is_granted_or_refused_as_kafka_names_it() {
        let four = image(4);
        let of = |id: i32| voter(four.broker(id).unwrap());
        let another = |id: i32| Voter { node: id, directory: [99; 16] };
        let ask = |wish| ask(&status(&four, 3, 4, 1000), &four, wish);
        assert_eq!(nodes(ask(VoterWish::Add(of(4)))), [1, 2, 3, 4]);
        assert_eq!(nodes(ask(VoterWish::Remove(of(2)))), [1, 3]);
        assert_eq!(nodes(ask(VoterWish::Remove(of(1)))), [2, 3], "the leader, too");
        assert_eq!(ask(VoterWish::Auto), Ok(Wished::Auto));
        for (wish, refused) in [
            (VoterWish::Add(of(2)), Kind::DuplicateVoter),
            (VoterWish::Add(another(2)), Kind::DuplicateVoter),
            (VoterWish::Add(another(4)), Kind::InvalidVoterKey),
            (VoterWish::Add(another(9)), Kind::InvalidRequest),
            (VoterWish::Remove(of(4)), Kind::VoterNotFound),
            (VoterWish::Remove(another(2)), Kind::VoterNotFound),
            (VoterWish::Remove(another(9)), Kind::VoterNotFound),
        ] {
            assert_eq!(kind(ask(wish)), refused, "{wish:?}");
        }
    }

    #[test]
    fn what_has_to_come_first_is_waited_for() {
        let four = image(4);
        let of = |id: i32| voter(four.broker(id).unwrap());
        let waits = |status: &Status, image: &Image, wish| {
            assert!(matches!(ask(status, image, wish), Ok(Wished::NotYet(_))), "{wish:?}");
        };
        waits(&status(&four, 3, 4, 10), &four, VoterWish::Add(of(4)));
        waits(&status(&four, 3, 3, 1000), &four, VoterWish::Add(of(4)));
        waits(&status(&four, 3, 4, 1000), &fenced(&four, 4), VoterWish::Add(of(4)));
        let mut joint = status(&four, 3, 4, 1000);
        joint.membership.voters.push(vec![of(1)]);
        waits(&joint, &four, VoterWish::Remove(of(2)));
    }

    #[test]
    fn what_would_be_the_end_of_all_decisions_is_refused() {
        let three = image(3);
        let of = |id: i32| voter(three.broker(id).unwrap());
        assert_eq!(
            kind(ask(&status(&three, 1, 3, 1000), &three, VoterWish::Remove(of(1)))),
            Kind::InvalidRequest
        );
        let dead = fenced(&three, 3);
        let of_dead = |wish| ask(&status(&dead, 3, 3, 1000), &dead, wish);
        assert_eq!(kind(of_dead(VoterWish::Remove(of(2)))), Kind::InvalidRequest, "of 1 and 3 one is dead");
        assert_eq!(nodes(of_dead(VoterWish::Remove(of(3)))), [1, 2]);
        let (chosen, wish) =
            (changed(&three, &[Record::VotersByHand { is: true }]), VoterWish::Remove(of(3)));
        assert_eq!(nodes(ask(&status(&chosen, 3, 3, 1000), &chosen, wish)), [1, 2]);
    }
}
