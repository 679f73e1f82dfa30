//! Whether this node may act as the leader, by what Raft says of itself. Pure.

use std::time::Duration;

use crate::metadata::quorum::Voter;

/// Who leads, as far as this node knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    pub epoch: i32,
    pub who: Option<Voter>,
    pub mine: bool,
}

/// What Raft last said of itself.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub me: Voter,
    pub epoch: i32,
    pub leader: Option<Voter>,
    /// This node was elected and has not heard of another.
    pub leads: bool,
    /// It is the only voter.
    pub alone: bool,
    /// Offset and epoch of what is applied, and the offset at which the log ends.
    pub applied: (u64, i32),
    pub end: u64,
    /// How long ago a majority answered at the latest.
    pub answered: Option<Duration>,
}

impl Leadership {
    /// A leader begins once all that was committed before is applied, and ends when it has not heard a majority for `patience` (Q6):
    /// another may have been elected.
    pub fn judge(&self, seen: &Seen, patience: Duration) -> Self {
        let heard = seen.alone || seen.answered.is_some_and(|answered| answered < patience);
        let goes_on = self.mine && self.epoch == seen.epoch;
        let is_current = seen.applied == (seen.end, seen.epoch);
        let mine = seen.leads && heard && (goes_on || is_current);
        let who = match seen.leads {
            true => mine.then_some(seen.me),
            false => seen.leader.filter(|leader| *leader != seen.me),
        };
        Self { epoch: seen.epoch, who, mine }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Voter = Voter { node: 1, directory: [1; 16] };
    const OTHER: Voter = Voter { node: 2, directory: [2; 16] };
    const PATIENCE: Duration = Duration::from_millis(400);

    fn leading() -> Seen {
        let answered = Some(Duration::from_millis(10));
        Seen {
            me: ME,
            epoch: 3,
            leader: Some(ME),
            leads: true,
            alone: false,
            applied: (7, 3),
            end: 7,
            answered,
        }
    }

    #[test]
    fn a_leader_acts_once_it_is_current_and_while_a_majority_answers() {
        let none = Leadership::default();
        let mine = Leadership { epoch: 3, who: Some(ME), mine: true };
        assert_eq!(none.judge(&leading(), PATIENCE), mine);
        let quiet = Leadership { epoch: 3, who: None, mine: false };
        for seen in [
            Seen { applied: (6, 2), ..leading() },
            Seen { applied: (6, 3), ..leading() },
            Seen { answered: None, ..leading() },
            Seen { answered: Some(PATIENCE), ..leading() },
        ] {
            assert_eq!(none.judge(&seen, PATIENCE), quiet, "{seen:?}");
        }
        // What it proposes is not applied yet: that does not end it, and a silence does.
        assert_eq!(mine.judge(&Seen { applied: (6, 3), ..leading() }, PATIENCE), mine);
        assert_eq!(mine.judge(&Seen { answered: Some(PATIENCE), ..leading() }, PATIENCE), quiet);
        assert!(none.judge(&Seen { alone: true, answered: None, ..leading() }, PATIENCE).mine);
    }

    #[test]
    fn another_epoch_begins_anew() {
        let mine = Leadership { epoch: 3, who: Some(ME), mine: true };
        let elected = Seen { epoch: 5, applied: (6, 3), ..leading() };
        assert!(!mine.judge(&elected, PATIENCE).mine, "its first entry is not applied");
        let follower = Seen { leads: false, leader: Some(OTHER), epoch: 4, ..leading() };
        let other = Leadership { epoch: 4, who: Some(OTHER), mine: false };
        assert_eq!(mine.judge(&follower, PATIENCE), other);
    }
}
