//! A box measured for whoever thinks of buying one: asks it, follows, and writes a page that needs nothing else, and its JSON.
//!
//! ```text
//! POST /api/admin/measure -> GET … until it is over -> FILE.json, document (words, tables) + chart (SVG) -> FILE.html
//! ```
//!
//! What the box says is material, never markup: every text is escaped.

mod chart;
mod document;
mod html;
mod series;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::page::Page;
use crate::say;

/// How often the box is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often that is said.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// Time for what isn't load: limits, drive and card, twice. A virtual box computes in software.
const BESIDE_MAX: Duration = Duration::from_secs(1200);

/// Lets the box measure itself; gives what it found.
pub(crate) fn measured(page: &mut Page, minutes: u32) -> Result<Value> {
    page.post("/api/admin/measure", &json!({ "minutes": minutes }), None)?;
    let limit = BESIDE_MAX + Duration::from_secs(60 * u64::from(minutes));
    let (start, mut said) = (Instant::now(), Instant::now());
    loop {
        std::thread::sleep(LOOK_EVERY);
        let mut state = page.json("/api/admin/measure")?;
        let progress = &state["progress"];
        if progress.is_null() {
            let report = state["report"].take();
            ensure!(report.is_object(), "the box ended its measurement without a report");
            ensure!(report["complete"] == true, "the measurement was stopped on the box");
            return Ok(report);
        }
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            say::note(&following(progress));
        }
        if start.elapsed() > limit {
            bail!("no end after {} s: {progress}", limit.as_secs());
        }
    }
}

fn following(progress: &Value) -> String {
    let (done, total) = (progress["seconds_done"].as_f64(), progress["seconds_total"].as_f64());
    let step = progress["step"].as_str().unwrap_or_default();
    let heat = progress["last"]["processor_c"].as_f64();
    let heat = heat.map_or("unknown".into(), |c| format!("{c:.0} °C"));
    format!("{step}: {:.0} of {:.0} s, processor {heat}", done.unwrap_or(0.0), total.unwrap_or(0.0))
}

/// Writes the page, and the JSON beside it.
pub(crate) fn write(report: &Value, file: &Path) -> Result<()> {
    let json = file.with_extension("json");
    ensure!(json != file, "--report wants a page: call it FILE.html");
    for (path, text) in [(file, document::page(report)), (&json, format!("{report:#}\n"))] {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        say::note(&format!("written: {}", path.display()));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A box of an hour: it grows warm, and after 20 minutes slower.
    pub(crate) fn example() -> Value {
        let sample = |i: u32| {
            let at_s = f64::from(i) * 10.0;
            let warm = 1.0 - (-at_s / 500.0).exp();
            let rate = 14.2 - 1.3 * ((at_s - 1200.0) / 600.0).clamp(0.0, 1.0) + 0.15 * (at_s / 37.0).sin();
            json!({
                "at_s": at_s, "seconds": 10.0, "rate": rate, "processor_c": 44.0 + 43.0 * warm, "drive_c": 38.0 + 14.0 * warm,
                "card_c": null, "clock_hz": 4.6e9 - 0.5e9 * warm, "card_clock_hz": null, "throttled": i.saturating_sub(120),
            })
        };
        let plan = json!({ "decode_tok_s": 14.9, "prefill_tok_s": 210.0, "vram_bytes": 0, "ram_bytes": 5_100_000_000_u64,
            "nvme_bytes": 0, "assumptions": ["Q4_K_M"] });
        let mut streamed = plan.clone();
        streamed["nvme_bytes"] = json!(300_000_000_000_u64);
        streamed["decode_tok_s"] = json!(1.31);
        let fit = |name: &str, bytes: u64, plan: Value, reason: Value| json!({ "id": "x", "name": name, "bytes": bytes, "format": "Q4_K_M", "context_tokens": 32768, "plan": plan, "reason": reason });
        json!({
            "version": "0.1.0", "made_ms": 1_764_176_400_000_u64, "minutes_wanted": 60, "complete": true,
            "processor": { "name": "AMD Ryzen 9 <7950X> & \"friends\"", "cores": 16, "threads": 16, "level": "avx512-vnni",
                "features": ["avx2", "avx512_vnni"], "clock_hz_max": 5.7e9, "int8_ops_s": 5.2e12, "int8_ops_s_after": 4.7e12 },
            "memory": { "bytes": 134_000_000_000_u64, "read_bytes_s": 61e9, "read_bytes_s_after": 60.2e9 },
            "drive": { "device": "nvme0n1", "model": "Fast Drive 2TB", "bytes": 2_000_398_934_016_u64, "bytes_s_after": 6.1e9,
                "reads": { "read_bytes": 4 << 20, "bytes_s": 6.9e9, "depths": [
                    { "depth": 1, "method": "pread", "bytes_s": 2.4e9 }, { "depth": 8, "method": "uring", "bytes_s": 6.9e9 } ] } },
            "card": null,
            "load": { "model": "DeepSeek-R1-Distill-Qwen-7B", "unit": "tok/s", "every_s": 10,
                "samples": (1..=360).map(sample).collect::<Vec<_>>() },
            "models": [
                fit("DeepSeek-R1-Distill-Qwen-7B", 4_700_000_000, plan, Value::Null),
                fit("DeepSeek-R1", 404_000_000_000, streamed, Value::Null),
                fit("Distill <70B>", 42_500_000_000, Value::Null, json!("needs 43 GB & more")),
            ],
            "notes": ["<script>alert(1)</script>"],
        })
    }

    #[test]
    fn page_and_json_are_written_side_by_side() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("box.html");
        write(&example(), &file).unwrap();
        assert!(fs::read_to_string(&file).unwrap().starts_with("<!DOCTYPE html>"));
        let json = fs::read_to_string(dir.path().join("box.json")).unwrap();
        assert_eq!(json, format!("{:#}\n", example()));
        assert!(write(&example(), &dir.path().join("box.json")).is_err());
    }

    #[test]
    fn who_follows_is_told_what_is_known() {
        let progress = json!({ "step": "load", "seconds_done": 70.0, "seconds_total": 3600.0, "last": null });
        assert_eq!(following(&progress), "load: 70 of 3600 s, processor unknown");
    }
}
