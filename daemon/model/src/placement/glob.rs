//! Globs over tensor names: `*` is any text, `?` one character, everything else itself.

/// Whether all of `name` matches `pattern`; both are ASCII. Time is at most their lengths' product.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // The last star, and where what follows it was tried first.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    (p, n) = (star + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By the definition.
    fn slow(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, _) => name.is_empty(),
            (Some((b'*', rest)), _) => (0..=name.len()).any(|n| slow(rest, &name[n..])),
            (Some((&c, rest)), Some((&n, more))) => (c == b'?' || c == n) && slow(rest, more),
            (Some(_), None) => false,
        }
    }

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name, want) in [
            ("blk.*.ffn_*_exps.*", "blk.3.ffn_gate_exps.weight", true),
            ("blk.*.ffn_*_exps.*", "blk.3.ffn_gate_shexp.weight", false),
            ("blk.?.attn_q.weight", "blk.3.attn_q.weight", true),
            ("blk.?.attn_q.weight", "blk.13.attn_q.weight", false),
            ("*", "", true),
            ("output", "output.weight", false),
            ("*norm*", "blk.0.attn_norm.weight", true),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} on {name}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*?]{0,10}", name in "[ab]{0,12}") {
            prop_assert_eq!(matches(&pattern, &name), slow(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
