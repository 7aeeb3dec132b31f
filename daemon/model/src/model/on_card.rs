//! A model whose layers a graphics card computes, as long as there is one.

use std::collections::BTreeMap;

use kernels::{Choice, Fit, Precision};
use shaders::KvType;
use weights::Weights;

use super::{Body, Model, failures};
use crate::batch::Batch;
use crate::card::{self, Asked, Card, CardOptions};
use crate::forward::{Chunk, Failure, Forward, Limits, LogitsOf, Notice};
use crate::kv::{KvCache, KvShape};
use crate::pass::Pass;
use crate::{Error, TokenId};

/// Tokens that card and processor compute in turn before the card serves.
const CHECK_TOKENS: TokenId = 12;
/// Cosine of their logits, at least: 8-bit activations against f32 come to 0.999, a wrong sum to anything.
const LIKENESS_MIN: f64 = 0.98;

impl Model {
    /// Moves the layers to a graphics card; `progress` is told of bytes done, of all. The processor stays ready to go on
    /// where the card is lost, and computes the experts that don't lie there.
    ///
    /// # Errors
    /// The card has too little memory, or the model has parts that do not run there.
    ///
    /// # Panics
    /// A sequence is open: a programmer's error.
    pub fn move_to_card(
        &mut self,
        device: gpu::Device,
        options: CardOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Error> {
        assert_eq!(self.kv.reserved(), 0, "before the first sequence");
        let kv = match self.cpu.precision() {
            Precision::F32 => KvType::F32,
            Precision::Fast => KvType::F16,
        };
        let Limits { kv_tokens, context, step_tokens, .. } = self.limits;
        let (plan, shape) =
            card::fitting(&self.weights, &device, (kv, kv_tokens, context, step_tokens), &options)?;
        self.card = Some(Card::load(device, (plan, shape), &self.weights, progress)?);
        self.limits.step_tokens = shape.step_tokens;
        if shape.kv_tokens < kv_tokens {
            let layers = KvShape::of(self.weights.hyper(), usize::from(self.draft.is_some()));
            self.kv = KvCache::new(self.cpu.precision(), layers, shape.kv_tokens);
            self.limits.kv_tokens = self.kv.capacity();
            self.limits.context = context.min(self.kv.capacity());
        }
        self.compare_with_processor()?;
        self.decide_on_prompts(options.prompt_experts)?;
        if let Some(card) = self.card.as_ref().filter(|card| card.device().shares_memory) {
            // One copy is enough: the processor reads from the file what it may want again.
            card.names().iter().for_each(|name| self.weights.let_go(name));
        }
        Ok(())
    }

    /// Lets card and processor compute the same few tokens: a driver that computes wrongly is found before anybody reads what
    /// it makes. Not where experts are read from a drive, which would take long.
    fn compare_with_processor(&mut self) -> Result<(), Error> {
        if self.weights.is_resident() {
            return Ok(());
        }
        let n_vocab = self.limits.n_vocab as TokenId;
        let tokens: Vec<TokenId> = (0..CHECK_TOKENS).map(|i| (i * 7919 + 17) % n_vocab).collect();
        let on_card = self.last_logits(&tokens)?;
        let Some(card) = self.card.take() else {
            let reason = self.without_card.take().map_or_else(String::new, |notice| notice.reason);
            return Err(gpu::Error::Lost { reason }.into());
        };
        let on_processor = self.last_logits(&tokens)?;
        let likeness = cosine(&on_card, &on_processor);
        if likeness < LIKENESS_MIN {
            let name = card.device().name.clone();
            return Err(Error::CardWrong { card: name, likeness });
        }
        self.card = Some(card);
        Ok(())
    }

    /// Logits behind some tokens, of a sequence of their own.
    fn last_logits(&mut self, tokens: &[TokenId]) -> Result<Vec<f32>, Error> {
        let mut logits = Vec::new();
        let Some(seq) = self.open(tokens.len()) else { return Ok(logits) };
        let chunk = Chunk { seq, tokens, logits: LogitsOf::Last };
        let stepped = self.step(&[chunk], &mut logits);
        self.close(seq);
        stepped.map(|_| logits)
    }

    /// Notes why no card computes, for who asks [`notice`](Forward::notice).
    pub fn stay_without_card(&mut self, reason: String) {
        self.without_card = Some(Notice { card_lost: false, reason });
    }

    /// Measures every stage on the card from here on; false where none computes, or it can't.
    pub fn start_profile(&mut self) -> bool {
        self.card.as_mut().is_some_and(Card::start_profile)
    }

    /// Times of each kind of stage on the card since the start.
    pub fn take_profile(&mut self) -> BTreeMap<String, gpu::StageTime> {
        self.card.as_mut().map_or_else(BTreeMap::new, Card::take_profile)
    }

    /// Takes the card away after so many steps, as a reset would: for tests.
    pub fn lose_card_after(&mut self, steps: usize) {
        self.card.iter_mut().for_each(|card| card.lose_after(steps));
    }

    /// Layers that a card computes, the first ones.
    pub fn layers_on_card(&self) -> usize {
        let all = self.weights.hyper().n_layers;
        self.card.as_ref().map_or(0, |card| card.part().unwrap_or(all))
    }

    /// The weights, for their names and shapes.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The card that computes.
    pub fn card(&self) -> Option<&gpu::Device> {
        self.card.as_ref().map(Card::device)
    }

    /// Runs a step on the card; `None` where there is none, or it has been lost.
    pub(super) fn step_on_card(
        &mut self,
        chunks: &[Chunk<'_>],
        logits: &mut Vec<f32>,
    ) -> Option<Vec<Failure>> {
        self.card.as_ref()?;
        let batch = Batch::of_chunks(&self.kv, chunks);
        let Self { weights, ends, body, rope, kv, cpu, card, hidden, skip_share, .. } = self;
        let card = card.as_mut()?;
        if card.part().is_some() {
            hidden.fit(batch.len() * weights.hyper().d_model);
            cpu.embed(hidden, &ends.embedding.matrix(weights), &batch.ids);
        }
        let lost = skip_share.map_or_else(Vec::new, |_| vec![0.0; batch.len()]);
        let mut pass = Pass { skip_share: *skip_share, lost, ..Pass::new(weights, cpu, kv, rope, &batch) };
        if let Body::DeepSeek(deepseek) = body {
            deepseek.begin_step(batch.len(), weights.hyper().moe.map_or(0, |moe| moe.top_k));
        }
        let mut routed = |layer: usize, choices: &[Choice], asked: Asked<'_>| {
            if let Body::DeepSeek(deepseek) = body {
                deepseek.answer(&mut pass, layer, choices, asked);
            }
        };
        let only_best = chunks.iter().all(|chunk| matches!(chunk.logits, LogitsOf::Best | LogitsOf::None));
        let (wanted, part) = (batch.wanted_rows(chunks), card.part());
        let result = match part {
            None => card.step((&batch, rope), (&wanted, only_best), logits, &mut routed),
            Some(_) => card.first_layers((&batch, rope), hidden, &mut routed),
        };
        match (body, part.filter(|_| result.is_ok())) {
            (Body::Dense(dense), Some(from)) => dense.forward(&mut pass, hidden, from),
            (Body::DeepSeek(deepseek), Some(from)) => deepseek.forward(&mut pass, hidden, from),
            (Body::DeepSeek(deepseek), None) => deepseek.end_layers(),
            (Body::Dense(_), None) => {}
        }
        let Pass { failed, lost, .. } = pass;
        if let Err(error) = result {
            tracing::error!(%error, "answers go on, on the processor");
            self.card = None;
            let reason = format!("{error}; answers are computed on the processor, and take longer");
            self.without_card = Some(Notice { card_lost: true, reason });
            return None;
        }
        if part.is_some() {
            self.head(&wanted, logits);
        }
        if let Body::DeepSeek(deepseek) = &mut self.body {
            deepseek.end_step();
        }
        self.note_lost(&batch, chunks, &lost);
        for chunk in chunks {
            self.on_card.entry(chunk.seq).or_default().extend_from_slice(chunk.tokens);
        }
        self.advance(chunks);
        Some(failures(&batch, chunks, &failed))
    }

    /// Computes the keys that a lost card has taken with it, of the sequences that go on.
    pub(super) fn recover(&mut self, chunks: &[Chunk<'_>]) {
        for chunk in chunks {
            let Some(tokens) = self.on_card.remove(&chunk.seq) else { continue };
            for (i, piece) in tokens.chunks(self.limits.step_tokens).enumerate() {
                let mut batch = Batch::default();
                batch.push(&self.kv, chunk.seq, i * self.limits.step_tokens, piece);
                self.layers(&batch);
            }
        }
    }
}

/// Cosine of the angle between two vectors; 0 where there is none: one is zero or not finite, or lengths differ.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return 0.0;
    }
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    if cosine.is_finite() { cosine } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_logits_are_not_alike() {
        let right: Vec<f32> = (0..100).map(|i| (i as f32 * 0.7).sin()).collect();
        let noisy: Vec<f32> = right.iter().enumerate().map(|(i, x)| x + 0.02 * (i as f32).cos()).collect();
        assert!(cosine(&right, &noisy) >= LIKENESS_MIN);
        let shifted: Vec<f32> = right.iter().cycle().skip(1).take(100).copied().collect();
        for wrong in [shifted, vec![0.0; 100], vec![f32::NAN; 100], Vec::new()] {
            assert!(cosine(&right, &wrong) < LIKENESS_MIN, "{wrong:?}");
        }
    }
}
