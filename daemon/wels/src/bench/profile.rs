//! Where a graphics card's time goes, stage by stage.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use gpu::StageTime;
use model::Model;

use super::speed;
use crate::cli::Bench;

/// Measures a prompt, then an answer, and prints a table of each.
pub(super) fn run(model: &mut Model, args: &Bench) -> Result<()> {
    if !model.start_profile() {
        bail!("--profile measures a graphics card that has timestamps: add --device gpu");
    }
    speed::prefill_once(model, args.prefill)?;
    print("prompt", args.prefill, &model.take_profile());
    speed::answer(model, args, |model| {
        model.start_profile();
    })?;
    print("answer", args.decode, &model.take_profile());
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a command's result")]
fn print(what: &str, n_tokens: usize, times: &BTreeMap<String, StageTime>) {
    let total: f64 = times.values().map(|time| time.seconds).sum();
    println!("{what}: {n_tokens} tokens, {:.1} ms in stages", 1e3 * total);
    let mut rows: Vec<_> = times.iter().collect();
    rows.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
    for (stage, StageTime { dispatches, seconds }) in rows {
        let share = 100.0 * seconds / total.max(f64::MIN_POSITIVE);
        let each = 1e6 * seconds / *dispatches as f64;
        println!("  {share:5.1} %  {:9.2} ms  {dispatches:6} x {each:9.1} us  {stage}", 1e3 * seconds);
    }
}
