//! Choosing one endpoint of a set.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{draws::Draws, weights::Weights};
use crate::balance::config::{Pick, Way};

/// The most candidates a pick compares.
const MOST: usize = 32;

/// Draws beyond this many per candidate wanted give way to a walk: most of the set is barred.
const DRAWS_PER_CANDIDATE: usize = 4;

/// How often a turn or a lone draw is repeated before the set is walked through.
const REPEATS: usize = 8;

/// What a pick has to know of the set.
pub(crate) trait Field {
    fn len(&self) -> usize;
    fn weights(&self) -> &Weights;
    fn seen(&self, index: usize) -> Seen;
    fn in_flight(&self, index: usize) -> u32;
    /// The latency to expect.
    fn cost(&self, index: usize) -> f32;
    /// The factor for recent failures.
    fn penalty(&self, index: usize) -> f32;
    /// Whether this pick shall go there because nobody has for long. True for one caller.
    fn claim_revisit(&self, index: usize, cost: f32) -> bool;
}

/// What bars a candidate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Neither ejected nor full, nor where the call may not go.
    pub(crate) usable: bool,
    pub(crate) tried: Tried,
    /// The probability with which slow start keeps it.
    pub(crate) kept: f64,
}

/// What of the endpoint this call has tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    Nothing,
    Zone,
    Endpoint,
}

/// How much is let through: the next tier is looked at only if a tier has nobody.
#[derive(Clone, Copy, Debug)]
enum Tier {
    /// Untried in an untried zone, kept by slow start.
    Kept,
    /// Untried in an untried zone.
    Fresh,
    Untried,
    Usable,
}

impl Tier {
    const ALL: [Self; 4] = [Self::Kept, Self::Fresh, Self::Untried, Self::Usable];

    fn admits(self, seen: Seen, draws: &mut Draws<'_>) -> bool {
        seen.usable
            && match self {
                Self::Kept => {
                    seen.tried == Tried::Nothing && (seen.kept >= 1.0 || draws.unit() < seen.kept)
                }
                Self::Fresh => seen.tried == Tried::Nothing,
                Self::Untried => seen.tried != Tried::Endpoint,
                Self::Usable => true,
            }
    }
}

/// The index of the endpoint for one attempt; `None` if not one is usable.
pub(crate) fn choose<F: Field>(
    pick: &Pick,
    turns: &AtomicU64,
    field: &F,
    draws: &mut Draws<'_>,
) -> Option<usize> {
    if field.len() == 0 {
        return None;
    }
    Tier::ALL.into_iter().find_map(|tier| match pick.way() {
        Way::RoundRobin => in_turn(turns, field, tier, draws),
        Way::Random => any(field, tier, draws),
        Way::LeastInFlight => least_in_flight(field, tier, draws),
        Way::Choices(d) => {
            let sample = sample(field, d, tier, draws);
            least(field, sample.as_slice(), [1.0; MOST], 1.0)
        }
        Way::Cost(d) => least_cost(
            field,
            sample(field, d, tier, draws).as_slice(),
            pick.times() as f32,
        ),
    })
}

fn in_turn<F: Field>(
    turns: &AtomicU64,
    field: &F,
    tier: Tier,
    draws: &mut Draws<'_>,
) -> Option<usize> {
    let mut at = 0;
    // Taking another turn, and not the neighbour: else the neighbour of a barred endpoint would get twice its share.
    for _ in 0..REPEATS {
        at = field
            .weights()
            .turn(field.len(), turns.fetch_add(1, Ordering::Relaxed));
        if tier.admits(field.seen(at), draws) {
            return Some(at);
        }
    }
    walk(field.len(), at).find(|index| tier.admits(field.seen(*index), draws))
}

fn any<F: Field>(field: &F, tier: Tier, draws: &mut Draws<'_>) -> Option<usize> {
    for _ in 0..REPEATS {
        let at = field.weights().draw(field.len(), draws);
        if tier.admits(field.seen(at), draws) {
            return Some(at);
        }
    }
    walk(field.len(), draws.below(field.len())).find(|index| tier.admits(field.seen(*index), draws))
}

/// All of them, ties by weight.
fn least_in_flight<F: Field>(field: &F, tier: Tier, draws: &mut Draws<'_>) -> Option<usize> {
    let (mut best, mut least, mut tied) = (None, f32::INFINITY, 0.0);
    for index in 0..field.len() {
        if !tier.admits(field.seen(index), draws) {
            continue;
        }
        let (score, weight) = (
            field.penalty(index) * crowd(field, index),
            field.weights().relative(index),
        );
        if score < least {
            (best, least, tied) = (Some(index), score, weight);
        } else if score == least {
            tied += weight;
            if (draws.unit() as f32) * tied < weight {
                best = Some(index);
            }
        }
    }
    best
}

fn least_cost<F: Field>(field: &F, candidates: &[usize], tolerance: f32) -> Option<usize> {
    let mut costs = [0.0; MOST];
    for (slot, index) in costs.iter_mut().zip(candidates) {
        *slot = field.cost(*index);
        if field.claim_revisit(*index, *slot) {
            return Some(*index);
        }
    }
    least(field, candidates, costs, tolerance)
}

/// The first of those with the least `cost x (calls in flight / weight + 1)`.
///
/// Candidates come in an order drawn by weight, so ties end in shares by weight. Dividing the whole by the weight
/// instead would send every call of a calm client to the heaviest endpoint.
fn least<F: Field>(
    field: &F,
    candidates: &[usize],
    mut costs: [f32; MOST],
    tolerance: f32,
) -> Option<usize> {
    let mut lowest = f32::INFINITY;
    for (cost, index) in costs.iter_mut().zip(candidates) {
        *cost *= field.penalty(*index);
        lowest = lowest.min(*cost);
    }
    let (mut best, mut least) = (None, f32::INFINITY);
    for (cost, index) in costs.iter().zip(candidates) {
        let cost = if *cost <= lowest * tolerance {
            lowest
        } else {
            *cost
        };
        let score = cost * crowd(field, *index);
        if score < least || best.is_none() {
            (best, least) = (Some(*index), score);
        }
    }
    best
}

fn crowd<F: Field>(field: &F, index: usize) -> f32 {
    field.in_flight(index) as f32 / field.weights().relative(index) + 1.0
}

/// Up to `d` distinct candidates of a tier in random order.
struct Sample {
    indices: [usize; MOST],
    len: usize,
}

impl Sample {
    fn as_slice(&self) -> &[usize] {
        &self.indices[..self.len]
    }

    fn add(&mut self, index: usize) {
        self.indices[self.len] = index;
        self.len += 1;
    }
}

fn sample<F: Field>(field: &F, d: usize, tier: Tier, draws: &mut Draws<'_>) -> Sample {
    let mut sample = Sample {
        indices: [0; MOST],
        len: 0,
    };
    let wanted = d.min(field.len()).min(MOST);
    for _ in 0..wanted * DRAWS_PER_CANDIDATE {
        if sample.len == wanted {
            return sample;
        }
        let index = field.weights().draw(field.len(), draws);
        if !sample.as_slice().contains(&index) && tier.admits(field.seen(index), draws) {
            sample.add(index);
        }
    }
    for index in walk(field.len(), draws.below(field.len())) {
        if sample.len == wanted {
            break;
        }
        if !sample.as_slice().contains(&index) && tier.admits(field.seen(index), draws) {
            sample.add(index);
        }
    }
    sample
}

/// All indices below `n`, from `start` on and round.
fn walk(n: usize, start: usize) -> impl Iterator<Item = usize> {
    (start..n).chain(0..start)
}

#[cfg(test)]
mod tests;
