//! Names of routed experts.

use std::fmt;

/// One routed expert of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExpertKey {
    /// Layer, from 0.
    pub layer: u32,
    /// Expert within the layer, from 0.
    pub expert: u32,
}

impl fmt::Display for ExpertKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.layer, self.expert)
    }
}

/// The three matrices of an expert, in the order of a pack's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ExpertPart {
    /// [d_expert, d_model]
    Gate,
    /// [d_expert, d_model]
    Up,
    /// [d_model, d_expert]
    Down,
}

impl ExpertPart {
    /// In record order.
    pub const ALL: [ExpertPart; 3] = [ExpertPart::Gate, ExpertPart::Up, ExpertPart::Down];

    /// `ffn_gate`, `ffn_up`, `ffn_down`.
    pub fn stem(self) -> &'static str {
        match self {
            ExpertPart::Gate => "ffn_gate",
            ExpertPart::Up => "ffn_up",
            ExpertPart::Down => "ffn_down",
        }
    }

    fn from_stem(stem: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.stem() == stem)
    }
}

impl ExpertKey {
    /// Canonical name of one of the expert's matrices: `blk.3.ffn_gate.17.weight`.
    pub fn tensor_name(self, part: ExpertPart) -> String {
        format!("blk.{}.{}.{}.weight", self.layer, part.stem(), self.expert)
    }

    /// Reads a canonical name; the rest (`weight`, `weight_scale_inv`) comes back with it.
    pub fn parse(name: &str) -> Option<(Self, ExpertPart, &str)> {
        let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
        let (stem, rest) = rest.split_once('.')?;
        let (expert, rest) = rest.split_once('.')?;
        let key = Self { layer: layer.parse().ok()?, expert: expert.parse().ok()? };
        Some((key, ExpertPart::from_stem(stem)?, rest))
    }
}

/// Layer and part of a stacked tensor: `blk.3.ffn_gate_exps.weight`.
pub(crate) fn parse_stacked(name: &str) -> Option<(u32, ExpertPart)> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let stem = rest.strip_suffix("_exps.weight")?;
    Some((layer.parse().ok()?, ExpertPart::from_stem(stem)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let key = ExpertKey { layer: 3, expert: 17 };
        for part in ExpertPart::ALL {
            assert_eq!(ExpertKey::parse(&key.tensor_name(part)), Some((key, part, "weight")));
        }
        let scale = "blk.3.ffn_gate.17.weight_scale_inv";
        assert_eq!(ExpertKey::parse(scale), Some((key, ExpertPart::Gate, "weight_scale_inv")));
        assert_eq!(ExpertKey::parse("blk.3.ffn_gate.weight"), None);
        assert_eq!(parse_stacked("blk.3.ffn_down_exps.weight"), Some((3, ExpertPart::Down)));
        assert_eq!(parse_stacked("blk.3.ffn_down_shexp.weight"), None);
    }
}
