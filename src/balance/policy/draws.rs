//! Random numbers as a policy takes them: bits from outside, used up by halves.

/// A source of 64-bit draws that hands out 32 bits at a time.
pub(crate) struct Draws<'a> {
    source: &'a mut dyn FnMut() -> u64,
    left: Option<u32>,
}

impl<'a> Draws<'a> {
    pub(crate) fn new(source: &'a mut dyn FnMut() -> u64) -> Self {
        Self { source, left: None }
    }

    /// 32 random bits.
    pub(crate) fn bits(&mut self) -> u32 {
        if let Some(half) = self.left.take() {
            return half;
        }
        let drawn = (self.source)();
        self.left = Some((drawn >> 32) as u32);
        drawn as u32
    }

    /// A number in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        f64::from(self.bits()) / (1u64 << 32) as f64
    }

    /// An index below `n`, which is not 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.bits()) * n as u64) >> 32) as usize
    }
}
