//! Who the members are, how far each is, and changes of them: one at a time (Q5), and no proposal meanwhile, so that an offset that was
//! told to a proposer stays its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;

use super::Raft;
use super::types::{epoch, place, to_membership};
use crate::control::quorum::Quorum;
use crate::metadata::quorum::{Member, MemberStatus, Status, Voter};

/// A learner is near enough to the log's end to vote.
const NEAR: u64 = 100;

#[derive(Clone, Debug)]
pub enum VoterChange {
    /// Gets all of the metadata, without a vote; or is reached at other endpoints.
    Learner(Member),
    /// These vote, all of whom are members and nearly current; by one joint change. Others stay as learners.
    Voters(BTreeSet<Voter>),
    /// Is no member any more; it does not vote.
    Remove(Voter),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error("this node does not lead")]
    NotLeading,
    #[error("another change of the members is under way")]
    UnderWay,
    #[error("broker {0} is too far behind to vote")]
    Behind(i32),
    /// It may be half done: a joint set of voters, which the next change completes.
    #[error("{0}")]
    Failed(String),
}

impl Raft {
    pub async fn change_voters(&self, change: VoterChange) -> Result<(), ChangeError> {
        let epoch = self.leads().ok_or(ChangeError::NotLeading)?;
        if let VoterChange::Voters(voters) = &change {
            self.check_near(voters)?;
        }
        if self.changing.replace(true) {
            return Err(ChangeError::UnderWay);
        }
        let done = self.change_alone(epoch, change).await;
        self.changing.set(false);
        self.went_on.notify_waiters();
        done
    }

    async fn change_alone(&self, epoch: i32, change: VoterChange) -> Result<(), ChangeError> {
        self.wait_given(epoch, self.next_offset.get() - 1).await?;
        let leaves = matches!(&change, VoterChange::Voters(voters) if !voters.contains(&self.me));
        let written = match change {
            VoterChange::Learner(Member { voter, endpoints }) => {
                let change = ChangeMembers::SetNodes(BTreeMap::from([(voter, endpoints)]));
                self.core.change_membership(change, true).await
            }
            VoterChange::Voters(voters) => {
                self.core.change_membership(ChangeMembers::ReplaceAllVoters(voters), true).await
            }
            VoterChange::Remove(voter) => {
                let change = ChangeMembers::RemoveNodes(BTreeSet::from([voter]));
                self.core.change_membership(change, true).await
            }
        };
        let written = written.map_err(|e| ChangeError::Failed(e.to_string()))?;
        match self.wait_given(epoch, place(Some(written.log_id)).0).await {
            // A leader that does not vote any more leads on until that is committed.
            Err(ChangeError::NotLeading) if leaves => Ok(()),
            given => given,
        }
    }

    /// Until whoever follows has been given all up to an offset.
    async fn wait_given(&self, epoch: i32, offset: u64) -> Result<(), ChangeError> {
        while self.given.get() < offset {
            let went_on = self.went_on.notified();
            if self.leads() != Some(epoch) {
                return Err(ChangeError::NotLeading);
            }
            went_on.await;
        }
        Ok(())
    }

    fn check_near(&self, voters: &BTreeSet<Voter>) -> Result<(), ChangeError> {
        let end = self.state.borrow().end().0;
        let metrics = self.core.metrics();
        let metrics = metrics.borrow();
        let matched = |voter: &Voter| {
            let id = metrics.replication.as_ref().and_then(|all| all.get(voter).copied().flatten());
            place(id).0
        };
        match voters.iter().find(|voter| **voter != self.me && matched(voter) + NEAR < end) {
            Some(behind) => Err(ChangeError::Behind(behind.node)),
            None => Ok(()),
        }
    }

    /// Has another voter lead. Ends by itself: where that one does not come to lead, this node goes on (hashicorp/raft#696).
    pub async fn hand_over(&self, to: Voter) -> Result<(), ChangeError> {
        let epoch = self.leads().ok_or(ChangeError::NotLeading)?;
        let member = self.status().membership.members.into_iter().find(|member| member.voter == to);
        let member = member.ok_or_else(|| ChangeError::Failed(format!("{to} is no member")))?;
        self.check_near(&BTreeSet::from([to]))?;
        if self.changing.replace(true) {
            return Err(ChangeError::UnderWay);
        }
        let done = self.leave_to(epoch, member).await;
        self.core.runtime_config().heartbeat(true);
        self.changing.set(false);
        self.went_on.notify_waiters();
        done
    }

    async fn leave_to(&self, epoch: i32, member: Member) -> Result<(), ChangeError> {
        self.wait_given(epoch, self.next_offset.get() - 1).await?;
        // Voters refuse another as long as they hear this one, and for a lease after.
        self.core.runtime_config().heartbeat(false);
        let lease = self.timers.election.1 + self.timers.heartbeat;
        tokio::time::sleep(lease).await;
        let to = member.voter;
        (self.elect)(member).await.map_err(|e| ChangeError::Failed(e.to_string()))?;
        let mut metrics = self.core.metrics();
        let elected = metrics.wait_for(|metrics| metrics.current_leader == Some(to));
        match tokio::time::timeout(self.timers.election.1, elected).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(ChangeError::Failed(format!("{to} has not come to lead"))),
        }
    }

    pub(super) fn describe(&self) -> Status {
        let metrics = self.core.metrics();
        let metrics = metrics.borrow();
        let stored = &metrics.membership_config;
        let membership = to_membership(stored.membership());
        let heard = self.heard.borrow();
        let leads = self.leader.get().mine;
        let end = self.state.borrow().end().0;
        let status = |member: &Member| {
            let voter = member.voter;
            let matched = metrics.replication.as_ref().and_then(|all| all.get(&voter).copied().flatten());
            let (end, times) = match voter == self.me {
                true => (Some(end), None),
                false => (leads.then(|| place(matched).0), heard.get(&voter).copied()),
            };
            MemberStatus {
                voter,
                votes: membership.is_voter(voter),
                end,
                heard_ms: times.map(|times| times.heard_ms),
                caught_up_ms: times.and_then(|times| times.caught_up_ms),
            }
        };
        Status {
            me: self.me,
            leader: self.leader.get().who,
            epoch: epoch(metrics.current_term),
            committed: self.given.get(),
            members: membership.members.iter().map(status).collect(),
            membership,
        }
    }

    /// How long a leader that is cut off may take to notice.
    pub fn patience(&self) -> Duration {
        self.timers.election.0
    }
}
