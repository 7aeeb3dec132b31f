//! The installed model, in a slot from which it can be exchanged while others use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use engine::Handle;
use serde::Serialize;
use text::Codec;

use crate::problem::Problem;

/// How long an exchange of models takes, where the memory can't hold both.
const EXCHANGE_TIME: Duration = Duration::from_secs(20);

/// Facts about a model that people want to see.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ModelInfo {
    /// Longest conversation, in tokens.
    pub context: usize,
    /// Size on disk.
    pub bytes: u64,
    /// Format of the weights, such as `Q4_K_M`.
    pub format: String,
    /// Where it came from.
    pub source: String,
}

/// How a model wants to be sampled where the request doesn't say: its published generation settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GenerationDefaults {
    /// Divisor of the logits.
    pub temperature: f32,
    /// Share of the probability that is kept.
    pub top_p: f32,
    /// Tokens kept; 0 keeps all.
    pub top_k: usize,
    /// Divides the logits of tokens seen lately; 1 is off.
    pub repetition_penalty: f32,
    /// Tokens of an answer at most: memory for all of them is reserved before the first.
    pub max_tokens: usize,
}

impl Default for GenerationDefaults {
    fn default() -> Self {
        Self { temperature: 0.6, top_p: 0.95, top_k: 0, repetition_penalty: 1.0, max_tokens: 8192 }
    }
}

/// A model ready to answer.
#[derive(Debug)]
pub struct ServedModel {
    /// The name programs ask for.
    pub id: String,
    /// The name people see.
    pub name: String,
    /// When it was installed, unix seconds.
    pub created: i64,
    /// Where its tokens come from.
    pub engine: Handle,
    /// Text to tokens and back.
    pub codec: Codec,
    /// Facts for people.
    pub info: ModelInfo,
    /// Sampling where the request doesn't say.
    pub defaults: GenerationDefaults,
}

/// Holds the model, or nothing yet. Exchanging it is atomic: answers under way finish with the model they began with.
#[derive(Clone, Debug, Default)]
pub struct ModelSlot {
    model: Arc<ArcSwapOption<ServedModel>>,
    is_exchanged: Arc<AtomicBool>,
}

impl ModelSlot {
    /// Puts `model` in the slot.
    pub fn put(&self, model: Option<ServedModel>) {
        self.put_back(model.map(Arc::new));
    }

    /// Takes the model out, because another will be put in: who asks meanwhile is told to wait.
    pub fn withdraw(&self) -> Option<Arc<ServedModel>> {
        self.is_exchanged.store(true, Ordering::Release);
        self.model.swap(None)
    }

    /// Puts a model back that was taken out.
    pub fn put_back(&self, model: Option<Arc<ServedModel>>) {
        self.model.store(model);
        self.is_exchanged.store(false, Ordering::Release);
    }

    /// The model in the slot.
    pub fn get(&self) -> Option<Arc<ServedModel>> {
        self.model.load_full()
    }

    /// The model, or the answer that there is none.
    pub(crate) fn require(&self) -> Result<Arc<ServedModel>, Problem> {
        self.get().ok_or_else(|| {
            if self.is_exchanged.load(Ordering::Acquire) {
                let message = "another model is taking over; ask again in a minute";
                return Problem::unavailable("model_exchanged", message).retry_after(EXCHANGE_TIME);
            }
            Problem::unavailable("no_model", "no model is installed yet; install one, then ask again")
        })
    }
}
