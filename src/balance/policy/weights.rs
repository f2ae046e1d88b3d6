//! Shares of the endpoints of one set.

use super::draws::Draws;

/// Relative weights, by index in the set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Weights {
    Equal,
    /// Sums of the weights up to and with each index.
    Sums(Box<[f64]>),
}

/// Neighbouring multiples of the golden ratio are spread as evenly as can be, whatever their number.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

impl Weights {
    /// The shares of endpoints of these weights, none of which is 0.
    pub(crate) fn of(weights: impl Iterator<Item = u32> + Clone) -> Self {
        let mut rest = weights.clone();
        let first = rest.next();
        if rest.all(|weight| Some(weight) == first) {
            return Self::Equal;
        }
        let sums = weights.scan(0.0, |sum, weight| {
            *sum += f64::from(weight);
            Some(*sum)
        });
        Self::Sums(sums.collect())
    }

    /// An index below `n`, by chance.
    pub(crate) fn draw(&self, n: usize, draws: &mut Draws) -> usize {
        match self {
            Self::Equal => draws.below(n),
            Self::Sums(sums) => locate(sums, draws.unit()),
        }
    }

    /// An index below `n`, by turn: every run of turns comes near the shares.
    pub(crate) fn turn(&self, n: usize, turn: u64) -> usize {
        match self {
            Self::Equal => (turn % n as u64) as usize,
            // 2^32 turns keep the fraction exact to 1e-6.
            Self::Sums(sums) => locate(sums, ((turn & 0xffff_ffff) as f64 * GOLDEN).fract()),
        }
    }

    /// The weight at `index`, where the mean of all is 1.
    pub(crate) fn relative(&self, index: usize) -> f32 {
        match self {
            Self::Equal => 1.0,
            Self::Sums(sums) => {
                let before = index.checked_sub(1).map_or(0.0, |before| sums[before]);
                ((sums[index] - before) * sums.len() as f64 / total(sums)) as f32
            }
        }
    }
}

fn locate(sums: &[f64], unit: f64) -> usize {
    let at = unit * total(sums);
    sums.partition_point(|sum| *sum <= at).min(sums.len() - 1)
}

fn total(sums: &[f64]) -> f64 {
    sums.last().copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(weights: &[u32]) -> Weights {
        Weights::of(weights.iter().copied())
    }

    #[test]
    fn equal_weights_need_no_table() {
        assert_eq!(weights(&[7, 7, 7]), Weights::Equal);
        assert_eq!(weights(&[u32::MAX, u32::MAX]), Weights::Equal);
        assert_eq!(weights(&[]), Weights::Equal);
    }

    #[test]
    fn turns_follow_the_weights_at_any_length() {
        let weights = weights(&[1, 2, 5]);
        let mut count = [0usize; 3];
        for turn in 0..800 {
            count[weights.turn(3, turn)] += 1;
            let due = |share: f64| share * (turn + 1) as f64 / 8.0;
            assert!(
                (count[2] as f64 - due(5.0)).abs() < 4.0,
                "after {turn}: {count:?}"
            );
        }
        assert!(
            count[0].abs_diff(100) <= 3 && count[1].abs_diff(200) <= 3,
            "{count:?}"
        );
    }

    #[test]
    fn the_largest_and_the_smallest_weight_go_together() {
        let weights = weights(&[1, u32::MAX]);
        assert!(weights.relative(0) > 0.0 && weights.relative(1) <= 2.0);
        assert_eq!(weights.turn(2, 1), 1);
    }
}
