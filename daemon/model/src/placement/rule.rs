//! One rule, and what it decides.

use serde::Serialize;
use tensor::DType;

use super::glob;
use super::name::Name;

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The graphics card.
    Gpu,
    /// The processor.
    Cpu,
}

/// Where bytes lie. Routed experts that find no room fall to the next tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// The card's memory: computed there.
    Vram,
    /// The machine's memory: computed by the processor.
    Ram,
    /// The drive: read as they are wanted, then computed by the processor.
    Nvme,
}

/// Arithmetic of the matrix products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kernel {
    /// The fastest that the format and the device have.
    Auto,
    /// f32: the reference.
    F32,
    /// Activations in 8 bits.
    Int8,
}

/// Layers or experts, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    first: u32,
    last: u32,
}

impl Span {
    /// From `first` to `last`.
    ///
    /// # Panics
    /// The last comes before the first: a programmer's error.
    pub fn new(first: u32, last: u32) -> Self {
        assert!(first <= last, "{first}-{last} is no range");
        Self { first, last }
    }

    /// Reads `7` or `0-30`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| {
            let is_number = (1..=9).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit());
            if is_number { text.parse::<u32>().ok() } else { None }
        };
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some(Self { first, last })
    }

    fn has(self, number: Option<u32>) -> bool {
        number.is_some_and(|number| (self.first..=self.last).contains(&number))
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// A rule: which tensors, and what happens to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Glob over GGUF's tensor names: `*` any text, `?` one character.
    pub pattern: String,
    /// Only tensors of these layers.
    pub layers: Option<Span>,
    /// Only these routed experts of each layer.
    pub experts: Option<Span>,
    /// What computes.
    pub device: Device,
    /// The fastest tier that routed experts may take; everything else lies with its device.
    pub tier: Tier,
    /// What matrices are converted to on the card; `None` leaves them as they are in the file.
    pub format: Option<DType>,
    /// Arithmetic.
    pub kernel: Kernel,
}

impl Rule {
    /// All tensors that match, on `device` and in its memory.
    pub fn new(pattern: &str, device: Device) -> Self {
        let (pattern, tier) = (pattern.to_owned(), device.tier());
        Self { pattern, layers: None, experts: None, device, tier, format: None, kernel: Kernel::Auto }
    }

    pub(super) fn matches(&self, name: &Name<'_>) -> bool {
        self.layers.is_none_or(|layers| layers.has(name.layer))
            && self.experts.is_none_or(|experts| experts.has(name.expert))
            && glob::matches(&self.pattern, &name.published)
    }
}

/// What a placement says of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What computes.
    pub device: Device,
    /// The fastest tier a routed expert may take.
    pub tier: Tier,
    /// What a matrix is converted to.
    pub format: Option<DType>,
    /// Arithmetic.
    pub kernel: Kernel,
    /// Index of the rule; `None` where none matched.
    pub rule: Option<usize>,
}

impl Device {
    pub(super) const ALL: [Self; 2] = [Self::Gpu, Self::Cpu];

    /// The word in rules.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
        }
    }

    /// Its own memory.
    pub fn tier(self) -> Tier {
        match self {
            Self::Gpu => Tier::Vram,
            Self::Cpu => Tier::Ram,
        }
    }
}

impl Tier {
    /// The fastest first.
    pub const ALL: [Self; 3] = [Self::Vram, Self::Ram, Self::Nvme];

    /// The word in rules.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vram => "vram",
            Self::Ram => "ram",
            Self::Nvme => "nvme",
        }
    }

    /// What computes with bytes that lie there.
    pub fn device(self) -> Device {
        if self == Self::Vram { Device::Gpu } else { Device::Cpu }
    }
}

impl Kernel {
    pub(super) const ALL: [Self; 3] = [Self::Auto, Self::F32, Self::Int8];

    /// The word in rules.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Int8 => "int8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_they_are_written() {
        for text in ["7", "0-30", "3-60"] {
            assert_eq!(Span::parse(text).expect("a span").to_string(), text);
        }
        for text in ["", "-", "3-", "-3", "5-3", "a-b", "+1", "1-2-3", " 1", "99999999999"] {
            assert_eq!(Span::parse(text), None, "{text:?}");
        }
    }
}
