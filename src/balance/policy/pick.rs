//! Choosing one endpoint of a set.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{draws::Draws, weights::Weights};
use crate::balance::config::{Pick, Way};

/// The most candidates a pick compares, and how many most picks do: room for them is made at every call.
const MOST: usize = 32;
const FEW: usize = 8;

/// Draws beyond this many per candidate wanted give way to a walk: most of the set is barred.
const DRAWS_PER_CANDIDATE: usize = 4;

/// How often a turn or a lone draw is repeated before the set is walked through.
const REPEATS: usize = 8;

/// What a pick has to know of the set.
pub(crate) trait Field {
    /// An endpoint, looked up once.
    type Place: Copy;

    fn len(&self) -> usize;
    fn weights(&self) -> &Weights;
    fn place(&self, index: usize) -> Option<Self::Place>;
    fn seen(&self, place: Self::Place) -> Seen;
    fn in_flight(&self, place: Self::Place) -> u32;
    /// The latency to expect.
    fn cost(&self, place: Self::Place) -> f32;
    /// The factor for recent failures.
    fn penalty(&self, place: Self::Place) -> f32;
    /// Whether this pick shall go there because nobody has for long. True for one caller.
    fn claim_revisit(&self, place: Self::Place, cost: f32) -> bool;
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
    const LOWER: [Self; 3] = [Self::Fresh, Self::Untried, Self::Usable];

