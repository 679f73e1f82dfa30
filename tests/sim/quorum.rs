//! The quorum as a model: what Raft promises, and all that it allows. One list of commits; a leader, which others may not
//! know of yet and an earlier one may not believe in; proposals that are lost, or committed and never heard of.

use std::collections::VecDeque;
use std::ops::Range;

use weir::metadata::quorum::Commit;
use weir::metadata::records::Record;

use super::random::Random;

pub struct Quorum {
    /// In order, the first with the offset after `before`.
    pub commits: Vec<Commit>,
    before: u64,
    /// In the leader's log, and not in those of a majority.
    pending: VecDeque<Commit>,
    /// By its place among the nodes, with its epoch.
    pub leader: Option<(usize, i32)>,
    pub epoch: i32,
    /// The first so many nodes vote.
    pub voters: usize,
    /// Since when the leader, if there is one, hears no majority.
    pub unheard: Option<i64>,
    /// The leader's process has ended: a new one does not lead in its epoch.
    pub ended: bool,
}

impl Quorum {
    pub fn new(before: u64, voters: usize) -> Self {
        Self {
            commits: Vec::new(),
            before,
            pending: VecDeque::new(),
            leader: None,
            epoch: 0,
            voters,
            unheard: Some(0),
            ended: false,
        }
    }

    /// Whether so many of the voters are a majority.
    pub fn suffices(&self, voters: usize) -> bool {
        voters * 2 > self.voters
    }

    /// A node proposes what it decided in the epoch that it believes to lead in, as the entry in this place. In another it
    /// has no effect: it was decided on something else than what is before it.
    pub fn propose(&mut self, node: usize, epoch: i32, place: usize, records: Vec<Record>) {
        if self.leader == Some((node, epoch)) {
            let at = self.commits.len() + self.pending.len();
            let records = if at == place { records } else { Vec::new() };
            self.pending.push_back(Commit { offset: self.before + at as u64 + 1, epoch, records });
        }
    }

    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// A majority has what the leader's log has. The places of what that commits.
    pub fn commit(&mut self) -> Range<usize> {
        let from = self.commits.len();
        self.commits.extend(self.pending.drain(..));
        from..self.commits.len()
    }

    /// Another leader: of what the last one proposed some may have reached it. It begins with an entry of its own.
    pub fn elect(&mut self, node: usize, random: &mut Random) {
        let kept = random.below(self.pending.len() + 1);
        self.pending.truncate(kept);
        self.commit();
        self.epoch += 1;
        (self.leader, self.unheard, self.ended) = (Some((node, self.epoch)), None, false);
        let offset = self.before + self.commits.len() as u64 + 1;
        self.commits.push(Commit { offset, epoch: self.epoch, records: Vec::new() });
    }
}
