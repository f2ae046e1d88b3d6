//! The bad weather: which server is broken how, and when. One seed gives one and the same weather.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// How many servers may be broken at the same time.
const AT_ONCE: u32 = 3;
/// When the first server breaks.
const FIRST: Duration = Duration::from_millis(500);
/// How long a server stays broken.
const LASTS: Duration = Duration::from_secs(2);

/// What can be wrong with a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Charges at once and answers 0.3 to 0.9 s later.
    Slow,
    /// Answers 503 with `Retry-After: 1` and charges nothing.
    Unavailable,
    /// Charges, then resets the connection instead of answering.
    LosesReplies,
    /// Takes the request and never answers; charges nothing.
    Hangs,
    /// The process is gone: open connections are reset, new ones refused.
    Killed,
}

const KINDS: [Fault; 5] = [
    Fault::Slow,
    Fault::Unavailable,
    Fault::LosesReplies,
    Fault::Hangs,
    Fault::Killed,
];

/// One server being broken in one way for a while.
#[derive(Clone, Copy, Debug)]
pub struct Episode {
    pub server: usize,
    pub fault: Fault,
    pub from: Duration,
    pub until: Duration,
}

/// All episodes that fit into `length`, by their start.
pub fn schedule(seed: u64, servers: usize, length: Duration) -> Vec<Episode> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut faults = Deck::new(KINDS);
    let mut free_from = vec![Duration::ZERO; servers];
    let mut next_start: Vec<Duration> = (0..AT_ONCE).map(|lane| FIRST + lane * LASTS / 5).collect();
    let mut episodes = Vec::new();
    loop {
        // Each lane breaks one server after the other: never more broken servers than lanes.
        let Some(lane) = (0..next_start.len()).min_by_key(|&lane| next_start[lane]) else {
            return episodes;
        };
        let (from, until) = (next_start[lane], next_start[lane] + LASTS);
        if until > length {
            return episodes;
        }
        let well: Vec<usize> = (0..servers)
            .filter(|&server| free_from[server] <= from)
            .collect();
        let server = well[rng.random_range(0..well.len())];
        let pause = Duration::from_millis(rng.random_range(20..150));
        episodes.push(Episode {
            server,
            fault: faults.draw(&mut rng),
            from,
            until,
        });
        free_from[server] = until + LASTS / 4;
        next_start[lane] = until + pause;
    }
}

/// Draws every card once before any card comes again.
struct Deck {
    cards: Vec<Fault>,
    left: Vec<Fault>,
}

impl Deck {
    fn new(cards: impl Into<Vec<Fault>>) -> Self {
        Self {
            cards: cards.into(),
            left: Vec::new(),
        }
    }

    fn draw(&mut self, rng: &mut StdRng) -> Fault {
        if self.left.is_empty() {
            self.left.clone_from(&self.cards);
            self.left.shuffle(rng);
        }
        self.left.pop().expect("a deck has cards")
    }
}
