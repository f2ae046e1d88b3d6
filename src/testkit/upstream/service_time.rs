use std::{f64::consts::TAU, time::Duration};

use crate::rng::Random;

/// How long an [`Upstream`](super::Upstream) works on a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServiceTime(Law);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Law {
    Constant(Duration),
    Uniform(Duration, Duration),
    Exponential(Duration),
    Normal(Duration, Duration),
}

impl ServiceTime {
    /// Always the same.
    #[must_use]
    pub const fn constant(time: Duration) -> Self {
        Self(Law::Constant(time))
    }

    /// Evenly from the one to the other.
    #[must_use]
    pub const fn uniform(least: Duration, most: Duration) -> Self {
        Self(Law::Uniform(least, most))
    }

    /// Exponentially distributed: the usual model of a server whose calls differ.
    #[must_use]
    pub const fn exponential(mean: Duration) -> Self {
        Self(Law::Exponential(mean))
    }

    /// Normally distributed; what would be negative is zero.
    #[must_use]
    pub const fn normal(mean: Duration, deviation: Duration) -> Self {
        Self(Law::Normal(mean, deviation))
    }

    /// Draws one.
    #[must_use]
    pub fn draw(self, random: &Random) -> Duration {
        // In (0, 1]: its logarithm is finite.
        let unit = || 1.0 - random.unit();
        match self.0 {
            Law::Constant(time) => time,
            Law::Uniform(least, most) => least + most.saturating_sub(least).mul_f64(random.unit()),
            Law::Exponential(mean) => mean.mul_f64(-unit().ln()),
            Law::Normal(mean, deviation) => {
                let radius = (-2.0 * unit().ln()).sqrt();
                let standard = radius * (TAU * random.unit()).cos();
                let seconds = mean.as_secs_f64() + deviation.as_secs_f64() * standard;
                Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_means_and_deviations_are_those_that_were_asked_for() {
        let milli = Duration::from_millis(1);
        let laws = [
            (ServiceTime::constant(10 * milli), 10.0, 0.0),
            (ServiceTime::uniform(5 * milli, 15 * milli), 10.0, 2.89),
            (ServiceTime::exponential(10 * milli), 10.0, 10.0),
            (ServiceTime::normal(10 * milli, 2 * milli), 10.0, 2.0),
        ];
        for (law, mean, deviation) in laws {
            let random = Random::seeded(1);
            let drawn = (0..20_000).map(|_| law.draw(&random).as_secs_f64() * 1e3);
            let (sum, squares) = drawn.fold((0.0, 0.0), |(sum, squares), time| {
                (sum + time, squares + time * time)
            });
            let found = sum / 2e4;
            let spread = (squares / 2e4 - found * found).max(0.0).sqrt();
            assert!((found - mean).abs() < 0.2, "{law:?}: mean {found}");
            assert!(
                (spread - deviation).abs() < 0.3,
                "{law:?}: deviation {spread}"
            );
        }
    }
}
