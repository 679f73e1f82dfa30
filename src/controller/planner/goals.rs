//! What to do next: for each goal, in their order, the best step or exchange there is.

use super::score::Score;
use super::state::{At, State, Step, What};

/// Candidates looked at for one step.
const MOST: usize = 2_000;

/// The next steps, which go together and make the whole better; `None` where nothing does, or no more may be done at once.
pub fn next(state: &mut State) -> Option<Vec<Step>> {
    if state.steps >= state.limits.in_all {
        return None;
    }
    let repair = dead(state).or_else(|| racks(state));
    if repair.is_some() || state.waits {
        return repair;
    }
    let copies = replicas(state).or_else(|| bytes(state)).or_else(|| spread(state));
    // Leaders last: they are to find everything in place.
    if copies.is_some() || state.copies > 0 {
        return copies;
    }
    leaders(state).or_else(|| rates(state))
}

/// The best of these, if it makes the whole better.
fn best(state: &mut State, candidates: impl IntoIterator<Item = Vec<Step>>) -> Option<Vec<Step>> {
    let ranked = candidates.into_iter().take(MOST).filter_map(|steps| {
        let gain = state.gain(&steps);
        let weight: i128 = steps.iter().map(|step| state.weight(step)).sum();
        let lot = state.lot(steps[0].part);
        (gain < Score::default()).then_some((gain, weight, lot, steps))
    });
    ranked.min_by_key(|(gain, weight, lot, _)| (*gain, *weight, *lot)).map(|(.., steps)| steps)
}

fn copy(part: At, from: At, to: At) -> Step {
    Step { part, what: What::Copy { from, to } }
}

/// Partitions that a broker has and may give to another.
fn gives(state: &State, from: At, to: At) -> Vec<At> {
    let can = |part: &At| {
        let of = &state.parts[*part];
        of.free && of.whole && state.fits(*part, to)
    };
    state.held[from].iter().copied().filter(can).collect()
}

/// Those of which another replica is preferred to lead, and those of which this one is.
fn by_rank(state: &State, from: At, parts: Vec<At>) -> [Vec<At>; 2] {
    let (first, others) = parts.into_iter().partition(|part| state.parts[*part].replicas[0] == from);
    [others, first]
}

/// Pairs of brokers that take replicas, who has most by this measure before who has least.
fn pairs(state: &State, measure: impl Fn(At) -> i128) -> Vec<(At, At)> {
    let mut order = state.takers();
    order.sort_by_key(|at| (measure(*at), *at));
    let mut pairs = Vec::new();
    for from in order.iter().rev() {
        pairs.extend(
            order.iter().map(|to| (*from, *to)).take_while(|(from, to)| measure(*from) > measure(*to)),
        );
    }
    pairs
}

fn dead(state: &mut State) -> Option<Vec<Step>> {
    let dead: Vec<At> = (0..state.brokers.len()).filter(|at| state.brokers[*at].dead).collect();
    let mut stranded: Vec<(At, At)> =
        dead.iter().flat_map(|from| state.held[*from].iter().map(move |part| (*part, *from))).collect();
    stranded.retain(|(part, _)| state.parts[*part].free);
    stranded.sort_by_key(|(part, _)| (state.parts[*part].bytes, state.lot(*part)));
    stranded.into_iter().find_map(|(part, from)| {
        let to =
            state.takers().into_iter().filter(|to| state.fits(part, *to) && state.may_copy(from, *to, 1));
        let candidates: Vec<_> = to.map(|to| vec![copy(part, from, to)]).collect();
        best(state, candidates)
    })
}

fn racks(state: &mut State) -> Option<Vec<Step>> {
    let lacks = |part: &At| {
        let of = &state.parts[*part];
        of.free && of.whole && state.missing_racks(of) > 0
    };
    let mut lacking: Vec<At> = (0..state.parts.len()).filter(lacks).collect();
    lacking.sort_by_key(|part| (state.parts[*part].bytes, state.lot(*part)));
    lacking.into_iter().find_map(|part| {
        let mut candidates = Vec::new();
        for from in state.parts[part].replicas.clone() {
            let to = state.takers().into_iter();
            let can = to.filter(|to| state.fits(part, *to) && state.may_copy(from, *to, 1));
            candidates.extend(can.map(|to| vec![copy(part, from, to)]));
        }
        best(state, candidates)
    })
}

fn replicas(state: &mut State) -> Option<Vec<Step>> {
    if !state.off.replicas {
        return None;
    }
    let fill = |state: &State, at: At| state.brokers[at].replicas * (1 << 20) / state.brokers[at].size;
    let mut pairs = pairs(state, |at| fill(state, at));
    pairs.retain(|(from, to)| state.may_copy(*from, *to, 1));
    pairs.into_iter().find_map(|(from, to)| {
        let given = gives(state, from, to);
        by_rank(state, from, given).into_iter().find_map(|given| {
            best(state, given.into_iter().map(|part| vec![copy(part, from, to)]).collect::<Vec<_>>())
        })
    })
}

