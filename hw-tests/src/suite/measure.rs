//! What the box finds out about itself.

use anyhow::{Result, ensure};

use crate::target::Target;
use crate::{report, say};

/// Of six samples a minute, as many come where all is slow.
const SAMPLES_A_MINUTE_MIN: usize = 5;

pub(super) fn measures_itself(target: &mut Target) -> Result<()> {
    let mut page = target.page()?;
    // A real box may be claimed already, by an earlier run.
    if page.sign_in().is_err() {
        page.claim(&target.claim_code()?)?;
    }
    let measure = target.measure();
    let found = report::measured(&mut page, measure.minutes)?;
    for (part, number) in [("processor", "int8_ops_s"), ("memory", "read_bytes_s")] {
        ensure!(found[part][number].as_f64().is_some_and(|rate| rate > 0.0), "{part}: no {number}");
    }
    let samples = found["load"]["samples"].as_array().map_or(0, Vec::len);
    let models = found["models"].as_array().map_or(0, Vec::len);
    say::note(&format!("{samples} samples with {}, {models} models looked at", found["load"]["model"]));
    let wanted = SAMPLES_A_MINUTE_MIN * measure.minutes as usize;
    ensure!(samples >= wanted && models > 0, "that is no measurement: {}", found["notes"]);
    measure.report.as_deref().map_or(Ok(()), |file| report::write(&found, file))
}
