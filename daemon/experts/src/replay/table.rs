//! What came out, and what to make of it.

use super::{Choice, Kind};

/// Worse than the best by this share of what is read, and still chosen if it is simpler.
const SIMPLER_MAY_READ: f64 = 0.01;

/// What some steps wanted and got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Steps.
    pub steps: u64,
    /// Tokens in them.
    pub tokens: u64,
    /// Experts that layers wanted, each once a visit.
    pub uses: u64,
    /// Those that had to be read.
    pub misses: u64,
    /// Bytes of their records; 0 where their sizes are not known.
    pub bytes: u64,
}

impl Counts {
    /// Share of the uses that were in the cache; `None` without uses.
    pub fn hit_rate(&self) -> Option<f64> {
        (self.uses > 0).then(|| 1.0 - self.misses as f64 / self.uses as f64)
    }

    /// Records read a token; 0 without tokens.
    pub fn misses_per_token(&self) -> f64 {
        self.misses as f64 / self.tokens.max(1) as f64
    }

    /// Bytes read a token; 0 without tokens.
    pub fn bytes_per_token(&self) -> f64 {
        self.bytes as f64 / self.tokens.max(1) as f64
    }

    pub(super) fn add_step(&mut self, n_tokens: u32) {
        self.steps += 1;
        self.tokens += u64::from(n_tokens);
    }

    pub(super) fn add_visit(&mut self, uses: usize, misses: usize, record_bytes: u64) {
        self.uses += uses as u64;
        self.misses += misses as u64;
        self.bytes = self.bytes.saturating_add(record_bytes.saturating_mul(misses as u64));
    }

    pub(super) fn add(&mut self, more: &Self) {
        self.steps += more.steps;
        self.tokens += more.tokens;
        self.uses += more.uses;
        self.misses += more.misses;
        self.bytes = self.bytes.saturating_add(more.bytes);
    }

    /// What reading cost: bytes, or records where their sizes are not known.
    fn cost(&self) -> f64 {
        (if self.bytes > 0 { self.bytes } else { self.misses }) as f64
    }
}

/// What a cache of one size got, in the steps that count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Steps of up to [`DECODE_TOKENS_MAX`](super::DECODE_TOKENS_MAX) tokens.
    pub decode: Counts,
    /// Steps of more.
    pub prefill: Counts,
}

impl Outcome {
    pub(super) fn of(&mut self, kind: Kind) -> &mut Counts {
        match kind {
            Kind::Decode => &mut self.decode,
            Kind::Prefill => &mut self.prefill,
        }
    }

    /// Decode steps where there are any: what people wait for most.
    fn cost(&self) -> f64 {
        if self.decode.uses > 0 { self.decode.cost() } else { self.prefill.cost() }
    }
}

/// One choice's outcomes.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The choice.
    pub choice: Choice,
    /// Of each size, as in [`Table::sizes`].
    pub outcomes: Vec<Outcome>,
}

/// All choices at all sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Sizes of the cache, in records.
    pub sizes: Vec<usize>,
    /// Records of the model.
    pub n_records: usize,
    /// The choices, the simplest first.
    pub rows: Vec<Row>,
    /// Of each size, what no policy betters.
    pub belady: Vec<Outcome>,
    /// What no cache betters, however large: experts that were never wanted before.
    pub unbounded: Outcome,
}

impl Table {
    /// The row with the fewest bytes read in decode steps (in all steps, if none are) at the size of that index.
    ///
    /// # Panics
    /// There is no such size, or there are no rows.
    pub fn best(&self, size: usize) -> &Row {
        let cost = |row: &&Row| row.outcomes[size].cost();
        self.rows.iter().min_by(|a, b| cost(a).total_cmp(&cost(b))).expect("a row")
    }

    /// The simplest row that reads at most 1 % more than the best at the size of that index: usually what wins by less wins
    /// by chance.
    ///
    /// # Panics
    /// There is no such size, or there are no rows.
    pub fn choose(&self, size: usize) -> &Row {
        let enough = self.best(size).outcomes[size].cost() * (1.0 + SIMPLER_MAY_READ);
        self.rows.iter().find(|row| row.outcomes[size].cost() <= enough).expect("the best one at least")
    }
}
