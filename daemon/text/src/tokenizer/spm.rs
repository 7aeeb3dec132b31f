//! SentencePiece vocabularies (`tokenizer.ggml.model` = `llama`) as byte-pair encoding.
//!
//! SentencePiece joins the neighbours whose union has the highest score, so the list of merges is every way to split
//! every token into two others, best score first. Source: the Llama converter of `transformers`.

use std::collections::HashMap;

use tokenizers::NormalizerWrapper;
use tokenizers::normalizers::{Prepend, Replace, Sequence};

/// Ways to split tokens into two tokens, best first. `tokens`: `(spelling, id, score)`.
pub(super) fn merges(tokens: &[(&str, u32, f32)]) -> Vec<(String, String)> {
    let ids: HashMap<&str, u32> = tokens.iter().map(|&(token, id, _)| (token, id)).collect();
    let mut merges = Vec::new();
    for &(token, _, score) in tokens {
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if let (Some(&left_id), Some(&right_id)) = (ids.get(left), ids.get(right)) {
                merges.push((score, left_id, right_id, left, right));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    merges.into_iter().map(|(_, _, _, left, right)| (left.to_owned(), right.to_owned())).collect()
}

/// Spaces become `▁`, and one more goes in front of the text where the vocabulary was trained so.
pub(super) fn normalizer(prefix: bool) -> tokenizers::Result<NormalizerWrapper> {
    let mut steps = Vec::new();
    if prefix {
        steps.push(NormalizerWrapper::Prepend(Prepend::new("▁".to_owned())));
    }
    steps.push(NormalizerWrapper::Replace(Replace::new(" ".to_owned(), "▁")?));
    Ok(NormalizerWrapper::Sequence(Sequence::new(steps)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_come_best_score_first() {
        let tokens = [("a", 0, 0.0), ("b", 1, 0.0), ("ab", 2, -2.0), ("abb", 3, -1.0), ("bb", 4, -3.0)];
        let got = merges(&tokens);
        let got: Vec<(&str, &str)> = got.iter().map(|(l, r)| (l.as_str(), r.as_str())).collect();
        assert_eq!(got, [("a", "bb"), ("ab", "b"), ("a", "b"), ("b", "b")]);
    }
}
