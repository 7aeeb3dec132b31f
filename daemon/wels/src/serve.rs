//! `wels serve`: opens what the service needs, puts it together, and ends it in order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use api::{App, Config, GenerationDefaults, ModelInfo, ModelSlot, Recovery, ServedModel};
use listenfd::ListenFd;
use model::{Forward, KvShape, Options, Precision};
use serde_json::json;
use store::Store;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;
use weights::Weights;

use crate::appliance::{self, Board, BoxState, Desk, ModelState, Places, Serving, name, packs, starts};
use crate::cli::{Compute, Serve};
use crate::{card, load, machine, streaming};

/// Longest conversation where nobody says otherwise.
pub(crate) const CONTEXT_DEFAULT: usize = 32_768;

/// Of the free memory, the part that conversations in flight may take.
const KV_SHARE: u64 = 4;
const KV_SHARE_STREAMING: u64 = 8;

pub(crate) fn run(args: Serve) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(args))
}

async fn serve(args: Serve) -> Result<ExitCode> {
    let args = Arc::new(args);
    let state = state_dir(args.state.as_deref());
    std::fs::create_dir_all(&state)
        .with_context(|| format!("cannot make {}; choose another folder with --state", state.display()))?;
    if let Some(restored) = backup::finish_restore(&state).context("a backup that was to be restored")? {
        info!(made_ms = restored.made_ms, "a backup was restored");
    }
    let database = state.join(backup::DATABASE);
    let store = Store::open(&database).with_context(|| format!("cannot open {}", database.display()))?;
    let listener = listener(args.listen).await?;
    let code = store.new_claim_code().await?;
    let board = Board::new(BoxState::new(args.name.clone(), code.clone(), ModelState::None));
    let slot = ModelSlot::default();
    let serving = Serving::new(Arc::clone(&args), slot.clone(), board.clone());
    first_model(&args, &state, &serving).await?;
    let places = Places { models: args.models.clone(), state, runtime: appliance::runtime() };
    let (updates, door) = api::updates(Arc::default());
    let (recovery, end) = (Recovery::default(), CancellationToken::new());
    let desk = Desk::new(places, serving, board.clone(), door, recovery.clone(), end.clone());
    let app = App::new(store.clone(), slot, Some(updates), recovery, config(&args)).await?;
    announce(&args, listener.local_addr()?.to_string(), code.as_deref());
    let beside = [tokio::spawn(appliance::supervise(store, board)), tokio::spawn(desk.attend())];
    api::serve(listener, app, interrupted(end)).await;
    beside.iter().for_each(JoinHandle::abort);
    Ok(ExitCode::SUCCESS)
}

fn config(args: &Serve) -> Config {
    let other_name = name::unique(&args.name);
    let hosts = other_name.iter().flat_map(|name| [name.clone(), format!("{name}.local")]);
    Config {
        box_name: args.name.clone(),
        hosts: args.allow_host.iter().cloned().chain(hosts).collect(),
        require_api_key: !args.no_api_key,
    }
}

/// The socket that systemd hands over, or one of our own.
async fn listener(address: SocketAddr) -> Result<TcpListener> {
    if let Some(handed) = ListenFd::from_env().take_tcp_listener(0).context("the socket handed over")? {
        handed.set_nonblocking(true).context("the socket handed over")?;
        return Ok(TcpListener::from_std(handed)?);
    }
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; is another program there? choose another address with --listen")
    })
}

/// Serves the model that is to be served. One that was named has to work; without one that was installed the box still has a
/// page, which says what is wrong.
async fn first_model(args: &Arc<Serve>, state: &Path, serving: &Serving) -> Result<()> {
    let (args, state, serving) = (Arc::clone(args), state.to_owned(), serving.clone());
    let begin = move || {
        if let Some(path) = &args.model {
            return serving.begin(path);
        }
        let Some(folder) = &args.models else { return Ok(()) };
        let begin = |pack: PathBuf| starts::guard(&state, &pack, || serving.begin(&pack));
        let begun = packs::served(folder).and_then(|pack| pack.map_or(Ok(()), begin));
        if let Err(error) = begun {
            serving.fail(&error);
        }
        Ok(())
    };
    tokio::task::spawn_blocking(begin).await.context("opening the model")?
}

/// Completes when the system, the person at the keyboard or the daemon itself asks the daemon to end.
pub(crate) async fn interrupted(end: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be handled at start");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        () = end.cancelled() => {}
    }
}

