//! A scripted model: the engine's and the service's tests run on it, in microseconds a token.

use std::time::Duration;

use model::{Chunk, Error, Failure, Forward, Limits, LogitsOf, SeqId, TokenId};

/// Lead of the script's token over all others, in logits.
const LEAD: f32 = 10.0;

/// Continues every prompt by a fixed script: after it comes `script[0]`, then `script[1]`, and so on, again from the
/// start at its end. A prompt ends with the last token of a chunk with [`LogitsOf::Last`].
///
/// Logits are a function of the sequence alone, not of how it was cut into steps: tokens that were fed and truncated
/// leave no trace.
#[derive(Clone, Debug)]
pub struct Scripted {
    limits: Limits,
    script: Vec<TokenId>,
    step_time: Duration,
    fail_after: Option<usize>,
    unreadable: Option<TokenId>,
    noise: f32,
    drafts_right: Option<f32>,
    seed: u64,
    sequences: Vec<Option<Sequence>>,
    reserved: usize,
    n_steps: usize,
}

#[derive(Clone, Debug)]
struct Sequence {
    room: usize,
    /// For every token, a hash of it and of all before.
    past: Vec<u64>,
    /// Where prompts end: positions of their last tokens.
    prompt_ends: Vec<usize>,
}

impl Scripted {
    /// A model of `limits` that says `script`.
    pub fn new(limits: Limits, script: Vec<TokenId>) -> Self {
        assert!(!script.is_empty(), "a script has at least one token");
        let sequences = Vec::new();
        Self {
            limits,
            script,
            step_time: Duration::ZERO,
            fail_after: None,
            unreadable: None,
            noise: 0.0,
            drafts_right: None,
            seed: 0,
            sequences,
            reserved: 0,
            n_steps: 0,
        }
    }

    /// Takes this long for a step.
    pub fn step_time(self, step_time: Duration) -> Self {
        Self { step_time, ..self }
    }

    /// Fails sequences that come to this token, as if what it needs could not be read.
    pub fn unreadable(self, token: TokenId) -> Self {
        Self { unreadable: Some(token), ..self }
    }

    /// Fails the step after `n` good ones.
    pub fn fail_after(self, n: usize) -> Self {
        Self { fail_after: Some(n), ..self }
    }

    /// Adds up to `noise` to every logit, by `seed` and all tokens of the sequence.
    pub fn noise(self, noise: f32, seed: u64) -> Self {
        Self { noise, seed, ..self }
    }

    /// Has a draft layer whose guess is the likeliest token with this probability, else another.
    pub fn drafts_right(self, probability: f32) -> Self {
        Self { drafts_right: Some(probability), ..self }
    }

    fn sequence(&mut self, seq: SeqId) -> &mut Sequence {
        self.sequences[seq.0].as_mut().expect("the engine uses open sequences only")
    }

    /// Logits after the token at `position`, by the hash of the sequence up to there: [n_vocab].
    fn row(&self, past: u64, position: usize, prompt_ends: &[usize]) -> impl Iterator<Item = f32> {
        let prompt_end = prompt_ends.iter().rev().find(|&&end| end <= position).copied().unwrap_or(0);
        let says = self.script[(position - prompt_end) % self.script.len()];
        let (noise, seed) = (self.noise, self.seed);
        (0..self.limits.n_vocab as TokenId).map(move |id| {
            let lead = if id == says { LEAD } else { 0.0 };
            lead + noise * uniform(mix(seed, mix(past, u64::from(id))))
        })
    }

    /// What the draft layer takes for the `n` tokens after `next`.
    fn guesses(&self, seq: SeqId, next: TokenId, n: usize, probability: f32) -> Vec<TokenId> {
        let Sequence { past, prompt_ends, .. } = self.sequences[seq.0].as_ref().expect("an open sequence");
        let mut hash = mix(past.last().copied().unwrap_or(0), u64::from(next));
        let guess = |position| {
            let row: Vec<f32> = self.row(hash, position, prompt_ends).collect();
            let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0);
            let wrong = uniform(mix(self.seed ^ 1, hash)) >= probability;
            let id = ((best + usize::from(wrong)) % row.len()) as TokenId;
            hash = mix(hash, u64::from(id));
            id
        };
        (past.len()..past.len() + n).map(guess).collect()
    }
}

