//! Traces made up by a stated law, for where no recorded one exists.
//!
//! Every layer ranks its experts in an order of its own. A token draws `top_k` different experts, one after another: with
//! probability `recency` one of those that the `window` tokens before it went to (any of their draws, alike), otherwise the
//! expert of rank i with probability ~ (i + 1)^-zipf. Every `topic` tokens the subject changes: a share `churn` of the ranks,
//! chosen anew each time, swap experts among themselves. Prompts of `prompt` tokens, one step each, alternate with answers of
//! `answer` tokens, a step a token.
//!
//! The defaults have R1's shape and statistics of published traces. Set to the shape of the model that they were measured on
//! (one layer, 512 experts, 10 a token), the law gives LRU over 64 records 67 % hits, over 128 81 %, and to the 32 most used
//! experts of one half of the trace 9 % of the uses of the other. Published are 67 %, 81 % and 10 %: llama.cpp #27861, 54,000
//! routing records of Qwen3.8-Flash-Next. Prompts are more of a kind than some that were measured: 300 tokens want 87 % of the
//! experts, of V4.1-Flash 99 % (oaiy, DEEPSEEK_V41.md).

use std::fmt;
use std::str::FromStr;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::trace::{EXPERTS_MAX, Header, LAYERS_MAX, Layer, Trace};

/// Draws that a law may ask for, tokens x layers x top_k: some minutes of work, and memory of half a GB.
pub const DRAWS_MAX: u64 = 1 << 27;

/// The law; its text is what [`FromStr`] reads, and any part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Law {
    /// Layers with routed experts.
    pub layers: u32,
    /// Routed experts of a layer.
    pub experts: u32,
    /// Experts that a token goes to.
    pub top_k: u32,
    /// Tokens generated in all.
    pub tokens: u32,
    /// Tokens of a prompt; 0 for none.
    pub prompt: u32,
    /// Tokens generated after each prompt.
    pub answer: u32,
    /// Exponent of the popularity of ranks; 0 makes all alike.
    pub zipf: f64,
    /// Probability of drawing from the tokens before.
    pub recency: f64,
    /// How many tokens before.
    pub window: u32,
    /// Tokens until the subject changes.
    pub topic: u32,
    /// Share of ranks that change with the subject.
    pub churn: f64,
    /// The same seed gives the same trace.
    pub seed: u64,
}

impl Default for Law {
    /// Shape: DeepSeek-V3, arXiv:2412.19437. Statistics: fitted, see the module. Prompts and answers: of a chat's size.
    fn default() -> Self {
        Self {
            layers: 58,
            experts: 256,
            top_k: 8,
            tokens: 4096,
            prompt: 300,
            answer: 700,
            zipf: 1.0,
            recency: 0.42,
            window: 18,
            topic: 512,
            churn: 0.6,
            seed: 1,
        }
    }
}

impl Law {
    /// The trace, with sizes of records unknown.
    pub fn trace(&self) -> Trace {
        let layers = (0..self.layers).map(|layer| Layer { layer, record_bytes: 0 });
        let header = Header {
            model: "synthetic".to_owned(),
            fingerprint: self.to_string(),
            n_experts: self.experts,
            top_k: self.top_k,
            layers: layers.collect(),
        };
        let mut trace = Trace::new(header).expect("a checked law");
        let mut router = Router::new(self);
        let mut left = self.tokens;
        while left > 0 {
            if self.prompt > 0 {
                router.step(&mut trace, self.prompt);
            }
            let answer = left.min(self.answer);
            (0..answer).for_each(|_| router.step(&mut trace, 1));
            left -= answer;
        }
        trace
    }

    fn check(&self) -> Result<(), String> {
        let within = |name, got, most: u32| {
            let is_fine = (1..=most).contains(&got);
            if is_fine { Ok(()) } else { Err(format!("{name}={got}: 1 to {most} can be")) }
        };
        within("layers", self.layers, LAYERS_MAX)?;
        within("experts", self.experts, EXPERTS_MAX)?;
        within("top-k", self.top_k, self.experts)?;
        within("tokens", self.tokens, u32::MAX)?;
        within("answer", self.answer, u32::MAX)?;
        within("topic", self.topic, u32::MAX)?;
        within("window", self.window, 4096)?;
        for (name, share) in [("recency", self.recency), ("churn", self.churn)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("{name}={share}: 0 to 1 can be"));
            }
        }
        if !(0.0..=16.0).contains(&self.zipf) {
            return Err(format!("zipf={}: 0 to 16 can be", self.zipf));
        }
        let n_prompts = u64::from(self.tokens.div_ceil(self.answer));
        let tokens = u64::from(self.tokens).saturating_add(n_prompts.saturating_mul(self.prompt.into()));
        let draws = tokens.saturating_mul(u64::from(self.layers) * u64::from(self.top_k));
        if draws > DRAWS_MAX {
            return Err(format!("{draws} draws are more than {DRAWS_MAX}: fewer tokens, layers or experts"));
        }
        Ok(())
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layers, experts, top_k, tokens, prompt, answer, .. } = self;
        write!(f, "layers={layers},experts={experts},top-k={top_k},")?;
        write!(f, "tokens={tokens},prompt={prompt},answer={answer},")?;
        let Self { zipf, recency, window, topic, churn, seed, .. } = self;
        write!(f, "zipf={zipf},recency={recency},window={window},topic={topic},churn={churn},seed={seed}")
    }
}

impl FromStr for Law {
    type Err = String;

