//! What a row has to reach.

use serde::Deserialize;

use crate::{
    metrics::{Metric, Scope},
    upstream::{NEVER, nanos},
};

/// A bound on a metric of one policy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Goal {
    pub(crate) metric: Metric,
    /// One for all client counts, or one for each.
    #[serde(default)]
    pub(crate) max: Vec<f64>,
    #[serde(default)]
    pub(crate) min: Vec<f64>,
    #[serde(default = "ours")]
    pub(crate) policy: String,
    #[serde(default)]
    pub(crate) servers: Vec<u32>,
    #[serde(default)]
    pub(crate) from_s: f64,
    pub(crate) to_s: Option<f64>,
    /// Compares with another run of the same arrivals.
    pub(crate) versus: Option<Versus>,
    /// Only reported: which limit stands in the way.
    pub(crate) because: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Versus {
    pub(crate) policy: Option<String>,
    pub(crate) variant: Option<String>,
    pub(crate) how: How,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    /// How much less than the other.
    Lost,
    /// How many times the other.
    Times,
}

fn ours() -> String {
    "ours".to_owned()
}

impl Goal {
    /// What it looks at.
    pub(crate) fn scope(&self) -> Scope {
        Scope {
            from: nanos(self.from_s),
            to: self.to_s.map_or(NEVER, nanos),
            servers: self.servers.clone(),
        }
    }

    /// The figure of a run, beside the same of the run that it is compared with.
    pub(crate) fn compared(&self, figure: f64, other: Option<f64>) -> Option<f64> {
        match &self.versus {
            None => Some(figure),
            Some(versus) => Some(match versus.how {
                How::Lost => other? - figure,
                How::Times => figure / other?,
            }),
        }
    }

    pub(crate) fn low_is_worst(&self) -> bool {
        !self.min.is_empty() || self.metric == Metric::Success
    }

    /// Which of the scenario's client counts this is.
    fn bound(bounds: &[f64], index: usize) -> Option<f64> {
        bounds
            .get(index)
            .or_else(|| bounds.first().filter(|_| bounds.len() == 1))
            .copied()
    }

    /// `None` where no bound is set.
    pub(crate) fn is_met(&self, figure: f64, clients: usize) -> Option<bool> {
        let (min, max) = (
            Self::bound(&self.min, clients),
            Self::bound(&self.max, clients),
        );
        if min.is_none() && max.is_none() {
            return None;
        }
        // Bounds are of figures as they are shown.
        let slack = 1e-9;
        Some(
            max.is_none_or(|max| figure <= max + slack)
                && min.is_none_or(|min| figure >= min - slack),
        )
    }

    pub(crate) fn bounds(&self, clients: usize) -> String {
        let bound = |sign: &str, bounds| {
            Self::bound(bounds, clients).map(|bound| format!("{sign} {bound}"))
        };
        let both = [bound(">=", &self.min), bound("<=", &self.max)];
        both.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn name(&self) -> String {
        let name = format!("{:?}", self.metric).to_lowercase();
        let servers: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        let mut words = vec![name];
        if !servers.is_empty() {
            words.push(format!("of {}", servers.join(",")));
        }
        if self.from_s > 0.0 || self.to_s.is_some() {
            let to = self.to_s.map_or_else(String::new, |to| to.to_string());
            words.push(format!("{}..{to} s", self.from_s));
        }
        if let Some(versus) = &self.versus {
            let what = [&versus.policy, &versus.variant]
                .into_iter()
                .flatten()
                .cloned();
            let how = if versus.how == How::Lost {
                "below"
            } else {
                "times"
            };
            words.push(format!("{how} {}", what.collect::<Vec<_>>().join(" ")));
        }
        words.join(" ")
    }
}
