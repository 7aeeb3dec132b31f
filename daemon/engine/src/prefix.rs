//! The prefix cache: sequences that have ended, kept with their keys and values for the same owner's next turn.
//!
//! An owner's sequences serve that owner alone: how fast an answer starts must not tell what somebody else has asked.

use model::{Forward, SeqId, TokenId};

/// Sequences kept at most; memory, which running sequences have first call on, is the usual limit.
const KEPT_MAX: usize = 64;

/// Shorter prefixes are not worth a sequence.
const PREFIX_MIN: usize = 16;

#[derive(Debug)]
struct Kept {
    owner: u64,
    seq: SeqId,
    /// The tokens whose keys and values the sequence holds.
    tokens: Vec<TokenId>,
}

/// Kept sequences, the longest unused first.
#[derive(Debug, Default)]
pub(crate) struct PrefixCache {
    kept: Vec<Kept>,
}

impl PrefixCache {
    /// Keeps a sequence that has ended and holds `tokens`, in no more memory than they take.
    pub(crate) fn put(&mut self, model: &mut dyn Forward, owner: u64, seq: SeqId, tokens: Vec<TokenId>) {
        debug_assert_eq!(model.len(seq), tokens.len(), "sequence {seq} holds what it is kept for");
        model.resize(seq, tokens.len());
        if self.kept.len() == KEPT_MAX {
            self.evict(model);
        }
        self.kept.push(Kept { owner, seq, tokens });
    }

    /// Takes out the owner's sequence that shares the longest prefix with `prompt`, cut to that prefix.
    pub(crate) fn take(
        &mut self,
        model: &mut dyn Forward,
        owner: u64,
        prompt: &[TokenId],
    ) -> Option<(SeqId, usize)> {
        // At least one token is left to compute: its logits are the first answer.
        let prompt = &prompt[..prompt.len() - 1];
        let shared = |kept: &Kept| prompt.iter().zip(&kept.tokens).take_while(|(a, b)| a == b).count();
        let own = self.kept.iter().enumerate().filter(|(_, kept)| kept.owner == owner);
        let (n_shared, idx) = own.map(|(idx, kept)| (shared(kept), idx)).max()?;
        if n_shared < PREFIX_MIN {
            return None;
        }
        let kept = self.kept.remove(idx);
        model.truncate(kept.seq, n_shared);
        Some((kept.seq, n_shared))
    }

    /// Frees the memory of the longest unused sequence; false where there is none.
    pub(crate) fn evict(&mut self, model: &mut dyn Forward) -> bool {
        if self.kept.is_empty() {
            return false;
        }
        model.close(self.kept.remove(0).seq);
        true
    }
}