pub(crate) fn open_model(path: &Path, args: &Serve) -> Result<ServedModel> {
    let engine_options = args.speculate.options()?;
    let weights = load::weights_within(path, &args.compute)?;
    let codec = load::codec(&weights)?;
    let hyper = weights.hyper();
    let context = args.context.unwrap_or(CONTEXT_DEFAULT).min(hyper.context);
    let draft = load::wants_draft_layer(&weights, engine_options.speculation);
    let shape = KvShape::of(hyper, usize::from(draft));
    let kv_memory = args.kv_memory.unwrap_or_else(|| kv_memory(&weights, &args.compute));
    let kv_tokens = kv_tokens(shape, context, kv_memory)?;
    let options = Options { context, kv_tokens, draft, ..Options::default() };
    let name = load::display_name(&weights, path);
    let compute =
        Compute { expert_profile: Some(profile(args, &load::model_id(&name))), ..args.compute.clone() };
    let mut model = load::model(&weights, &compute, options)?;
    card::or_without(&mut model, &compute)?;
    load::bring_in_meanwhile(&model, &weights);
    let limits = model.limits();
    info!(path = %path.display(), context = limits.context, kv_tokens = limits.kv_tokens, "model loaded");
    Ok(ServedModel {
        id: load::model_id(&name),
        created: created(path),
        engine: engine::start(Box::new(model), engine_options),
        info: model_info(&weights, limits.context),
        defaults: defaults(&weights, args.answer_tokens),
        name,
        codec,
    })
}

/// Where it is kept which experts of a model were used.
fn profile(args: &Serve, model_id: &str) -> PathBuf {
    let asked = args.compute.expert_profile.clone();
    asked.unwrap_or_else(|| state_dir(args.state.as_deref()).join("experts").join(format!("{model_id}.json")))
}

/// Memory for conversations where nobody says how much: a quarter of what is free, or, where experts are read from the drive
/// and want it too, an eighth of what there is for both.
fn kv_memory(weights: &Weights, compute: &Compute) -> u64 {
    if weights.is_resident() {
        let loaded = weights.bytes() - weights.record_bytes();
        streaming::limit(compute).saturating_sub(loaded) / KV_SHARE_STREAMING
    } else {
        machine::memory().1 / KV_SHARE
    }
}

/// Tokens of KV cache: as many as the memory holds.
fn kv_tokens(shape: KvShape, context: usize, memory: u64) -> Result<usize> {
    let bytes = shape.token_bytes(Precision::Fast) as u64;
    let tokens = (memory / bytes.max(1)) as usize;
    if tokens < context.min(2048) {
        let (need, context) = (crate::size::format(bytes * context as u64), context);
        bail!("too little memory for one conversation of {context} tokens ({need}); lower --context");
    }
    // More than a full batch of the longest conversations is never used.
    Ok(tokens.min(context * engine::Options::default().sequences_max))
}

fn model_info(weights: &Weights, context: usize) -> ModelInfo {
    let source = weights.source();
    ModelInfo {
        context,
        bytes: weights.bytes(),
        format: load::format(weights),
        source: source.files.first().map(|file| file.name.clone()).unwrap_or_default(),
    }
}

fn defaults(weights: &Weights, max_tokens: usize) -> GenerationDefaults {
    let (published, default) = (weights.generation(), GenerationDefaults::default());
    GenerationDefaults {
        temperature: published.temperature.unwrap_or(default.temperature),
        top_p: published.top_p.unwrap_or(default.top_p),
        top_k: published.top_k.map_or(default.top_k, |k| k as usize),
        repetition_penalty: published.repetition_penalty.unwrap_or(default.repetition_penalty),
        max_tokens,
    }
}

/// When the model's files were written, unix seconds.
fn created(path: &Path) -> i64 {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified()).unwrap_or(UNIX_EPOCH);
    modified.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs() as i64)
}

/// Where the state is kept: as asked, else the appliance's place where it can be written, else the user's.
pub(crate) fn state_dir(asked: Option<&Path>) -> PathBuf {
    let system = Path::new("/var/lib/wels");
    if let Some(asked) = asked {
        return asked.to_owned();
    }
    let home = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state")));
    match home {
        Some(home) if !system.is_dir() => home.join("wels"),
        _ => system.to_owned(),
    }
}

/// A seed for an answer nobody asked to be repeatable.
pub(crate) fn random_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}

#[expect(clippy::print_stdout, reason = "what the person who started it waits for")]
fn announce(args: &Serve, address: String, code: Option<&str>) {
    let url = format!("http://{address}");
    if args.json {
        println!("{}", json!({ "listening": url, "claim_code": code }));
        return;
    }
    println!("listening on {url}");
    if args.model.is_none() && args.models.is_none() {
        println!("no model: start with --model PATH to chat");
    }
    if let Some(code) = code {
        println!("claim code: {code}");
        println!("open the address in a browser and type the code to make this box yours");
    }
}
