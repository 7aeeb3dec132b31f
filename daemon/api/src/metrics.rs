//! Counters in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use engine::Stats;

use crate::app::App;
use crate::auth::Observer;

/// Seconds from the request to its first token.
const TTFT_BUCKETS_S: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0];

/// Seconds between two tokens.
const INTER_TOKEN_BUCKETS_S: [f64; 12] =
    [0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 5.0];

/// The shortest time over which a speed is taken.
const SPEED_WINDOW_MIN: Duration = Duration::from_secs(1);

/// What the service counts itself; the engine counts its own.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) ttft: Histogram,
    pub(crate) inter_token: Histogram,
    responses: Mutex<BTreeMap<(String, u16), u64>>,
    speed: Mutex<Speed>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            ttft: Histogram::new(TTFT_BUCKETS_S),
            inter_token: Histogram::new(INTER_TOKEN_BUCKETS_S),
            responses: Mutex::default(),
            speed: Mutex::new(Speed { at: Instant::now(), n_generated: 0, tok_s: 0.0 }),
        }
    }
}

impl Metrics {
    /// Counts a response. `route` is a pattern of the route table, so there are few.
    pub(crate) fn count_response(&self, route: &str, status: u16) {
        let mut responses = self.responses.lock().expect("nothing panics while it holds the lock");
        *responses.entry((route.to_owned(), status)).or_default() += 1;
    }

    /// Responses since the start.
    pub(crate) fn responses_total(&self) -> u64 {
        self.responses.lock().expect("nothing panics while it holds the lock").values().sum()
    }

    /// Tokens a second since somebody last asked, a second ago at least.
    pub(crate) fn tok_s(&self, n_generated: u64) -> f64 {
        let mut speed = self.speed.lock().expect("nothing panics while it holds the lock");
        let elapsed = speed.at.elapsed();
        if elapsed >= SPEED_WINDOW_MIN {
            let tok_s = n_generated.saturating_sub(speed.n_generated) as f64 / elapsed.as_secs_f64();
            *speed = Speed { at: Instant::now(), n_generated, tok_s };
        }
        speed.tok_s
    }

    fn render(&self, stats: Option<Stats>, uptime: Duration) -> String {
        let mut out = String::new();
        family(&mut out, "wels_build_info", "gauge", "Version of the daemon.");
        line(&mut out, "wels_build_info", &format!("version=\"{}\"", env!("CARGO_PKG_VERSION")), 1);
        family(&mut out, "wels_uptime_seconds", "gauge", "Time since the start.");
        line(&mut out, "wels_uptime_seconds", "", uptime.as_secs());
        family(&mut out, "wels_http_responses_total", "counter", "Responses by route and status.");
        for ((route, status), count) in self.responses.lock().expect("no panic under this lock").iter() {
            let labels = format!("route=\"{route}\",status=\"{status}\"");
            line(&mut out, "wels_http_responses_total", &labels, count);
        }
        if let Some(stats) = stats {
            render_engine(&mut out, &stats);
        }
        self.ttft.render(&mut out, "wels_ttft_seconds", "From the request to its first token.");
        self.inter_token.render(&mut out, "wels_inter_token_seconds", "Between two tokens of a request.");
        out
    }
}

#[derive(Debug)]
struct Speed {
    at: Instant,
    n_generated: u64,
    tok_s: f64,
}

fn render_engine(out: &mut String, stats: &Stats) {
    let gauges = [
        ("wels_requests_running", "Requests in the batch.", stats.running as u64),
        ("wels_requests_waiting", "Requests in the queue.", stats.waiting as u64),
        ("wels_requests_waiting_max", "Requests the queue holds.", stats.waiting_max as u64),
        ("wels_kv_tokens_used", "Tokens of KV cache reserved.", stats.kv_tokens_used as u64),
        ("wels_kv_tokens_total", "Tokens of KV cache there are.", stats.kv_tokens_total as u64),
    ];
    let counters = [
        ("wels_requests_total", "Requests accepted.", stats.requests_total),
        ("wels_requests_finished_total", "Requests that ended by themselves.", stats.finished_total),
        ("wels_requests_cancelled_total", "Requests whose client left.", stats.cancelled_total),
        ("wels_requests_failed_total", "Requests that failed.", stats.failed_total),
        ("wels_prompt_tokens_total", "Prompt tokens computed.", stats.prompt_tokens_total),
        ("wels_generated_tokens_total", "Tokens generated.", stats.generated_tokens_total),
        ("wels_steps_total", "Steps of the engine.", stats.steps_total),
    ];
    render_rows(out, "gauge", &gauges);
    render_rows(out, "counter", &counters);
    if let Some(streaming) = &stats.streaming {
        render_streaming(out, streaming);
    }
    let sources = [("lookup", stats.lookup), ("draft", stats.draft_layer)];
    let drafted = sources.map(|(source, drafts)| (source, drafts.drafted_total));
    let accepted = sources.map(|(source, drafts)| (source, drafts.accepted_total));
    for (name, help, by_source) in [
        ("wels_draft_tokens_total", "Tokens guessed, by source.", drafted),
        ("wels_draft_tokens_accepted_total", "Guesses that came true, by source.", accepted),
    ] {
        family(out, name, "counter", help);
        for (source, value) in by_source {
            line(out, name, &format!("source=\"{source}\""), value);
        }
    }
}

