//! What the quorum does by itself: its leader is heard, entries are committed, another leader is elected.

use weir::controller::{ControlError, ControlErrorKind};
use weir::metadata::records::Record as Change;
use weir::model::MonoMs;

use super::world::{Event, World};

/// A leader that no majority hears is one no more after this, for the others and for itself.
const ELECTION_MS: i64 = 400;
const STEP_DOWN_MS: i64 = 700;

impl World {
    fn is_well(&self, node: usize) -> bool {
        self.nodes[node].up && self.nodes[node].paused_until.is_none()
    }

    fn leads_well(&self, leader: usize) -> bool {
        !self.quorum.ended && self.is_well(leader) && self.quorum.suffices(self.heard_by(leader))
    }

    /// How many voters a node hears, and they it, itself among them.
    fn heard_by(&self, node: usize) -> usize {
        let hears = |other: &usize| self.is_well(*other) && self.net.reach_each_other(node, *other);
        (0..self.quorum.voters).filter(hears).count()
    }

    pub fn quorum_propose(&mut self, node: usize, epoch: i32, records: Vec<Change>) {
        let idle = !self.quorum.has_pending();
        let place = self.nodes[node].heard + self.nodes[node].proposed;
        self.nodes[node].proposed += 1;
        self.quorum.propose(node, epoch, place, records);
        if idle && self.quorum.has_pending() {
            let wait = self.random.within(1..=6);
            self.after(wait, Event::QuorumCommit(epoch));
        }
    }

    pub fn quorum_commit(&mut self, epoch: i32) {
        let Some((leader, _)) = self.quorum.leader.filter(|(_, now)| *now == epoch) else { return };
        if !self.quorum.has_pending() {
            return;
        }
        if !self.leads_well(leader) {
            return self.after(20, Event::QuorumCommit(epoch));
        }
        let committed = self.quorum.commit();
        self.note_commits(committed);
        self.tell_commits(leader);
    }

    fn tell_commits(&mut self, leader: usize) {
        let upto = self.quorum.commits.len();
        for node in 0..self.nodes.len() {
            if self.nodes[node].up && self.net.reach_each_other(leader, node) && self.nodes[node].heard < upto
            {
                let lag = if node == leader { 0 } else { self.random.within(0..=5) };
                let life = self.nodes[node].life;
                self.after(lag, Event::Learn { node, life, upto });
            }
        }
    }

    pub fn quorum_beat(&mut self) {
        let Some((leader, epoch)) = self.quorum.leader else { return self.elect() };
        if self.leads_well(leader) {
            self.quorum.unheard = None;
            let deposed = !self.calm && self.random.one_in(self.swarm.depose);
            if deposed {
                return self.elect();
            }
            self.tell_commits(leader);
            for node in 0..self.nodes.len() {
                if self.is_well(node) && self.net.reach_each_other(leader, node) {
                    self.nodes[node].hint = Some(leader);
                    if node != leader {
                        self.depose(node);
                    }
                }
            }
            let node = &self.nodes[leader];
            if node.leads != Some(epoch) && node.heard == self.quorum.commits.len() {
                self.depose(leader);
                let node = &mut self.nodes[leader];
                let now = MonoMs(self.now);
                node.controller.lead(epoch, now);
                (node.leads, node.proposed) = (Some(epoch), 0);
            }
            return;
        }
        let since = *self.quorum.unheard.get_or_insert(self.now);
        if self.now - since >= STEP_DOWN_MS && self.is_well(leader) {
            self.depose(leader);
        }
        let patience = ELECTION_MS + self.random.within(0..=300);
        if self.now - since >= patience {
            self.elect();
        }
    }

    fn elect(&mut self) {
        let able = |node: &usize| self.is_well(*node) && self.quorum.suffices(self.heard_by(*node));
        let able: Vec<usize> = (0..self.quorum.voters).filter(able).collect();
        let Some(node) = self.random.pick(&able) else { return };
        let from = self.quorum.commits.len();
        self.quorum.elect(node, &mut self.random);
        let upto = self.quorum.commits.len();
        self.note_commits(from..upto);
        self.history.elections += 1;
        let life = self.nodes[node].life;
        self.after(0, Event::Learn { node, life, upto });
    }

    /// A node learns that it leads no more, if it did.
    fn depose(&mut self, node: usize) {
        if self.nodes[node].leads.take().is_some() {
            let why = ControlError::new(ControlErrorKind::NotController, "another broker is the controller");
            let answers = self.nodes[node].controller.on_lost(&why);
            self.answer(node, answers);
        }
    }

    pub fn quorum_node_died(&mut self, node: usize) {
        self.quorum.ended |= self.quorum.leader.is_some_and(|(leader, _)| leader == node);
        if self.nodes[node].leads.take().is_some() {
            let why = ControlError::new(ControlErrorKind::NotController, "the process ended");
            drop(self.nodes[node].controller.on_lost(&why));
        }
    }

    /// A node hears of commits.
    pub fn learn(&mut self, node: usize, upto: usize) {
        let from = self.nodes[node].heard;
        if upto <= from {
            return;
        }
        let commits = self.quorum.commits[from..upto].to_vec();
        // Another's epoch: what it proposed itself is over.
        if let Some(epoch) = self.nodes[node].leads
            && commits.iter().any(|commit| commit.epoch > epoch)
        {
            self.depose(node);
        }
        self.nodes[node].heard = upto;
        self.nodes[node].proposed = self.nodes[node].proposed.saturating_sub(upto - from);
        let settled = self.nodes[node].controller.on_committed(&commits);
        self.settle(node, settled);
    }
}
