//! The box at a glance, for the admin.

use std::fs;

use axum::Json;
use axum::extract::State;
use engine::Stats;
use serde_json::{Value, json};

use crate::app::App;
use crate::auth::Admin;
use crate::outbound;

/// `GET /api/admin/status`.
pub(crate) async fn show(State(app): State<App>, _: Admin) -> Json<Value> {
    let stats = app.slot.get().map(|model| model.engine.stats());
    let engine = stats.map(|stats| {
        json!({ "running": stats.running, "waiting": stats.waiting, "kv_used": stats.kv_tokens_used,
            "kv_total": stats.kv_tokens_total, "tok_s": app.metrics.tok_s(stats.generated_tokens_total) })
    });
    let idle = || json!({ "running": 0, "waiting": 0, "kv_used": 0, "kv_total": 0, "tok_s": 0.0 });
    Json(json!({
        "uptime_s": app.started.elapsed().as_secs(),
        "engine": engine.unwrap_or_else(idle),
        "memory": memory(),
        "streaming": stats.and_then(|stats| streaming(&stats)),
        "notice": app.slot.get().and_then(|model| model.engine.notice()).map(|notice| notice.reason),
        "requests_total": app.metrics.responses_total(),
        "outbound_connections": outbound::connections(),
    }))
}

/// Experts read from the drive; `None` where the model is in memory.
fn streaming(stats: &Stats) -> Option<Value> {
    let streamed = stats.streaming?;
    let computed_s = (stats.step_us_total as f64 / 1e6).max(f64::MIN_POSITIVE);
    Some(json!({
        "hits": streamed.hits, "misses": streamed.misses, "read_bytes_s": streamed.read_bytes_s(),
        "stalled_share": streamed.stalled.as_secs_f64() / computed_s, "in_flight": streamed.in_flight,
        "memory_bytes": streamed.slot_bytes, "failures": streamed.failures,
    }))
}

/// Memory of the box and of this process. What the kernel doesn't tell is left out.
fn memory() -> Value {
    let of = |path: &str, field: &str| kib_field(&fs::read_to_string(path).ok()?, field);
    let total = of("/proc/meminfo", "MemTotal:");
    let available = of("/proc/meminfo", "MemAvailable:");
    let used = total.zip(available).map(|(total, available)| total.saturating_sub(available));
    json!({ "total_bytes": total, "used_bytes": used, "rss_bytes": of("/proc/self/status", "VmRSS:") })
}

/// `MemTotal:    1024 kB` -> 1048576.
fn kib_field(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_kilobytes_become_bytes() {
        assert_eq!(kib_field("A: 1 kB\nMemTotal:    1024 kB\n", "MemTotal:"), Some(1 << 20));
        assert_eq!(kib_field("", "MemTotal:"), None);
        assert!(memory()["rss_bytes"].as_u64().unwrap() > 0);
    }
}
