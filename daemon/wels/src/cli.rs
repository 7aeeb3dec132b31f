//! The command line: what can be asked of the daemon, and the words that explain it.

mod appliance;
pub(crate) mod backup;
pub(crate) mod bundle;
mod compute;
mod measure;
mod plan;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use engine::Speculation;
use experts::replay::synthetic::Law;

pub(crate) use self::appliance::{Console, Health, Steward, Stick};
pub(crate) use self::backup::Backup;
pub(crate) use self::bundle::Bundle;
pub(crate) use self::compute::{Compute, Precision};
pub(crate) use self::measure::Measure;
pub(crate) use self::plan::Plan;
use crate::bench::Mixture;

/// Wels: a reasoning model in a box, for the people on your network and nobody else.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// More detail in the log: -v for debug, -vv for trace (or set WELS_LOG, e.g. `WELS_LOG=engine=debug`).
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the page, the OpenAI API and the chats.
    Serve(Serve),
    /// Turn a GGUF file or a Hugging Face folder into a pack, ready to serve.
    ///
    /// Streams with little memory, 20 MB for most models and some 120 MB for R1 in FP8 with its 92,000 tensors, shows
    /// progress, and picks up where it was if it is interrupted: run the same command again.
    Import(Import),
    /// Chat in the terminal.
    Chat(Chat),
    /// Measure prefill and decode speed, beside what was predicted.
    Bench(Bench),
    /// Say what of a model would lie where on a machine, this one or any other, and how fast it would be.
    Plan(Plan),
    /// Measure this machine, and whether it keeps its speed once it is warm.
    Measure(Measure),
    /// Compute logits, likeliest tokens, perplexity and greedy continuations of token sequences.
    Eval(Eval),
    /// Show how text becomes tokens, or how a conversation becomes a prompt.
    Tokenize(Tokenize),
    /// Check this machine and the models on it, and say what to do about what is wrong.
    Doctor(Doctor),
    /// Compare policies and sizes of the cache of experts on a trace of what layers wanted, and choose one.
    Replay(Replay),
    /// Fetch a model of the catalogue from a hub or mirror, resuming where a former try ended.
    Pull(Pull),
    /// The box's own screen: name, addresses, the code that claims it, how it is.
    Console(Console),
    /// Say whether the daemon on this machine is well; waits until it is.
    Health(Health),
    /// Hand a stick that was plugged in to the daemon; the system starts this, as root.
    Stick(Stick),
    /// Do for the daemon what it may not do itself; the system starts this, as root.
    Steward(Steward),
    /// Make, sign, verify, write and install bundles: new models and systems on a stick.
    Bundle(Bundle),
    /// Keep what this box knows in a file, encrypted with a passphrase, and restore it here or on another box.
    Backup(Backup),
}

/// How a model is to be run.
#[derive(Clone, Debug, Args)]
pub(crate) struct Run {
    /// A pack, a GGUF file (any part of a split one) or a Hugging Face folder.
    #[arg(long, value_name = "PATH", env = "WELS_MODEL")]
    pub(crate) model: PathBuf,

    #[command(flatten)]
    pub(crate) compute: Compute,
}

/// What `--draft-tokens` may ask for.
const DRAFT_TOKENS_MAX: i64 = Speculation::TOKENS_MAX as i64;

/// How a step decides several tokens at once.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Speculate {
    /// Guess the next tokens and check them all in one step: the answers stay the same and come faster.
    ///
    /// As many are guessed as pay: none while they are too often wrong.
    #[arg(long, value_enum, default_value_t = Guesses::Auto)]
    pub(crate) speculate: Guesses,

    /// Tokens guessed for an answer in one step at most, with `--speculate lookup` (by default 3) or `draft` (1).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=DRAFT_TOKENS_MAX))]
    pub(crate) draft_tokens: Option<u8>,
}

/// Who guesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Guesses {
    /// Nobody: one token a step.
    Off,
    /// The conversation: what followed these words the last time goes on.
    Lookup,
    /// The model's own draft layer, if it has one.
    Draft,
    /// Lookup where it finds something, else the draft layer, if the whole model fits in memory.
    Auto,
}