    /// The default law, with the parts given.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut law = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("{part:?}: want NAME=NUMBER"))?;
            law.set(name, value)?;
        }
        law.check()?;
        Ok(law)
    }
}

impl Law {
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        fn to<T: FromStr>(place: &mut T, text: &str) -> bool {
            text.parse().map(|value| *place = value).is_ok()
        }
        let is_set = match name {
            "layers" => to(&mut self.layers, value),
            "experts" => to(&mut self.experts, value),
            "top-k" => to(&mut self.top_k, value),
            "tokens" => to(&mut self.tokens, value),
            "prompt" => to(&mut self.prompt, value),
            "answer" => to(&mut self.answer, value),
            "zipf" => to(&mut self.zipf, value),
            "recency" => to(&mut self.recency, value),
            "window" => to(&mut self.window, value),
            "topic" => to(&mut self.topic, value),
            "churn" => to(&mut self.churn, value),
            "seed" => to(&mut self.seed, value),
            _ => return Err(format!("{name:?} is no part of the law, which is {}", Self::default())),
        };
        if is_set { Ok(()) } else { Err(format!("{name}={value}: no such number")) }
    }
}

/// What draws by the law.
struct Router<'a> {
    law: &'a Law,
    rng: ChaCha8Rng,
    /// Of each rank, the popularity of all up to it.
    upto: Vec<f64>,
    layers: Vec<LayerState>,
    n_tokens: u64,
}

/// A layer's order, and what its last tokens drew.
struct LayerState {
    ranks: Vec<u16>,
    /// Draws of the last `window` tokens, a ring, in no order that matters.
    recent: Vec<u16>,
    /// Tokens of the step that want each expert.
    wanted: Vec<u32>,
}

impl<'a> Router<'a> {
    fn new(law: &'a Law) -> Self {
        let popularity = (1..=law.experts).map(|rank| f64::from(rank).powf(-law.zipf));
        let upto = popularity.scan(0.0, |sum, p| {
            *sum += p;
            Some(*sum)
        });
        let mut rng = ChaCha8Rng::seed_from_u64(law.seed);
        let layer = |_| {
            let mut ranks: Vec<_> = (0..law.experts as u16).collect();
            shuffle(&mut rng, &mut ranks);
            LayerState { ranks, recent: Vec::new(), wanted: vec![0; law.experts as usize] }
        };
        let layers = (0..law.layers).map(layer).collect();
        Self { law, upto: upto.collect(), layers, n_tokens: 0, rng }
    }

    fn step(&mut self, trace: &mut Trace, n_tokens: u32) {
        for _ in 0..n_tokens {
            if self.n_tokens > 0 && self.n_tokens.is_multiple_of(self.law.topic.into()) {
                self.change_topic();
            }
            self.token();
            self.n_tokens += 1;
        }
        for (place, layer) in self.layers.iter_mut().enumerate() {
            let wants = layer.wanted.iter().enumerate().filter(|(_, tokens)| **tokens > 0);
            trace.visit(place, wants.map(|(e, &tokens)| (e as u32, tokens))).expect("of the model");
            layer.wanted.fill(0);
        }
        trace.end_step(n_tokens);
    }

    fn change_topic(&mut self) {
        for layer in &mut self.layers {
            let moving = (0..layer.ranks.len()).filter(|_| uniform(&mut self.rng) < self.law.churn);
            let moving: Vec<_> = moving.collect();
            let mut experts: Vec<_> = moving.iter().map(|&rank| layer.ranks[rank]).collect();
            shuffle(&mut self.rng, &mut experts);
            moving.iter().zip(experts).for_each(|(&rank, expert)| layer.ranks[rank] = expert);
        }
    }

    fn token(&mut self) {
        let top_k = self.law.top_k as usize;
        let ring = (self.n_tokens % u64::from(self.law.window)) as usize * top_k;
        for layer in &mut self.layers {
            let mut drawn = Vec::with_capacity(top_k);
            while drawn.len() < top_k {
                let expert = layer.draw(&mut self.rng, self.law.recency, &self.upto, &drawn);
                drawn.push(expert);
                layer.wanted[usize::from(expert)] += 1;
            }
            if layer.recent.len() > ring {
                layer.recent[ring..ring + top_k].copy_from_slice(&drawn);
            } else {
                layer.recent.extend(drawn);
            }
        }
    }
}

impl LayerState {
    /// An expert that was not drawn yet.
    fn draw(&self, rng: &mut ChaCha8Rng, recency: f64, upto: &[f64], drawn: &[u16]) -> u16 {
        // Steep laws and short windows leave little to draw from: then the most popular of the rest.
        const TRIES: usize = 64;
        for _ in 0..TRIES {
            let expert = if !self.recent.is_empty() && uniform(rng) < recency {
                self.recent[below(rng, self.recent.len())]
            } else {
                let point = uniform(rng) * upto.last().expect("a rank");
                self.ranks[upto.partition_point(|&sum| sum <= point).min(self.ranks.len() - 1)]
            };
            if !drawn.contains(&expert) {
                return expert;
            }
        }
        *self.ranks.iter().find(|expert| !drawn.contains(expert)).expect("no more are drawn than there are")
    }
}

/// In [0, 1).
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// In 0..n; the bias is below n / 2^32.
fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u64::from(rng.next_u32()) * n as u64) >> 32) as usize
}

/// Fisher-Yates.
fn shuffle(rng: &mut ChaCha8Rng, list: &mut [u16]) {
    for i in (1..list.len()).rev() {
        list.swap(i, below(rng, i + 1));
    }
}
