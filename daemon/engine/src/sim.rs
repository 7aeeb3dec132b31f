//! A scripted model: the engine's and the service's tests run on it, in microseconds a token.

use std::time::Duration;

use model::{Chunk, Error, Forward, Limits, LogitsOf, SeqId, TokenId};

/// Continues every sequence by a fixed script: after a prompt comes `script[0]`, then `script[1]`, and so on, again
/// from the start at its end. A sequence that is truncated begins the script anew.
#[derive(Clone, Debug)]
pub struct Scripted {
    limits: Limits,
    script: Vec<TokenId>,
    step_time: Duration,
    fail_after: Option<usize>,
    sequences: Vec<Option<Sequence>>,
    reserved: usize,
    n_steps: usize,
}

#[derive(Clone, Debug)]
struct Sequence {
    len: usize,
    room: usize,
    n_answered: usize,
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
            sequences,
            reserved: 0,
            n_steps: 0,
        }
    }

    /// Takes this long for a step.
    pub fn step_time(self, step_time: Duration) -> Self {
        Self { step_time, ..self }
    }

    /// Fails the step after `n` good ones.
    pub fn fail_after(self, n: usize) -> Self {
        Self { fail_after: Some(n), ..self }
    }

    fn sequence(&mut self, seq: SeqId) -> &mut Sequence {
        self.sequences[seq.0].as_mut().expect("the engine uses open sequences only")
    }
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
        let sequence = Some(Sequence { len: 0, room: n_tokens, n_answered: 0 });
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
        self.sequences[seq.0].as_ref().map_or(0, |sequence| sequence.len)
    }

    fn truncate(&mut self, seq: SeqId, n_tokens: usize) {
        let sequence = self.sequence(seq);
        assert!(n_tokens <= sequence.len, "truncate only shortens");
        (sequence.len, sequence.n_answered) = (n_tokens, 0);
    }

    fn step(&mut self, chunks: &[Chunk<'_>], logits: &mut Vec<f32>) -> Result<(), Error> {
        std::thread::sleep(self.step_time);
        if self.fail_after == Some(self.n_steps) {
            self.n_steps += 1;
            return Err(Error::UnknownToken { id: u32::MAX, n_vocab: self.limits.n_vocab });
        }
        self.n_steps += 1;
        logits.clear();
        let n_vocab = self.limits.n_vocab;
        for chunk in chunks {
            let script = self.script.clone();
            let sequence = self.sequence(chunk.seq);
            sequence.len += chunk.tokens.len();
            assert!(sequence.len <= sequence.room, "the engine stays within its reservation");
            let n_rows = match chunk.logits {
                LogitsOf::None => 0,
                LogitsOf::Last => 1,
                LogitsOf::All => chunk.tokens.len(),
            };
            for _ in 0..n_rows {
                let next = script[sequence.n_answered % script.len()] as usize;
                sequence.n_answered += 1;
                logits.extend((0..n_vocab).map(|id| if id == next { 10.0 } else { 0.0 }));
            }
        }
        Ok(())
    }
}
