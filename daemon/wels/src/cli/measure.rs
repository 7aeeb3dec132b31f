//! Options of `wels measure`.

use std::path::PathBuf;

use clap::Args;

use super::Compute;

#[derive(Debug, Args)]
pub(crate) struct Measure {
    /// How long the machine is kept busy while its heat is watched, after some seconds of measurements.
    ///
    /// Ctrl-C ends it earlier, with what was measured.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=120))]
    pub(crate) minutes: u32,
    /// What keeps it busy, and whose files the drive is measured with: a pack, a GGUF file or a Hugging Face folder. Without
    /// one all cores multiply whole numbers, and the drive is not measured.
    #[arg(long, value_name = "PACK", env = "WELS_MODEL")]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) compute: Compute,
    /// Print one line of JSON instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}
