//! The rules that hyperparameters obey, whatever file they came from: nothing downstream divides by zero, overflows or
//! allocates without bound because of them.

use crate::{Architecture, BadField, Hyperparameters, Mla, Moe, Rope, RopeScaling};

const MAX_LAYERS: usize = 1024;
const MAX_WIDTH: usize = 1 << 20;
const MAX_HEADS: usize = 4096;
const MAX_HEAD_DIM: usize = 4096;
const MAX_VOCAB: usize = 1 << 22;
const MAX_CONTEXT: usize = 1 << 28;
const MAX_EXPERTS: usize = 4096;

impl Hyperparameters {
    /// Checks every field against its range and against the others.
    ///
    /// # Errors
    /// The first field that breaks a rule, under the name it has in [`Hyperparameters`].
    pub fn check(&self) -> Result<(), BadField> {
        within("n_layers", self.n_layers, 1, MAX_LAYERS)?;
        within("d_model", self.d_model, 1, MAX_WIDTH)?;
        within("n_heads", self.n_heads, 1, MAX_HEADS)?;
        within("n_kv_heads", self.n_kv_heads, 1, MAX_HEADS)?;
        within("head_dim", self.head_dim, 2, MAX_HEAD_DIM)?;
        within("d_ff", self.d_ff, 1, MAX_WIDTH)?;
        within("n_vocab", self.n_vocab, 1, MAX_VOCAB)?;
        within("context", self.context, 1, MAX_CONTEXT)?;
        within("n_draft_layers", self.n_draft_layers, 0, MAX_LAYERS)?;
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return Err(BadField::range("n_heads", self.n_heads, "a multiple of n_kv_heads"));
        }
        positive("rms_eps", self.rms_eps)?;
        self.rope.check(self.head_dim)?;
        match (self.architecture, &self.mla) {
            (Architecture::DeepSeek2, Some(mla)) => mla.check(self.head_dim, self.rope.dim)?,
            (Architecture::DeepSeek2, None) => return Err(BadField::missing("mla")),
            (_, Some(_)) => {
                return Err(BadField::unsupported("mla", "present", "latent attention in deepseek2 alone"));
            }
            (_, None) => {}
        }
        match (self.architecture, &self.moe) {
            (_, None) => Ok(()),
            (Architecture::DeepSeek2, Some(moe)) => moe.check(self.n_layers),
            (_, Some(_)) => {
                Err(BadField::unsupported("experts", "present", "a mixture of experts in deepseek2 alone"))
            }
        }
    }
}

impl Rope {
    fn check(&self, head_dim: usize) -> Result<(), BadField> {
        positive("rope.theta", self.theta)?;
        within("rope.dim", self.dim, 2, head_dim)?;
        if !self.dim.is_multiple_of(2) {
            return Err(BadField::range("rope.dim", self.dim, "even"));
        }
        match self.scaling {
            None => Ok(()),
            Some(RopeScaling::Linear { factor }) => positive("rope.scaling.factor", factor),
            Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context }) => {
                positive("rope.scaling.factor", factor)?;
                positive("rope.scaling.low_freq_factor", low_freq_factor)?;
                positive("rope.scaling.high_freq_factor", high_freq_factor)?;
                if high_freq_factor <= low_freq_factor {
                    let want = "above low_freq_factor";
                    return Err(BadField::range("rope.scaling.high_freq_factor", high_freq_factor, want));
                }
                within("rope.scaling.original_context", original_context, 1, MAX_CONTEXT)
            }
            Some(RopeScaling::Yarn {
                factor,
                original_context,
                beta_fast,
                beta_slow,
                mscale,
                mscale_all_dim,
            }) => {
                positive("rope.scaling.factor", factor)?;
                positive("rope.scaling.beta_fast", beta_fast)?;
                positive("rope.scaling.beta_slow", beta_slow)?;
                not_negative("rope.scaling.mscale", mscale)?;
                not_negative("rope.scaling.mscale_all_dim", mscale_all_dim)?;
                within("rope.scaling.original_context", original_context, 1, MAX_CONTEXT)
            }
        }
    }
}

impl Mla {
    fn check(&self, head_dim: usize, rope_dim: usize) -> Result<(), BadField> {
        within("mla.kv_lora_rank", self.kv_lora_rank, 1, MAX_WIDTH)?;
        within("mla.q_lora_rank", self.q_lora_rank.unwrap_or(1), 1, MAX_WIDTH)?;
        within("mla.nope_dim", self.nope_dim, 1, MAX_HEAD_DIM)?;
        within("mla.v_dim", self.v_dim, 1, MAX_HEAD_DIM)?;
        within("mla.rope_dim", self.rope_dim, rope_dim, rope_dim)?;
        within("head_dim", head_dim, self.nope_dim + self.rope_dim, self.nope_dim + self.rope_dim)
    }
}

impl Moe {
    fn check(&self, n_layers: usize) -> Result<(), BadField> {
        within("moe.n_experts", self.n_experts, 1, MAX_EXPERTS)?;
        within("moe.top_k", self.top_k, 1, self.n_experts)?;
        within("moe.d_expert", self.d_expert, 1, MAX_WIDTH)?;
        within("moe.n_shared", self.n_shared, 0, MAX_EXPERTS)?;
        within("moe.n_dense_layers", self.n_dense_layers, 0, n_layers)?;
        within("moe.n_groups", self.n_groups, 1, self.n_experts)?;
        within("moe.top_k_groups", self.top_k_groups, 1, self.n_groups)?;
        if !self.n_experts.is_multiple_of(self.n_groups) {
            return Err(BadField::range("moe.n_experts", self.n_experts, "a multiple of moe.n_groups"));
        }
        if self.top_k > self.n_experts / self.n_groups * self.top_k_groups {
            return Err(BadField::range("moe.top_k", self.top_k, "at most the experts of the kept groups"));
        }
        positive("moe.scale", self.scale)
    }
}

fn within(key: &str, got: usize, min: usize, max: usize) -> Result<(), BadField> {
    if (min..=max).contains(&got) {
        return Ok(());
    }
    let want = match got {
        0 => "at least 1",
        got if got < min => "larger, to fit the other hyperparameters",
        _ => "smaller: no real model has more, or the other hyperparameters contradict it",
    };
    Err(BadField::range(key, got, want))
}

fn positive(key: &str, got: f32) -> Result<(), BadField> {
    if got.is_finite() && got > 0.0 {
        return Ok(());
    }
    Err(BadField::range(key, got, "a finite number above 0"))
}

fn not_negative(key: &str, got: f32) -> Result<(), BadField> {
    if got.is_finite() && got >= 0.0 {
        return Ok(());
    }
    Err(BadField::range(key, got, "a finite number of at least 0"))
}