impl Guesses {
    /// As the engine calls it, with up to `draft_tokens` guesses for a sequence in a step.
    pub(crate) fn speculation(self, draft_tokens: Option<u8>) -> anyhow::Result<Speculation> {
        let or = |default| draft_tokens.map_or(default, usize::from);
        match self {
            Self::Lookup => Ok(Speculation::Lookup { tokens_max: or(Speculation::LOOKUP_TOKENS) }),
            Self::Draft => Ok(Speculation::Draft { tokens_max: or(Speculation::DRAFT_TOKENS) }),
            Self::Off | Self::Auto if draft_tokens.is_some() => {
                anyhow::bail!("--draft-tokens goes with --speculate lookup or --speculate draft")
            }
            Self::Off => Ok(Speculation::Off),
            Self::Auto => Ok(Speculation::Auto),
        }
    }
}

impl Speculate {
    /// The engine's options, with the guesses asked for.
    pub(crate) fn options(self) -> anyhow::Result<engine::Options> {
        let speculation = self.speculate.speculation(self.draft_tokens)?;
        Ok(engine::Options { speculation, ..engine::Options::default() })
    }
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// A pack, a GGUF file or a Hugging Face folder. Without one the page says that no model is installed.
    #[arg(long, value_name = "PATH", env = "WELS_MODEL")]
    pub(crate) model: Option<PathBuf>,

    /// Where installed models lie: what a bundle installed last is served (see `wels bundle install`).
    ///
    /// A model that cannot be served does not keep the page from being served.
    #[arg(long, value_name = "DIR", env = "WELS_MODELS", conflicts_with = "model")]
    pub(crate) models: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) compute: Compute,

    /// Address to listen on; port 0 takes a free one. Use 0.0.0.0:80 to serve the whole network.
    ///
    /// A socket that systemd hands over is used instead.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,

    /// Where accounts, chats and settings live.
    #[arg(long, value_name = "DIR", env = "WELS_STATE")]
    pub(crate) state: Option<PathBuf>,

    /// Further names this box may be called by, besides its addresses and NAME.local.
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_host: Vec<String>,

    /// Name of this box.
    #[arg(long, default_value = "wels")]
    pub(crate) name: String,

    /// Longest conversation, in tokens; by default what the model allows, up to 32768.
    #[arg(long, value_name = "TOKENS")]
    pub(crate) context: Option<usize>,

    /// Tokens of an answer at most, thoughts included, where the request doesn't say.
    #[arg(long, value_name = "TOKENS", default_value_t = 8192)]
    pub(crate) answer_tokens: usize,

    /// Memory for the conversations in flight, e.g. 4GiB; by default a quarter of what is free.
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse)]
    pub(crate) kv_memory: Option<u64>,

    #[command(flatten)]
    pub(crate) speculate: Speculate,

    /// Let programs on this machine use the OpenAI API without a key.
    #[arg(long)]
    pub(crate) no_api_key: bool,

    /// Print one line of JSON with address and claim code instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// A GGUF file (any part of a split one) or a Hugging Face folder.
    pub(crate) source: PathBuf,
    /// The pack to write; by default the source's name with `.wels` in the current folder.
    pub(crate) dest: Option<PathBuf>,
    /// Take a file that looks like a model of the catalogue and describes itself otherwise.
    #[arg(long)]
    pub(crate) allow_differences: bool,
    /// Replace the pack if it is there already.
    #[arg(long)]
    pub(crate) replace: bool,
    /// Whether routed experts in BF16 or FP8 are stored coded, without loss; block formats (Q4_K and the like) never are.
    #[arg(long, value_enum, default_value_t = Compress::Auto)]
    pub(crate) compress: Compress,
    /// Print one line of JSON at the end instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compress {
    /// Where measurements of this machine's drive and cores say that they are read faster then.
    Auto,
    /// No.
    Never,
    /// Whatever the drive: to save room.
    Always,
}

