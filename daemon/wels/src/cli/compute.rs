//! What computes, and how: options that all commands share that run a model.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use experts::Policy;
use model::PromptExperts;

use crate::card::Choice;

/// What computes, and how.
#[derive(Clone, Debug, Args)]
pub(crate) struct Compute {
    /// Where to compute: cpu, gpu (the best graphics card), gpu:N (the Nth that `wels doctor` lists), or auto: a card where
    /// there is one and the model fits, else the processor.
    #[arg(long, value_name = "DEVICE", default_value_t = Choice::Auto)]
    pub(crate) device: Choice,

    /// Memory of the graphics card that the model may take, e.g. 12GiB; by default nine tenths of it.
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse)]
    pub(crate) gpu_memory: Option<u64>,

    /// What of the model lies on the graphics card: rules, as `wels plan --write` writes them.
    #[arg(long, value_name = "FILE.toml", conflicts_with_all = ["gpu_experts", "gpu_layers"])]
    pub(crate) rules: Option<PathBuf>,

    /// Routed experts of each layer that lie on the graphics card; by default as many as fit.
    #[arg(long, value_name = "N")]
    pub(crate) gpu_experts: Option<usize>,

    /// Layers that lie on the graphics card, the first ones; by default as many as fit. The processor computes the others.
    #[arg(long, value_name = "N")]
    pub(crate) gpu_layers: Option<usize>,

    /// When experts that do not lie on the graphics card are computed there all the same, each for all tokens of a prompt that
    /// go to it: in steps of N tokens and more, never, or as measured when the model is loaded.
    #[arg(long, value_name = "measured|never|N", default_value = "measured", value_parser = prompt_experts)]
    pub(crate) gpu_prompt_experts: PromptExperts,

    /// Threads; by default one a core.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,

    /// Keep each thread on a core of its own: for a machine that does nothing else.
    #[arg(long)]
    pub(crate) pin: bool,

    /// Memory this process may take, e.g. 24GiB: of a larger mixture of experts, what doesn't fit stays on the drive and is
    /// read as it is wanted. By default nine tenths of the machine's.
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse)]
    pub(crate) ram: Option<u64>,

    /// Memory for experts alone: those beyond it stay on the drive, whatever --ram would allow.
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse)]
    pub(crate) expert_memory: Option<u64>,

    /// Which expert makes room for another while they are read from the drive: lru (the one not used for longest), or
    /// lfru:STEPS (the one used least, where a use counts half after so many steps). By default what `wels replay --choose`
    /// has written beside the profile, else lfru:16.
    #[arg(long, value_name = "POLICY")]
    pub(crate) expert_policy: Option<Policy>,

    /// A copy of the pack on another drive, for experts: both are read, by their speed, and each repairs the other.
    #[arg(long, value_name = "DIR")]
    pub(crate) mirror: Option<PathBuf>,

    /// Write to this file which experts each step wanted, for `wels replay`: numbers only, no text.
    #[arg(long, value_name = "FILE")]
    pub(crate) record_routes: Option<PathBuf>,

    /// exact computes everything. skip:SHARE may leave out experts that are not in memory while an answer is written, up to
    /// this share of each token's weights in a layer (skip:5%): faster and a little worse; each answer's receipt says so.
    #[arg(long, value_name = "QUALITY", default_value = "exact")]
    pub(crate) quality: Quality,

    /// Keep in this file which experts were used, and start with those in memory. The daemon does so in its state.
    #[arg(long, value_name = "FILE")]
    pub(crate) expert_profile: Option<PathBuf>,
}

/// Whether a model that streams computes all of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Quality {
    Exact,
    /// May lose this share.
    Skip(f32),
}

impl Quality {
    /// As the model calls it.
    pub(crate) fn skip_share(self) -> Option<f32> {
        match self {
            Self::Exact => None,
            Self::Skip(share) => Some(share),
        }
    }
}

impl FromStr for Quality {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let share = |text: &str| match text.strip_suffix('%') {
            Some(percent) => percent.parse::<f32>().ok().map(|percent| percent / 100.0),
            None => text.parse().ok(),
        };
        match text.split_once(':') {
            None if text == "exact" => Ok(Self::Exact),
            Some(("skip", text)) => {
                let share = share(text).filter(|share| *share > 0.0 && *share <= SKIP_SHARE_MAX);
                share
                    .map(Self::Skip)
                    .ok_or_else(|| format!("a share is above 0 and at most {SKIP_SHARE_MAX}, e.g. skip:5%"))
            }
            _ => Err("exact, or skip:SHARE, e.g. skip:5%".into()),
        }
    }
}

/// The largest share that may be left out: beyond it answers fall apart (zeroing weights below 0.05 of 1 raised OLMoE's
/// perplexity by 41 %).
const SKIP_SHARE_MAX: f32 = 0.25;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// Everything in f32: the reference.
    F32,
    /// Activations quantised to 8 bits, keys and values to f16.
    Fast,
}

impl From<Precision> for model::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Fast => Self::Fast,
        }
    }
}

fn prompt_experts(text: &str) -> Result<PromptExperts, String> {
    match text {
        "measured" => Ok(PromptExperts::Measured),
        "never" => Ok(PromptExperts::Never),
        _ => {
            text.parse().map(PromptExperts::From).map_err(|_| "measured, never, or a number of tokens".into())
        }
    }
}
