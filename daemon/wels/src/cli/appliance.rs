//! Options of the commands that the box itself runs.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Console {
    /// Where the daemon says what it does: its runtime folder.
    #[arg(long, value_name = "DIR", default_value = crate::appliance::RUNTIME)]
    pub(crate) runtime: PathBuf,
    /// Where accounts, chats and settings live.
    #[arg(long, value_name = "DIR", env = "WELS_STATE")]
    pub(crate) state: Option<PathBuf>,
    /// Draw once and end.
    #[arg(long)]
    pub(crate) once: bool,
    /// Print once what would be drawn, as JSON, and end.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Stick {
    /// The stick's partition, or the whole of it; to try it out, an image of a bundle or a folder.
    #[arg(value_name = "DEVICE")]
    pub(crate) device: PathBuf,
    /// Where the daemon has its door: its runtime folder.
    #[arg(long, value_name = "DIR", default_value = crate::appliance::RUNTIME)]
    pub(crate) runtime: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Steward {
    /// Where installed models and staged systems lie.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/wels-models")]
    pub(crate) models: PathBuf,
    /// Where it is kept whom the box believes.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/wels")]
    pub(crate) state: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Health {
    /// How long the daemon may take to be well, e.g. 90s or 20min.
    #[arg(long, value_name = "TIME", default_value = "1min", value_parser = duration)]
    pub(crate) within: Duration,
    /// Where the daemon's page is.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:80")]
    pub(crate) url: String,
    /// Where the daemon says what it does: its runtime folder.
    #[arg(long, value_name = "DIR", default_value = crate::appliance::RUNTIME)]
    pub(crate) runtime: PathBuf,
    /// Where accounts, chats and settings live.
    #[arg(long, value_name = "DIR", env = "WELS_STATE")]
    pub(crate) state: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `90s` or `20min`.
fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "s" | "" => 1,
        "min" => 60,
        _ => return Err("give seconds or minutes: 90s, 20min".into()),
    };
    let number: u32 = digits.parse().map_err(|_| "give a number with its unit: 90s, 20min".to_owned())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("20min"), Ok(Duration::from_secs(1200)));
        assert!(duration("20h").is_err() && duration("min").is_err() && duration("-1s").is_err());
    }
}