/// A hash of both (the finaliser of SplitMix64, Steele et al. 2014).
fn mix(a: u64, b: u64) -> u64 {
    let mut z = (a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// [0, 1) from a hash.
fn uniform(hash: u64) -> f32 {
    (hash >> 40) as f32 / (1 << 24) as f32
}

impl Forward for Scripted {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn open(&mut self, n_tokens: usize) -> Option<SeqId> {
        if self.reserved + n_tokens > self.limits.kv_tokens {
            return None;
        }
        self.reserved += n_tokens;
        let sequence = Some(Sequence { room: n_tokens, past: Vec::new(), prompt_ends: Vec::new() });
        let free = self.sequences.iter().position(Option::is_none);
        let idx = free.unwrap_or_else(|| {
            self.sequences.push(None);
            self.sequences.len() - 1
        });
        self.sequences[idx] = sequence;
        Some(SeqId(idx))
    }

    fn resize(&mut self, seq: SeqId, n_tokens: usize) -> bool {
        let room = self.sequence(seq).room;
        if self.reserved - room + n_tokens > self.limits.kv_tokens {
            return false;
        }
        self.reserved = self.reserved - room + n_tokens;
        self.sequence(seq).room = n_tokens;
        true
    }

    fn close(&mut self, seq: SeqId) {
        let sequence = self.sequences[seq.0].take().expect("closed once");
        self.reserved -= sequence.room;
    }

    fn len(&self, seq: SeqId) -> usize {
        self.sequences[seq.0].as_ref().map_or(0, |sequence| sequence.past.len())
    }

    fn truncate(&mut self, seq: SeqId, n_tokens: usize) {
        let sequence = self.sequence(seq);
        assert!(n_tokens <= sequence.past.len(), "truncate only shortens");
        sequence.past.truncate(n_tokens);
        sequence.prompt_ends.retain(|&end| end < n_tokens);
    }

    fn step(&mut self, chunks: &[Chunk<'_>], logits: &mut Vec<f32>) -> Result<Vec<Failure>, Error> {
        std::thread::sleep(self.step_time);
        if self.fail_after == Some(self.n_steps) {
            self.n_steps += 1;
            return Err(Error::UnknownToken { id: u32::MAX, n_vocab: self.limits.n_vocab });
        }
        self.n_steps += 1;
        let n_tokens: usize = chunks.iter().map(|chunk| chunk.tokens.len()).sum();
        assert!(n_tokens <= self.limits.step_tokens, "the engine stays within a step's tokens");
        logits.clear();
        for chunk in chunks {
            let sequence = self.sequence(chunk.seq);
            let first = sequence.past.len();
            for &id in chunk.tokens {
                let past = sequence.past.last().copied().unwrap_or(0);
                sequence.past.push(mix(past, u64::from(id)));
            }
            let end = sequence.past.len();
            assert!(end <= sequence.room, "the engine stays within its reservation");
            let wanted = match chunk.logits {
                LogitsOf::None => end..end,
                LogitsOf::Last => end - 1..end,
                LogitsOf::All | LogitsOf::Best => first..end,
            };
            if chunk.logits == LogitsOf::Last {
                sequence.prompt_ends.push(end - 1);
            }
            let Sequence { past, prompt_ends, .. } =
                self.sequences[chunk.seq.0].as_ref().expect("an open sequence");
            for position in wanted {
                logits.extend(self.row(past[position], position, prompt_ends));
            }
        }
        let fails = |chunk: &&Chunk<'_>| self.unreadable.is_some_and(|token| chunk.tokens.contains(&token));
        let failure = |chunk: &Chunk<'_>| {
            let cause = "the simulation says so".to_owned();
            Failure { seq: chunk.seq, error: Error::Unreadable { cause } }
        };
        Ok(chunks.iter().filter(fails).map(failure).collect())
    }

    fn draft(&mut self, next: &[(SeqId, TokenId)], n: usize) -> Result<Vec<Vec<TokenId>>, Error> {
        let Some(probability) = self.drafts_right else { return Ok(vec![Vec::new(); next.len()]) };
        Ok(next.iter().map(|&(seq, id)| self.guesses(seq, id, n, probability)).collect())
    }
}
