//! From how many tokens on a layer's experts are better computed on the card: both ways are measured once, when the model is
//! loaded, so that the same prompt is always computed the same way.

use std::time::{Duration, Instant};

use kernels::{Choice, Fit};

use super::{Body, Model};
use crate::batch::Batch;
use crate::card::{Asked, Card, Handover, PromptExperts};
use crate::pass::Pass;
use crate::{Error, TokenId};

/// Tokens of an expert that are tried, fewest first.
const TRIED: [usize; 7] = [2, 4, 8, 16, 32, 64, 128];
/// Times that each way is measured: the shortest counts. Once more before that, to bring experts into memory.
const ROUNDS: usize = 3;

impl Model {
    /// Lets experts come to the card in steps of as many tokens as was said, or as make it faster.
    pub(super) fn decide_on_prompts(&mut self, wanted: PromptExperts) -> Result<(), Error> {
        let Some(handover) = self.card.as_ref().and_then(Card::can_bring) else { return Ok(()) };
        let from = match wanted {
            PromptExperts::Never => None,
            PromptExperts::From(tokens) => Some(tokens),
            PromptExperts::Measured => self.measure_prompts(handover)?,
        };
        if let (Some(card), Some(from)) = (&mut self.card, from) {
            card.bring_from(from);
        }
        Ok(())
    }

    /// Tokens of a step from which on experts are computed on the card; `None` where they never are.
    pub fn brings_from(&self) -> Option<usize> {
        self.card.as_ref().and_then(Card::brings_from)
    }

    /// Tokens of a step from which on the card is faster with a layer's experts; `None` where it never is.
    fn measure_prompts(&mut self, handover: Handover) -> Result<Option<usize>, Error> {
        let moe = self.weights.hyper().moe.expect("a card brings experts of a mixture");
        // As many experts as two tokens go to: enough to fill the ring, few enough to be read.
        let set = (2 * moe.top_k).min(moe.n_experts - handover.on_card as usize);
        for per_expert in TRIED {
            let step_tokens = per_expert * moe.n_experts / moe.top_k;
            if step_tokens > self.limits.step_tokens {
                break;
            }
            let n_tokens = (per_expert * set / moe.top_k).max(1);
            let expert = |i: usize| handover.on_card + (i % set) as u32;
            let choices: Vec<Choice> =
                (0..n_tokens * moe.top_k).map(|i| Choice { expert: expert(i), weight: 1.0 }).collect();
            let processor = self.shortest(handover, &choices, false)?;
            let card = self.shortest(handover, &choices, true)?;
            tracing::debug!(per_expert, ?processor, ?card, "experts of a prompt");
            if card < processor {
                return Ok(Some(step_tokens));
            }
        }
        Ok(None)
    }

    /// How long a layer's experts take for some choices.
    fn shortest(&mut self, handover: Handover, choices: &[Choice], on_card: bool) -> Result<Duration, Error> {
        let Self { weights, body, rope, kv, cpu, card, .. } = self;
        let (Body::DeepSeek(deepseek), Some(card)) = (body, card) else { return Ok(Duration::MAX) };
        let moe = weights.hyper().moe.expect("a card brings experts of a mixture");
        let n_tokens = choices.len() / moe.top_k;
        let mut batch = Batch::default();
        batch.ids.resize(n_tokens, TokenId::default());
        let mut pass = Pass::new(weights, cpu, kv, rope, &batch);
        let (x, mut out) = (vec![0.5; n_tokens * weights.hyper().d_model], Vec::new());
        out.fit(x.len());
        let mut times = Vec::new();
        for _ in 0..=ROUNDS {
            deepseek.begin_step(n_tokens, moe.top_k);
            let begun = Instant::now();
            if on_card {
                card.try_to_bring(handover, choices, &mut |layer, choices, asked| {
                    deepseek.answer(&mut pass, layer, choices, asked);
                })?;
            } else {
                deepseek.answer(&mut pass, handover.layer, choices, Asked::Results { x: &x, out: &mut out });
            }
            times.push(begun.elapsed());
            deepseek.end_layers();
            deepseek.end_step();
        }
        Ok(times.split_off(1).into_iter().min().expect("some rounds"))
    }
}
