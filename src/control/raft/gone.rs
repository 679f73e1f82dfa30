//! A leader whose process has ended, as its socket says: another is elected at once. Raft alone would wait for the lease that voters
//! have promised the leader, and for an election's time after.

use std::cell::Cell;
use std::time::Duration;

use super::types::{Core, Vote};
use crate::metadata::quorum::Voter;
use crate::model::BrokerId;

/// Between a voter's tries. Others may learn of the end a moment later, and keep to the lease until then.
const REST: Duration = Duration::from_millis(40);
const TRIES: u32 = 4;
/// Between one voter's first try and the next one's: whose log is too short to be elected leaves it to others.
const TURN: Duration = Duration::from_millis(200);

/// The leader that is gone, in its epoch.
#[derive(Default)]
pub struct Gone(Cell<Option<Vote>>);

impl Gone {
    fn is(&self, vote: &Vote) -> bool {
        self.0.get() == Some(*vote)
    }

    /// A node's process has ended: if it led, this voter stands for election in its turn.
    pub fn note(&self, core: &Core, me: Voter, node: BrokerId) {
        let (vote, turn) = {
            let metrics = core.metrics();
            let metrics = metrics.borrow();
            let of_leader = metrics.vote.leader_id.voted_for.filter(|leader| leader.node == node);
            let Some(leader) = of_leader.filter(|leader| metrics.current_leader == Some(*leader)) else {
                return;
            };
            (metrics.vote, turn(metrics.membership_config.membership().voter_ids(), leader, me))
        };
        if vote.committed && !self.is(&vote) {
            self.0.set(Some(vote));
            if let Some(turn) = turn {
                log::info!("broker {node}, which led the quorum in epoch {}, is gone", vote.leader_id.term);
                tokio::task::spawn_local(stand(core.clone(), vote, TURN * turn));
            }
        }
    }

    /// Before this voter is asked for its vote: it owes nothing to a leader that is gone. Raft frees it from the lease by a vote in a
    /// later epoch, which it gives itself; whoever asks gets it in the epoch after that.
    pub async fn free(&self, core: &Core) {
        let vote = core.metrics().borrow().vote;
        if self.is(&vote) {
            // Ends with Raft only, which whoever asks is told next.
            drop(core.trigger().elect().await);
        }
    }
}

/// How many stand before this voter does; `None` where it does not vote.
fn turn(voters: impl Iterator<Item = Voter>, gone: Voter, me: Voter) -> Option<u32> {
    let mut others: Vec<_> = voters.filter(|voter| *voter != gone).collect();
    others.sort();
    others.iter().position(|voter| *voter == me).and_then(|at| u32::try_from(at).ok())
}

async fn stand(core: Core, gone: Vote, wait: Duration) {
    tokio::time::sleep(wait).await;
    for _ in 0..TRIES {
        let is_led = {
            let metrics = core.metrics();
            let metrics = metrics.borrow();
            metrics.vote.committed && metrics.vote != gone || metrics.running_state.is_err()
        };
        if is_led || core.trigger().elect().await.is_err() {
            return;
        }
        tokio::time::sleep(REST).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voters_stand_in_turns_without_the_one_that_is_gone() {
        let voter = |node: i32| Voter { node, directory: [node as u8; 16] };
        let voters = || [3, 1, 2].map(voter).into_iter();
        assert_eq!([1, 2, 3].map(|me| turn(voters(), voter(2), voter(me))), [Some(0), None, Some(1)]);
        assert_eq!(turn(voters(), voter(1), voter(9)), None, "a learner does not stand");
    }
}
