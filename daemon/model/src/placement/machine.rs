//! A machine, as far as speed depends on it, real or thought of.

use serde::Serialize;

/// Where a number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Known {
    /// Measured on this machine.
    Measured,
    /// What the system says of this machine.
    Found,
    /// Whoever asks says so.
    Given,
    /// Nobody knows: a usual value.
    Assumed,
}

impl Known {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Found => "found",
            Self::Given => "given",
            Self::Assumed => "assumed",
        }
    }
}

/// A number, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fact<T> {
    /// The number.
    pub value: T,
    /// Where it comes from.
    pub known: Known,
}

impl<T> Fact<T> {
    /// Measured on this machine.
    pub fn measured(value: T) -> Self {
        Self { value, known: Known::Measured }
    }

    /// What the system says.
    pub fn found(value: T) -> Self {
        Self { value, known: Known::Found }
    }

    /// What whoever asks says.
    pub fn given(value: T) -> Self {
        Self { value, known: Known::Given }
    }

    /// A usual value.
    pub fn assumed(value: T) -> Self {
        Self { value, known: Known::Assumed }
    }
}

/// Memory and speeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// Memory, in bytes.
    pub ram_bytes: Fact<u64>,
    /// Of it, bytes that the model doesn't get.
    pub ram_reserve_bytes: u64,
    /// Limit of the memory for routed experts alone, if there is one.
    pub expert_ram_bytes: Option<u64>,
    /// The card's memory, in bytes; 0 without a card.
    pub vram_bytes: Fact<u64>,
    /// Bytes of memory that all cores together read a second.
    pub ram_bytes_s: Fact<f64>,
    /// Bytes of its own memory that the card reads a second; measured, those that stages reach.
    pub vram_bytes_s: Fact<f64>,
    /// Bytes a second that reach the card from memory.
    pub link_bytes_s: Fact<f64>,
    /// Bytes a second that the drive with the model reads.
    pub nvme_bytes_s: Fact<f64>,
    /// Cores.
    pub cores: Fact<usize>,
    /// Operations on 8-bit integers of all cores a second, two for a multiply-add.
    pub int8_ops_s: Fact<f64>,
    /// Share of it that kernels reach with long prompts.
    pub int8_share: f64,
    /// Operations of the card a second, two for a multiply-add; measured, those that stages reach.
    pub gpu_ops_s: Fact<f64>,
}

impl Machine {
    /// Bytes a card's driver, pipelines and rounding take.
    pub const VRAM_RESERVE_BYTES: u64 = 512 << 20;

    /// Bytes of the card that a model may take.
    pub fn vram_room(&self) -> u64 {
        self.vram_bytes.value.saturating_sub(Self::VRAM_RESERVE_BYTES)
    }

    /// Bytes of memory that a model may take.
    pub fn ram_room(&self) -> u64 {
        self.ram_bytes.value.saturating_sub(self.ram_reserve_bytes)
    }

    /// There is a card.
    pub fn has_gpu(&self) -> bool {
        self.vram_bytes.value > 0
    }
}
