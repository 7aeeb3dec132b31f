//! `wels health`: the gate between a boot and its blessing. The daemon answers, its store is whole, its model has said a word.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::appliance::{BoxState, ModelState};
use crate::cli::Health;
use crate::serve;

/// Between two looks.
const REST: Duration = Duration::from_secs(2);
/// Time for one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(crate) fn run(args: &Health) -> Result<ExitCode> {
    let start = Instant::now();
    let found = loop {
        match look(args) {
            Err(_) if start.elapsed() + REST < args.within => std::thread::sleep(REST),
            found => break found,
        }
    };
    let found: Result<String> =
        found.with_context(|| format!("not well after {} s", start.elapsed().as_secs()));
    if args.json {
        let reason = found.as_ref().err().map(|error| format!("{error:#}"));
        println!("{}", json!({ "well": found.is_ok(), "reason": reason }));
        return Ok(if found.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    println!("well: {}", found?);
    Ok(ExitCode::SUCCESS)
}

fn look(args: &Health) -> Result<String> {
    // The file is there once the daemon serves.
    let state = BoxState::read(&args.runtime).context("the daemon has not come up")?;
    let agent = ureq::Agent::config_builder().timeout_global(Some(ANSWER_TIME_MAX)).build().new_agent();
    agent.get(format!("{}/healthz", args.url)).call().context("the page does not answer")?;
    let database = serve::state_dir(args.state.as_deref()).join(backup::DATABASE);
    store::check(&database).with_context(|| format!("the store {} is not whole", database.display()))?;
    match state.model {
        ModelState::Ready { name } => Ok(format!("{name} has said a word")),
        ModelState::None => Ok("no model is installed".into()),
        ModelState::Failed { reason } => bail!("the model cannot be served: {reason}"),
    }
}
