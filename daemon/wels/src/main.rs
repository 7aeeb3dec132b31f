//! `wels`: the daemon and its tools. Wiring only: each command opens what it needs and hands it on.

mod appliance;
mod backup;
mod bench;
mod block;
mod bundle;
mod card;
mod catalogue;
mod chat;
mod cli;
mod console;
mod doctor;
mod eval;
mod health;
mod import;
mod load;
mod machine;
mod measure;
mod plan;
mod progress;
mod pull;
mod replay;
mod serve;
mod size;
mod steward;
mod stick;
mod streaming;
mod tokenize;
mod tree;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

/// Time for an engine to let its model go.
const ENGINE_END_MAX: std::time::Duration = std::time::Duration::from_secs(10);

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.verbose, matches!(cli.command, Command::Serve(_)));
    let result = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Import(args) => import::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Measure(args) => measure::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Tokenize(args) => tokenize::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Pull(args) => pull::run(&args),
        Command::Console(args) => console::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Stick(args) => stick::run(&args),
        Command::Steward(args) => steward::run(&args),
        Command::Bundle(args) => bundle::run(&args),
        Command::Backup(args) => backup::run(&args),
    };
    // Behind the commands, which have let go of what they opened.
    engine::wait_for_end(ENGINE_END_MAX);
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The log goes to stderr: stdout is for results. The daemon tells what it does, the tools only what went wrong.
fn start_log(verbose: u8, daemon: bool) {
    use tracing_subscriber::EnvFilter;
    let default = match verbose {
        0 if daemon => "warn,wels=info,api=info,engine=info,store=info",
        0 => "warn",
        1 => "debug,hyper=info",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("WELS_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let plain =
        std::env::var_os("NO_COLOR").is_some() || !std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(!plain).init();
}
