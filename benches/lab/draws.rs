//! Random numbers by name: what is drawn for a call depends on the seed and on the call, never on what a policy did
//! before. So all policies see the same arrivals, the same service times and the same faults.

/// What a number is drawn for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum For {
    Gap,
    Client,
    Work,
    Fault,
    Policy,
}

/// 64 random bits of this name.
pub(crate) fn bits(seed: u64, what: For, one: u64, two: u64) -> u64 {
    let words = [what as u64, one, two];
    words.iter().fold(mix(seed), |state, word| {
        mix(state ^ word.wrapping_mul(0xd6e8_feb8_6659_fd93))
    })
}

/// A number in (0, 1).
pub(crate) fn unit(seed: u64, what: For, one: u64, two: u64) -> f64 {
    unit_of(bits(seed, what, one, two))
}

pub(crate) fn unit_of(bits: u64) -> f64 {
    ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014) after one step of its counter.
pub(crate) fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A sequence, for what has no name of its own.
#[derive(Clone, Debug)]
pub(crate) struct Sequence(u64);

impl Sequence {
    pub(crate) fn new(seed: u64, what: For, of: u64) -> Self {
        Self(bits(seed, what, of, 0))
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0)
    }

    pub(crate) fn unit(&mut self) -> f64 {
        unit_of(self.bits())
    }
}
