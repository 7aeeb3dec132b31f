//! Progress of long work on the terminal; silent where stderr is no terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that counts bytes, with rate and time left.
pub(crate) fn bytes(total: u64) -> ProgressBar {
    let style = "{msg:18} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    let style =
        ProgressStyle::with_template(style).expect("a template known to be right").progress_chars("=> ");
    ProgressBar::new(total).with_style(style)
}