    #[inline]
    fn admits(self, seen: Seen, draws: &mut Draws) -> bool {
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
    draws: &mut Draws,
) -> Option<usize> {
    if field.len() == 0 {
        return None;
    }
    choose_from(Tier::Kept, pick, turns, field, draws)
        .or_else(|| choose_lower(pick, turns, field, draws))
}

/// Nobody is in the first tier.
#[cold]
fn choose_lower<F: Field>(
    pick: &Pick,
    turns: &AtomicU64,
    field: &F,
    draws: &mut Draws,
) -> Option<usize> {
    let mut tiers = Tier::LOWER.into_iter();
    tiers.find_map(|tier| choose_from(tier, pick, turns, field, draws))
}

#[inline(always)]
fn choose_from<F: Field>(
    tier: Tier,
    pick: &Pick,
    turns: &AtomicU64,
    field: &F,
    draws: &mut Draws,
) -> Option<usize> {
    match pick.way() {
        Way::RoundRobin => in_turn(turns, field, tier, draws),
        Way::Random => any(field, tier, draws),
        Way::LeastInFlight => least_in_flight(field, tier, draws),
        Way::Choices(d) => least_of(d, field, tier, None, draws),
        Way::Cost(d) => least_of(d, field, tier, Some(pick.times() as f32), draws),
    }
}

/// The best of `d` candidates, or one that nobody has visited for long.
fn least_of<F: Field>(
    d: usize,
    field: &F,
    tier: Tier,
    tolerance: Option<f32>,
    draws: &mut Draws,
) -> Option<usize> {
    let wanted = d.min(field.len());
    if wanted <= FEW {
        Sample::<F, FEW>::of(field, tier, tolerance).least_of(wanted, draws)
    } else {
        Sample::<F, MOST>::of(field, tier, tolerance).least_of(wanted.min(MOST), draws)
    }
}

/// The endpoint at an index, if this tier lets it through.
#[inline(always)]
fn admitted<F: Field>(field: &F, index: usize, tier: Tier, draws: &mut Draws) -> Option<F::Place> {
    let place = field.place(index)?;
    tier.admits(field.seen(place), draws).then_some(place)
}

fn in_turn<F: Field>(turns: &AtomicU64, field: &F, tier: Tier, draws: &mut Draws) -> Option<usize> {
    let mut at = 0;
    // Taking another turn, and not the neighbour: else the neighbour of a barred endpoint would get twice its share.
    for _ in 0..REPEATS {
        at = field
            .weights()
            .turn(field.len(), turns.fetch_add(1, Ordering::Relaxed));
        if admitted(field, at, tier, draws).is_some() {
            return Some(at);
        }
    }
    walk(field.len(), at).find(|index| admitted(field, *index, tier, draws).is_some())
}

fn any<F: Field>(field: &F, tier: Tier, draws: &mut Draws) -> Option<usize> {
    for _ in 0..REPEATS {
        let at = field.weights().draw(field.len(), draws);
        if admitted(field, at, tier, draws).is_some() {
            return Some(at);
        }
    }
    walk(field.len(), draws.below(field.len()))
        .find(|index| admitted(field, *index, tier, draws).is_some())
}

/// All of them, ties by weight.
fn least_in_flight<F: Field>(field: &F, tier: Tier, draws: &mut Draws) -> Option<usize> {
    let (mut best, mut least, mut tied) = (None, f32::INFINITY, 0.0);
    for index in 0..field.len() {
        let Some(place) = admitted(field, index, tier, draws) else {
            continue;
        };
        let weight = field.weights().relative(index);
        let score = field.penalty(place) * crowd(field.in_flight(place), weight);
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

fn crowd(in_flight: u32, weight: f32) -> f32 {
    in_flight as f32 / weight + 1.0
}

/// Up to `N` distinct candidates of a tier in random order.
struct Sample<'a, F, const N: usize> {
    field: &'a F,
    tier: Tier,
    /// By latency, where costs up to so many times the least count as equal.
    tolerance: Option<f32>,
    candidates: [Candidate; N],
    len: usize,
    /// The least cost of them all.
    lowest: f32,
}

#[derive(Clone, Copy, Default)]
struct Candidate {
    index: usize,
    cost: f32,
    crowd: f32,
}

impl<'a, F: Field, const N: usize> Sample<'a, F, N> {
    fn of(field: &'a F, tier: Tier, tolerance: Option<f32>) -> Self {
        Self {
            field,
            tier,
            tolerance,
            candidates: [Candidate::default(); N],
            len: 0,
            lowest: f32::INFINITY,
        }
    }

    fn candidates(&self) -> &[Candidate] {
        &self.candidates[..self.len]
    }

    fn least_of(mut self, wanted: usize, draws: &mut Draws) -> Option<usize> {
        self.fill(wanted, draws).or_else(|| self.least())
    }

    /// Draws candidates; an index if one of them is to be visited whatever the others are like.
    fn fill(&mut self, wanted: usize, draws: &mut Draws) -> Option<usize> {
        let size = self.field.len();
        for _ in 0..wanted * DRAWS_PER_CANDIDATE {
            if self.len == wanted {
                return None;
            }
            let index = self.field.weights().draw(size, draws);
            if self.add(index, draws) {
                return Some(index);
            }
        }
        self.fill_up(wanted, draws)
    }

    /// Most of the set is barred.
    #[cold]
    fn fill_up(&mut self, wanted: usize, draws: &mut Draws) -> Option<usize> {
        let size = self.field.len();
        for index in walk(size, draws.below(size)) {
            if self.len == wanted {
                break;
            }
            if self.add(index, draws) {
                return Some(index);
            }
        }
        None
    }

    /// Adds a candidate unless it is one already or barred; `true` if it is to be visited.
    #[inline(always)]
    fn add(&mut self, index: usize, draws: &mut Draws) -> bool {
        let (field, known) = (self.field, |known: &Candidate| known.index == index);
        if self.candidates().iter().any(known) {
            return false;
        }
        let Some(place) = admitted(field, index, self.tier, draws) else {
            return false;
        };
        let mut cost = 1.0;
        if self.tolerance.is_some() {
            cost = field.cost(place);
            if field.claim_revisit(place, cost) {
                return true;
            }
        }
        cost *= field.penalty(place);
        self.lowest = self.lowest.min(cost);
        self.candidates[self.len] = Candidate {
            index,
            cost,
            crowd: crowd(field.in_flight(place), field.weights().relative(index)),
        };
        self.len += 1;
        false
    }

    /// The first of those with the least `cost x (calls in flight / weight + 1)`.
    ///
    /// Candidates come in an order drawn by weight, so ties end in shares by weight. Dividing the whole by the weight
    /// instead would send every call of a calm client to the heaviest endpoint.
    fn least(&self) -> Option<usize> {
        let alike = self.lowest * self.tolerance.unwrap_or(1.0);
        let (mut best, mut least) = (None, f32::INFINITY);
        for candidate in self.candidates() {
            let cost = if candidate.cost <= alike {
                self.lowest
            } else {
                candidate.cost
            };
            let score = cost * candidate.crowd;
            if score < least || best.is_none() {
                (best, least) = (Some(candidate.index), score);
            }
        }
        best
    }
}

/// All indices below `n`, from `start` on and round.
fn walk(n: usize, start: usize) -> impl Iterator<Item = usize> {
    (start..n).chain(0..start)
}

#[cfg(test)]
mod tests;