fn bytes(state: &mut State) -> Option<Vec<Step>> {
    if !state.off.bytes {
        return None;
    }
    let pairs = pairs(state, |at| state.bytes_off(at));
    pairs.into_iter().find_map(|(from, to)| {
        let gap = (state.bytes_off(from) - state.bytes_off(to)) / 2;
        let mut candidates = Vec::new();
        let taken = if state.may_copy(from, to, 2) { gives(state, to, from) } else { Vec::new() };
        if state.may_copy(from, to, 1) {
            let given = gives(state, from, to);
            let single = given.iter().map(|part| vec![copy(*part, from, to)]);
            candidates.extend(single.take(MOST / 4));
            let both = exchanges(state, (given, taken), gap, |state, part| state.parts[part].bytes);
            candidates.extend(
                both.into_iter().map(|(one, other)| vec![copy(one, from, to), copy(other, to, from)]),
            );
        }
        best(state, candidates)
    })
}

/// Pairs of what is given and what is taken for it, that differ by about as much as is wanted.
fn exchanges(
    state: &State,
    (mut given, mut taken): (Vec<At>, Vec<At>),
    wanted: i128,
    of: impl Fn(&State, At) -> i128,
) -> Vec<(At, At)> {
    taken.sort_by_key(|part| (of(state, *part), state.lot(*part)));
    given.sort_by_key(|part| (of(state, *part), state.lot(*part)));
    let sizes: Vec<i128> = taken.iter().map(|part| of(state, *part)).collect();
    let near = given.iter().flat_map(|one| {
        let at = sizes.partition_point(|size| *size < of(state, *one) - wanted);
        let around = at.saturating_sub(1)..(at + 1).min(taken.len());
        around.map(|at| (*one, taken[at])).collect::<Vec<_>>()
    });
    near.collect()
}

/// Takes replicas of a topic from who has far more of it than another, for ones of other topics.
fn spread(state: &mut State) -> Option<Vec<Step>> {
    state.lumps().into_iter().find_map(|(topic, from, to)| {
        if !state.may_copy(from, to, 2) {
            return None;
        }
        let [mut given, _] = by_rank(state, from, gives(state, from, to));
        given.retain(|part| state.parts[*part].topic == topic);
        let [mut taken, _] = by_rank(state, to, gives(state, to, from));
        taken.retain(|part| {
            let of = state.parts[*part].topic;
            of != topic && state.of_topic(of, to) > state.of_topic(of, from)
        });
        let both = exchanges(state, (given, taken), 0, |state, part| state.parts[part].bytes);
        best(state, both.into_iter().map(|(one, other)| vec![copy(one, from, to), copy(other, to, from)]))
    })
}

/// What has one broker be preferred to lead in another's place, where that is in sync.
fn prefer(state: &State, from: At, to: At) -> Vec<Step> {
    let of = |part: &At| {
        let of = &state.parts[*part];
        let rank = of.replicas.iter().position(|at| *at == to)?;
        let can = of.free && of.replicas[0] == from && of.synced.contains(&to);
        can.then_some(Step { part: *part, what: What::Prefer { from, to, rank } })
    };
    state.held[from].iter().filter_map(of).collect()
}

fn leaders(state: &mut State) -> Option<Vec<Step>> {
    if !state.off.leaders {
        return None;
    }
    let pairs = pairs(state, |at| state.brokers[at].leaders);
    pairs.into_iter().find_map(|(from, to)| {
        let steps = prefer(state, from, to);
        best(state, steps.into_iter().map(|step| vec![step]))
    })
}

fn rates(state: &mut State) -> Option<Vec<Step>> {
    if !state.off.rates {
        return None;
    }
    let pairs = pairs(state, |at| state.rate_off(at));
    pairs.into_iter().find_map(|(from, to)| {
        let gap = (state.rate_off(from) - state.rate_off(to)) / 2;
        let (ours, theirs) = (prefer(state, from, to), prefer(state, to, from));
        let parts = |steps: &[Step]| steps.iter().map(|step| step.part).collect::<Vec<_>>();
        let both =
            exchanges(state, (parts(&ours), parts(&theirs)), gap, |state, part| state.parts[part].rate);
        let step = |steps: &[Step], part: At| steps.iter().find(|step| step.part == part).copied();
        let both: Vec<_> = both
            .into_iter()
            .filter_map(|(one, other)| Some(vec![step(&ours, one)?, step(&theirs, other)?]))
            .chain(ours.iter().map(|step| vec![*step]))
            .collect();
        best(state, both)
    })
}
