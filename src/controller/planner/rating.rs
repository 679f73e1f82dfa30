//! How good a [`State`] is, and what about it is not good enough.

use std::collections::BTreeMap;
#[cfg(test)]
use std::ops::Add;

use super::score::{Off, Score};
use super::state::{At, Part, State, Step};

/// For quotients.
const SCALE: i128 = 1 << 20;
/// What a broker may be off its share before anything is done about it: a part of that, in percent.
const SLACK_PERCENT: i128 = 5;

impl State {
    /// By how much steps change the score: less than nothing where they are for the better.
    pub fn gain(&mut self, steps: &[Step]) -> Score {
        let mut gain = Score::default();
        for step in steps {
            gain = gain - self.rating(step);
            self.change(step);
            gain = gain + self.rating(step);
        }
        for step in steps.iter().rev() {
            self.change(&step.back());
        }
        gain
    }

    /// The part of the score that a step has a part in.
    fn rating(&self, step: &Step) -> Score {
        let (from, to) = step.ends();
        let part = &self.parts[step.part];
        let mut score = self.rating_of(from) + self.rating_of(to);
        score.racks = self.missing_racks(part);
        for at in [from, to].into_iter().filter(|at| self.brokers[*at].takes) {
            let held = self.of_topic[part.topic].get(&at).copied().unwrap_or(0);
            score.spread += held * held;
        }
        score
    }

    fn rating_of(&self, at: At) -> Score {
        let broker = &self.brokers[at];
        if !broker.takes {
            return Score { dead: if broker.dead { broker.replicas } else { 0 }, ..Score::default() };
        }
        let squared = |off: i128, slack: i128| {
            // In units small enough to be squared.
            let excess = (off.abs() - slack).max(0) / 1024;
            excess * excess
        };
        Score {
            replicas: broker.replicas * broker.replicas * SCALE / broker.size,
            bytes: squared(self.bytes_off(at), self.bytes_slack(at) / 2),
            leaders: broker.leaders * broker.leaders,
            rates: squared(self.rate_off(at), self.rate_slack() / 2),
            ..Score::default()
        }
    }

    /// All of it, from nothing.
    #[cfg(test)]
    pub fn score(&self) -> Score {
        let brokers = (0..self.brokers.len()).map(|at| self.rating_of(at));
        let mut score = brokers.fold(Score::default(), Score::add);
        score.racks = self.parts.iter().map(|part| self.missing_racks(part)).sum();
        let takers = |(at, held): (&At, &i128)| self.brokers[*at].takes.then_some(held * held);
        score.spread = self.of_topic.iter().flat_map(|of| of.iter().filter_map(takers)).sum();
        score
    }

    /// Racks that a partition could be in besides those that it is in.
    pub fn missing_racks(&self, part: &Part) -> i128 {
        let mut racks: Vec<usize> = part.replicas.iter().map(|at| self.brokers[*at].rack).collect();
        racks.sort_unstable();
        racks.dedup();
        let most = self.racks.min(part.replicas.len());
        most.saturating_sub(racks.len()) as i128
    }

    pub fn bytes_off(&self, at: At) -> i128 {
        self.brokers[at].bytes - self.all.bytes * self.brokers[at].size / self.all.size
    }

    fn bytes_slack(&self, at: At) -> i128 {
        let share = self.all.bytes * self.brokers[at].size / self.all.size;
        (share * SLACK_PERCENT / 100).max(i128::from(self.limits.bytes_slack))
    }

    pub fn rate_off(&self, at: At) -> i128 {
        self.brokers[at].rate - self.all.rate / self.all.takers
    }

    fn rate_slack(&self) -> i128 {
        (self.all.rate / self.all.takers * SLACK_PERCENT / 100).max(i128::from(self.limits.rate_slack))
    }

    /// Those that take replicas.
    pub fn takers(&self) -> Vec<At> {
        (0..self.brokers.len()).filter(|at| self.brokers[*at].takes).collect()
    }

    /// `begun`: what was begun is gone on with as long as it makes anything better.
    pub fn is_off(&self, begun: bool) -> Off {
        let takers = self.takers();
        let (all, any) = (&self.all, |is: &dyn Fn(&At) -> bool| takers.iter().any(is));
        let replicas = |at: &At| {
            let share = all.replicas * self.brokers[*at].size;
            let off = (self.brokers[*at].replicas * all.size - share).abs();
            off > all.size.max(share * SLACK_PERCENT / 100)
        };
        let leaders = |at: &At| {
            let off = (self.brokers[*at].leaders * all.takers - all.leaders).abs();
            off > all.takers.max(all.leaders * SLACK_PERCENT / 100)
        };
        Off {
            replicas: begun || any(&replicas),
            bytes: begun || any(&|at| self.bytes_off(*at).abs() > self.bytes_slack(*at)),
            leaders: any(&leaders),
            rates: any(&|at| self.rate_off(*at).abs() > self.rate_slack()),
        }
    }

    /// A topic of which one broker has far more than another, and those two.
    pub fn lumps(&self) -> Vec<(usize, At, At)> {
        let takers = self.takers();
        let lump = |(topic, of): (usize, &BTreeMap<At, i128>)| {
            let held = |at: &At| of.get(at).copied().unwrap_or(0);
            let most = *takers.iter().max_by_key(|at| held(at))?;
            let least = *takers.iter().min_by_key(|at| held(at))?;
            let off = held(&most) - held(&least);
            (off >= 3 && off * 4 > held(&most)).then_some((topic, most, least))
        };
        self.of_topic.iter().enumerate().filter_map(lump).collect()
    }

    pub fn of_topic(&self, topic: usize, at: At) -> i128 {
        self.of_topic[topic].get(&at).copied().unwrap_or(0)
    }
}
