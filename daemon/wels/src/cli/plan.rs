//! Options of `wels plan`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Plan {
    /// A pack, a GGUF file or a Hugging Face folder; or a model of the catalogue, which need not be here, e.g. deepseek-r1.
    #[arg(long, value_name = "PATH|NAME", env = "WELS_MODEL")]
    pub(crate) model: PathBuf,
    /// Memory of the graphics card, e.g. 24GiB; 0 for none. By default what is found.
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse)]
    pub(crate) vram: Option<u64>,
    /// Memory of the machine, of which a tenth stays the system's. By default this machine's.
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse)]
    pub(crate) ram: Option<u64>,
    /// How fast the drive with the model reads, e.g. 7GB/s. By default measured if the model is here and does not fit in memory.
    #[arg(long, value_name = "RATE", value_parser = crate::size::parse_rate)]
    pub(crate) nvme: Option<f64>,
    /// How fast all cores together read memory. By default measured.
    #[arg(long, value_name = "RATE", value_parser = crate::size::parse_rate)]
    pub(crate) ram_speed: Option<f64>,
    /// How fast the card reads its own memory.
    #[arg(long, value_name = "RATE", value_parser = crate::size::parse_rate)]
    pub(crate) vram_speed: Option<f64>,
    /// Cores; each is taken to be as fast as this machine's.
    #[arg(long, value_name = "N", value_parser = cores)]
    pub(crate) cores: Option<usize>,
    /// Longest conversation, for which memory is set aside; by default what the model allows, up to 32768.
    #[arg(long, value_name = "TOKENS")]
    pub(crate) context: Option<usize>,
    /// Bits that a weight takes, for a model that isn't here, e.g. 8 for FP8. By default those of the usual Q4_K_M: some 4.8.
    #[arg(long, value_name = "BITS", value_parser = bits)]
    pub(crate) bits: Option<f64>,
    /// Say what these rules come to instead of deriving some.
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) rules: Option<PathBuf>,
    /// Write the rules to a new file: to be changed, and read again with --rules.
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) write: Option<PathBuf>,
    /// Say instead what one token costs a graphics card with room for all of it: dispatches, submits, bytes.
    #[arg(long, conflicts_with_all = ["rules", "write"])]
    pub(crate) stages: bool,
    /// Print one line of JSON instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}

const EXAMPLES: &str = "\
Examples:
  wels plan --model r1.wels
  wels plan --model deepseek-r1 --vram 24GiB --ram 128GiB --nvme 7GB/s
  wels plan --model deepseek-r1 --ram 768GiB --ram-speed 400GB/s --cores 64 --bits 8
  wels plan --model r1.wels --write rules.toml; edit rules.toml; wels plan --model r1.wels --rules rules.toml

Rules, of which the first that matches a tensor decides:
  [[rule]]
  match = \"blk.*.ffn_*_exps.*\"  # GGUF's tensor names: * is any text, ? one character
  layers = \"3-30\"               # optional; experts = \"0-8\" likewise, of each layer
  device = \"cpu\"                # gpu or cpu
  tier = \"ram\"                  # optional: vram, ram or nvme; routed experts without room fall to the next
  format = \"as-is\"              # optional, of a card: what matrices become there: as-is, f32, f16 or q8_0
  kernel = \"auto\"               # optional, of a card: auto, f32, or int8 (a prompt's activations in 8 bits)";

/// Cores of a machine, at least one.
fn cores(text: &str) -> Result<usize, String> {
    let cores = text.parse().ok().filter(|cores| (1..=4096).contains(cores));
    cores.ok_or_else(|| format!("{text:?}: 1 to 4096 can be"))
}

/// Bits of a weight.
fn bits(text: &str) -> Result<f64, String> {
    let bits = text.parse().ok().filter(|bits| (1.0..=32.0).contains(bits));
    bits.ok_or_else(|| format!("{text:?}: 1 to 32 can be, e.g. 4.5"))
}