#[derive(Debug, Args)]
pub(crate) struct Chat {
    #[command(flatten)]
    pub(crate) run: Run,
    #[command(flatten)]
    pub(crate) speculate: Speculate,
    /// A first message from the system.
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Ask this, print the answer and leave.
    #[arg(long, value_name = "TEXT")]
    pub(crate) once: Option<String>,
    /// 0 always takes the likeliest token.
    #[arg(long, default_value_t = 0.6)]
    pub(crate) temperature: f32,
    /// Choose among the likeliest tokens that make up this share.
    #[arg(long, default_value_t = 0.95)]
    pub(crate) top_p: f32,
    /// The same seed gives the same answer.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Tokens of an answer at most.
    #[arg(long, default_value_t = 4096)]
    pub(crate) max_tokens: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// A pack, a GGUF file (any part of a split one) or a Hugging Face folder.
    #[arg(long, value_name = "PATH", env = "WELS_MODEL", required_unless_present = "kernels")]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) compute: Compute,
    /// Arithmetic.
    #[arg(long, value_enum, default_value_t = Precision::Fast)]
    pub(crate) precision: Precision,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 512)]
    pub(crate) prefill: usize,
    /// Tokens to generate.
    #[arg(long, default_value_t = 64)]
    pub(crate) decode: usize,
    /// Tokens in the context when decoding starts.
    #[arg(long, default_value_t = 32)]
    pub(crate) depth: usize,
    /// Sequences decoded together, for each number in the list; guesses are measured with the first.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,4,8", value_parser = sequences())]
    pub(crate) sequences: Vec<usize>,
    /// Also answer two questions greedily, with and without guesses in turn: how much faster, how many were right.
    #[arg(long, value_enum, value_name = "GUESSES")]
    pub(crate) speculate: Option<Guesses>,
    /// Tokens guessed for an answer in one step at most, with `--speculate lookup` (by default 3) or `draft` (1).
    #[arg(long, value_name = "N", requires = "speculate", value_parser = clap::value_parser!(u8).range(1..=DRAFT_TOKENS_MAX))]
    pub(crate) draft_tokens: Option<u8>,
    /// Write the logits behind the prompt's last token, f32, little-endian.
    #[arg(long, value_name = "FILE")]
    pub(crate) logits: Option<PathBuf>,
    /// Measure the kernels on made-up weights instead of a model: every format on the shapes of some models.
    #[arg(long, conflicts_with_all = ["speculate", "logits"])]
    pub(crate) kernels: bool,
    /// With --kernels: only the routed experts of one layer, d_model x d_expert : chosen for a token / in the layer.
    #[arg(long, value_name = "DxW:K/N", requires = "kernels")]
    pub(crate) moe: Option<Mixture>,
    /// Also measure each stage on the graphics card, over a prompt and an answer of their own: where the time goes.
    #[arg(long, conflicts_with = "kernels")]
    pub(crate) profile: bool,
    /// Repetitions; the median counts.
    #[arg(long, default_value_t = 3)]
    pub(crate) repeat: usize,
    /// End with one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Sequences that a step can carry.
fn sequences() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=512)
}

