//! What is asked of streaming: from where, in how much memory, and who gives way.

use std::path::PathBuf;

use crate::Policy;
use crate::copies::Copies;
use crate::disk::Disk;

/// How experts are to stream.
pub struct Streaming {
    /// Where they come from. Its files are those of `copies`.
    pub disk: Box<dyn Disk>,
    /// Memory for records, in bytes. It is never exceeded.
    pub budget: u64,
    /// Of it, what long steps need for themselves.
    pub loan: Loan,
    /// Who gives way.
    pub policy: Policy,
    /// Share of the slots whose experts never give way: those that the profile has as the most used.
    pub pinned_share: f64,
    /// Where the files are, and copies of them.
    pub copies: Copies,
    /// Where it is kept which experts were used: the cache starts with those. `None` keeps nothing.
    pub profile: Option<PathBuf>,
}

/// Memory that is the cache's only between long steps, whose activations need it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loan {
    /// How much.
    pub bytes: u64,
    /// Tokens of the largest step that does without it.
    pub step_tokens: usize,
}

impl std::fmt::Debug for Streaming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { budget, policy, .. } = self;
        f.debug_struct("Streaming").field("budget", budget).field("policy", policy).finish_non_exhaustive()
    }
}
