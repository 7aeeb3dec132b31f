//! A tensor's name, as rules see it.

use std::borrow::Cow;

use weights::ExpertKey;

/// What rules are compared with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    /// GGUF's name; of one expert's matrix that of its stack.
    pub(super) published: Cow<'a, str>,
    /// The layer it belongs to, if any.
    pub(super) layer: Option<u32>,
    /// The routed expert it belongs to, if any.
    pub(super) expert: Option<u32>,
}

impl<'a> Name<'a> {
    pub(super) fn of(tensor: &'a str) -> Self {
        if let Some((key, part, end)) = ExpertKey::parse(tensor) {
            let published = Cow::Owned(format!("blk.{}.{}_exps.{end}", key.layer, part.stem()));
            return Self { published, layer: Some(key.layer), expert: Some(key.expert) };
        }
        let layer = tensor.strip_prefix("blk.").and_then(|rest| rest.split_once('.')?.0.parse().ok());
        Self { published: Cow::Borrowed(tensor), layer, expert: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_belong_to() {
        let name =
            |published: &'static str, layer, expert| Name { published: published.into(), layer, expert };
        for (tensor, want) in [
            ("output.weight", name("output.weight", None, None)),
            ("blk.12.attn_q.bias", name("blk.12.attn_q.bias", Some(12), None)),
            ("blk.3.ffn_up.17.weight", name("blk.3.ffn_up_exps.weight", Some(3), Some(17))),
            ("blk.x.attn_q.weight", name("blk.x.attn_q.weight", None, None)),
        ] {
            assert_eq!(Name::of(tensor), want, "{tensor}");
        }
    }
}
