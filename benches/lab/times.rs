//! Distributions of service times, in milliseconds.

use serde::Deserialize;

use crate::draws::Sequence;

/// How long a unit of work takes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Times {
    /// Exponential of this mean.
    Exp(f64),
    /// Normal, cut at 0.
    Normal {
        mean: f64,
        sd: f64,
    },
    /// The sum of `k` exponentials.
    Erlang {
        k: u32,
        mean: f64,
    },
    Uniform(f64, f64),
    Const(f64),
}

impl Times {
    pub(crate) fn draw(self, draws: &mut Sequence) -> f64 {
        match self {
            Self::Exp(mean) => exponential(mean, draws.unit()),
            Self::Normal { mean, sd } => (mean + sd * normal(draws)).max(0.0),
            Self::Erlang { k, mean } => (0..k)
                .map(|_| exponential(mean / f64::from(k), draws.unit()))
                .sum(),
            Self::Uniform(least, most) => least + (most - least) * draws.unit(),
            Self::Const(time) => time,
        }
    }
}

pub(crate) fn exponential(mean: f64, unit: f64) -> f64 {
    -mean * unit.ln()
}

/// Box and Muller.
pub(crate) fn normal(draws: &mut Sequence) -> f64 {
    let (radius, angle) = (draws.unit(), draws.unit());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}