/// Experts read from the drive.
fn render_streaming(out: &mut String, stats: &engine::Streamed) {
    let counters = [
        ("wels_experts_hits_total", "Experts wanted that were in memory.", stats.hits),
        ("wels_experts_misses_total", "Experts wanted that were not.", stats.misses),
        ("wels_experts_reads_total", "Reads of experts.", stats.reads),
        ("wels_experts_read_bytes_total", "Bytes of experts read.", stats.bytes_read),
        ("wels_experts_read_retries_total", "Reads repeated after an error.", stats.retries),
        (
            "wels_experts_checksum_failures_total",
            "Reads that gave other bytes than were written.",
            stats.checksum_failures,
        ),
        ("wels_experts_repairs_total", "Records written again from another copy.", stats.repairs),
        ("wels_experts_failures_total", "Experts that could not be read.", stats.failures),
        ("wels_experts_prefetches_total", "Reads of guesses.", stats.prefetches),
        ("wels_experts_prefetch_hits_total", "Guesses that were wanted.", stats.prefetch_hits),
        ("wels_experts_skipped_total", "Choices left out by a lossy mode.", stats.skipped),
    ];
    let seconds = [
        ("wels_experts_read_seconds_total", "Time with a read under way.", stats.busy.as_secs_f64()),
        ("wels_experts_stall_seconds_total", "Time waited for reads.", stats.stalled.as_secs_f64()),
    ];
    let gauges = [
        ("wels_experts_reads_in_flight", "Reads under way.", stats.in_flight),
        ("wels_experts_memory_bytes", "Memory that holds experts.", stats.slot_bytes),
    ];
    render_rows(out, "counter", &counters);
    render_rows(out, "counter", &seconds);
    render_rows(out, "gauge", &gauges);
}

/// Families of a single value: name, help, value.
fn render_rows(out: &mut String, kind: &str, rows: &[(&str, &str, impl std::fmt::Display)]) {
    for (name, help, value) in rows {
        family(out, name, kind, help);
        line(out, name, "", value);
    }
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("writing to memory");
}

fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    writeln!(out, "{name}{labels} {value}").expect("writing to memory");
}

/// Counts of durations up to each bound, cumulative only when rendered.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds_s: [f64; 12],
    counts: [AtomicU64; 13],
    sum_us: AtomicU64,
}

impl Histogram {
    fn new(bounds_s: [f64; 12]) -> Self {
        Self { bounds_s, counts: Default::default(), sum_us: AtomicU64::new(0) }
    }

    pub(crate) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = self.bounds_s.iter().position(|&bound| seconds <= bound).unwrap_or(self.bounds_s.len());
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(duration.as_micros() as u64, Ordering::Relaxed);
    }

    fn render(&self, out: &mut String, name: &str, help: &str) {
        family(out, name, "histogram", help);
        let mut total = 0;
        for (idx, count) in self.counts.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            let bound = self.bounds_s.get(idx).map_or_else(|| "+Inf".into(), f64::to_string);
            line(out, &format!("{name}_bucket"), &format!("le=\"{bound}\""), total);
        }
        line(out, &format!("{name}_sum"), "", self.sum_us.load(Ordering::Relaxed) as f64 / 1e6);
        line(out, &format!("{name}_count"), "", total);
    }
}

/// `GET /metrics`.
pub(crate) async fn show(State(app): State<App>, _: Observer) -> impl IntoResponse {
    let stats = app.slot.get().map(|model| model.engine.stats());
    let text = app.metrics.render(stats, app.started.elapsed());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

/// `GET /healthz`: the process answers; whether a model does is in the body.
pub(crate) async fn health(State(app): State<App>) -> impl IntoResponse {
    let model = if app.slot.get().is_some() { "ready" } else { "none" };
    axum::Json(serde_json::json!({ "status": "ok", "model": model }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let histogram = Histogram::new(TTFT_BUCKETS_S);
        for ms in [10, 60, 70, 500_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let mut out = String::new();
        histogram.render(&mut out, "t", "help");
        assert!(out.contains("t_bucket{le=\"0.05\"} 1\nt_bucket{le=\"0.1\"} 3\n"), "{out}");
        assert!(out.contains("t_bucket{le=\"+Inf\"} 4\n") && out.contains("t_count 4\n"), "{out}");
    }
}