#[derive(Debug, Args)]
pub(crate) struct Eval {
    #[command(flatten)]
    pub(crate) run: Run,
    /// JSON: {"name": [token ids], ...}; by default the sequences of --expect.
    #[arg(long, value_name = "FILE.json", required_unless_present = "expect")]
    pub(crate) tokens: Option<PathBuf>,
    /// Where to write: NAME.logits_last [V], NAME.argmax [T], NAME.next_token_logprob [T-1], NAME.greedy_ids [N].
    #[arg(long, value_name = "FILE.safetensors", required_unless_present = "expect")]
    pub(crate) out: Option<PathBuf>,
    /// What happens inside too: NAME.hidden_layerI [T, d_model], NAME.router_ids and NAME.router_weights [M, T, k] of the M
    /// layers with a router, and with a draft layer NAME.mtp_logits_last [V].
    #[arg(long)]
    pub(crate) trace: bool,
    /// Compare with this: tensors of the same names, and NAME.input_ids [T]. Fails where a number is further off than
    /// --tolerance, or a token or expert is another.
    #[arg(long, value_name = "FILE.safetensors")]
    pub(crate) expect: Option<PathBuf>,
    /// How far numbers may be from the reference. Experts count where the reference's router_margin is larger.
    #[arg(long, default_value_t = 1e-3, requires = "expect")]
    pub(crate) tolerance: f32,
    /// Continue each sequence by this many likeliest tokens (the end-of-text token is not obeyed).
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) greedy: usize,
    /// Arithmetic.
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub(crate) precision: Precision,
    /// Print one line of JSON per sequence instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Tokenize {
    /// A pack, a GGUF file or a Hugging Face folder.
    #[arg(long, value_name = "PATH", env = "WELS_MODEL")]
    pub(crate) model: PathBuf,
    /// JSON: ["text", ...]; prints [[ids...], ...].
    #[arg(
        long = "in",
        value_name = "FILE.json",
        conflicts_with = "messages",
        required_unless_present = "messages"
    )]
    pub(crate) strings: Option<PathBuf>,
    /// Recognise special tokens in the text (by default they are plain text, as in what people type).
    #[arg(long, requires = "strings")]
    pub(crate) special: bool,
    /// JSON: [{"role": "user", "content": "..."}, ...] or {"messages": [...]}; prints the prompt the template makes.
    #[arg(long, value_name = "FILE.json")]
    pub(crate) messages: Option<PathBuf>,
    /// With --messages: leave out the opening of the assistant's turn.
    #[arg(long, requires = "messages")]
    pub(crate) no_generation_prompt: bool,
    /// With --messages: print {"text": ..., "ids": [...]}.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// A pack, a GGUF file or a Hugging Face folder to check in full: every byte is read.
    #[arg(long, value_name = "PATH", env = "WELS_MODEL")]
    pub(crate) model: Option<PathBuf>,
    /// Where accounts, chats and settings live.
    #[arg(long, value_name = "DIR", env = "WELS_STATE")]
    pub(crate) state: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = REPLAY_EXAMPLES)]
pub(crate) struct Replay {
    /// A trace that the daemon recorded.
    #[arg(required_unless_present = "synthetic", conflicts_with = "synthetic")]
    pub(crate) trace: Option<PathBuf>,
    /// Make a trace up instead, by R1's shape and published statistics, or with other numbers for some of layers, experts,
    /// top-k, tokens, prompt, answer, zipf, recency, window, topic, churn and seed.
    #[arg(long, value_name = "NAME=NUMBER,...", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(crate) synthetic: Option<Law>,
    /// Sizes of the cache, in records: a record is one expert of one layer.
    #[arg(long, value_name = "N,...", value_delimiter = ',', conflicts_with = "share")]
    pub(crate) records: Vec<usize>,
    /// Sizes of the cache, in percent of the model's records.
    #[arg(long, value_name = "PERCENT,...", value_delimiter = ',', default_value = "5,10,25,50,75", value_parser = percent)]
    pub(crate) share: Vec<f64>,
    /// Size of a record, e.g. 24.8MB; by default what the trace says.
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse)]
    pub(crate) record_bytes: Option<u64>,
    /// Draw hits by size of the cache, a line a policy.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Write the chosen policy as JSON; asks for one size.
    #[arg(long, value_name = "FILE")]
    pub(crate) choose: Option<PathBuf>,
    /// Print one line of JSON instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}

const REPLAY_EXAMPLES: &str = "\
Examples:
  wels replay box.routes --share 10,25,50 --svg hits.svg
  wels replay box.routes --records 3700 --choose policy.json
  wels replay --synthetic=layers=26,experts=64,top-k=6 --record-bytes 5.2MB";

/// A share of something, above 0.
fn percent(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|&percent| percent > 0.0 && percent <= 100.0);
    percent.ok_or_else(|| format!("{text:?} is no share: above 0, at most 100"))
}

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// A model of the catalogue; without one the catalogue is listed.
    pub(crate) name: Option<String>,
    /// Base address of the hub or mirror; by default what HF_ENDPOINT says.
    #[arg(long, value_name = "URL", env = "HF_ENDPOINT")]
    pub(crate) from: Option<String>,
    /// Folder the files go to; by default the model's name in the current folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
    /// Print one line of JSON at the end instead of words.
    #[arg(long)]
    pub(crate) json: bool,
}
