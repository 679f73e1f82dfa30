//! Beside Raft itself: what hands it proposals, and what follows what it says of itself.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use flume::{Receiver, Sender};
use openraft::ServerState;

use super::leading::{Leadership, Seen};
use super::machine::Told;
use super::store::State;
use super::timers::Timers;
use super::types::{Change, Core, epoch, place};
use crate::metadata::quorum::Voter;

/// Between tries to write a log anew that has grown.
const REWRITE_EVERY: Duration = Duration::from_secs(5);

pub fn is_only_voter(core: &Core, me: Voter) -> bool {
    let metrics = core.metrics();
    let metrics = metrics.borrow();
    metrics.membership_config.membership().voter_ids().eq([me])
}

/// Hands proposals to Raft in their order.
pub async fn submit(core: Core, queue: Receiver<(u64, Change)>, round: Rc<Cell<u64>>) {
    while let Ok((of, change)) = queue.recv_async().await {
        // What becomes of it is told with its commit, or with the loss of leadership.
        if of == round.get() && core.client_write_ff(change).await.is_err() {
            return;
        }
    }
}

/// Raft draws how long a voter waits once in its life: two that stand at the same moment would go on doing so. After each try this
/// one waits for a time of its own.
struct Pause {
    tried: i32,
    until: Option<Instant>,
}

impl Pause {
    fn after(&mut self, core: &Core, stands_in: Option<i32>, most: Duration) {
        if let Some(epoch) = stands_in.filter(|epoch| *epoch != self.tried) {
            self.tried = epoch;
            let wait = (crate::rt::random() % most.as_millis().max(1)) as u64;
            self.until = Some(Instant::now() + Duration::from_millis(wait));
            core.runtime_config().elect(false);
        } else if self.until.is_some_and(|until| until <= Instant::now()) {
            self.until = None;
            core.runtime_config().elect(true);
        }
    }
}

/// Follows what Raft says of itself: who leads, whether it has ended, whether its log is to be written anew.
pub async fn watch(core: Core, state: Rc<RefCell<State>>, timers: Timers, me: Voter, tell: Sender<Told>) {
    let mut metrics = core.metrics();
    let mut ticks = tokio::time::interval(timers.heartbeat / 2);
    let (mut leader, mut said, mut rewritten) = (Leadership::default(), Instant::now(), None::<Instant>);
    let mut pause = Pause { tried: 0, until: None };
    let mut was = (0, ServerState::Learner, None);
    loop {
        tokio::select! {
            changed = metrics.changed() => match changed {
                Ok(()) => said = Instant::now(),
                Err(_) => return,
            },
            _ = ticks.tick() => {}
        }
        let (seen, stands, ended) = {
            let metrics = metrics.borrow_and_update();
            let config = metrics.membership_config.membership();
            let answered =
                metrics.millis_since_quorum_ack.map(|ms| Duration::from_millis(ms) + said.elapsed());
            let seen = Seen {
                me,
                epoch: epoch(metrics.current_term),
                leader: metrics.current_leader,
                leads: metrics.state == ServerState::Leader,
                alone: config.voter_ids().eq([me]),
                applied: place(metrics.last_applied),
                end: metrics.last_log_index.map_or(0, |index| index + 1),
                answered,
            };
            let stands = (metrics.state == ServerState::Candidate).then_some(seen.epoch);
            let is = (seen.epoch, metrics.state, seen.leader);
            if was != is {
                log::debug!(
                    "the quorum in epoch {}: {:?}, led by {:?}, {:?} of {:?}",
                    is.0,
                    is.1,
                    is.2,
                    seen.applied,
                    seen.end
                );
                was = is;
            }
            (seen, stands, metrics.running_state.clone().err())
        };
        pause.after(&core, stands, timers.election.1);
        let now = leader.judge(&seen, timers.election.0);
        if now != leader {
            leader = now;
            if tell.send_async(Told::Leader(now)).await.is_err() {
                return;
            }
        }
        if let Some(why) = ended {
            drop(tell.send_async(Told::Ended(why.to_string())).await);
            return;
        }
        let is_due = rewritten.is_none_or(|at| at.elapsed() > REWRITE_EVERY);
        if is_due && state.borrow().disk.has_grown() {
            rewritten = Some(Instant::now());
            drop(core.trigger().snapshot().await);
        }
    }
}
