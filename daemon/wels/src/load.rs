//! From a path on the command line to a model that runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use engine::Speculation;
use model::{Forward, Model, Options, Origin};
use tensor::DType;
use text::{Codec, GgufVocab, Tokenizer};
use tracing::debug;
use weights::{GgufTokenizer, TokenizerFiles, Weights};

use crate::cli::Compute;
use crate::{card, catalogue, machine, streaming};

/// Opens a model to run it: mapped where it fits in memory, else without its routed experts, which stay on the drive.
pub(crate) fn weights_within(path: &Path, compute: &Compute) -> Result<Arc<Weights>> {
    let headers = headers(path)?;
    let weights = if !streaming::has_to(&headers, compute)? {
        headers.mapped().with_context(|| cannot_open(path))
    } else if card::chosen(compute.device).is_some_and(|card| card.shares_memory()) {
        headers.dense_mapped().with_context(|| cannot_open(path))
    } else {
        headers.resident(&mut |_| {}).with_context(|| format!("cannot load the model {}", path.display()))
    };
    Ok(Arc::new(weights?))
}

/// A model's headers alone.
pub(crate) fn headers(path: &Path) -> Result<Weights> {
    expect_there(path)?;
    weights::open_headers(path).with_context(|| cannot_open(path))
}

/// Opens a pack, a GGUF file or a Hugging Face folder.
pub(crate) fn weights(path: &Path) -> Result<Arc<Weights>> {
    expect_there(path)?;
    Ok(Arc::new(weights::open(path).with_context(|| cannot_open(path))?))
}

fn expect_there(path: &Path) -> Result<()> {
    if !path.exists() {
        bail!(
            "{}: no such file or folder; give a pack, a GGUF file or a Hugging Face folder",
            path.display()
        );
    }
    Ok(())
}

fn cannot_open(path: &Path) -> String {
    format!("cannot open the model {}", path.display())
}

/// Binds the weights to a layer loop on the processor; `card` moves it to a graphics card.
pub(crate) fn model(weights: &Arc<Weights>, compute: &Compute, options: Options) -> Result<Model> {
    if compute.threads == Some(0) {
        bail!("--threads 0: at least one thread is needed");
    }
    let skip_share = compute.quality.skip_share();
    let options = Options { threads: compute.threads, pin: compute.pin, skip_share, ..options };
    let cannot = "the model cannot be run";
    let mut model = if weights.is_resident() {
        let options = streaming::options(weights, compute, options);
        let streaming = streaming::streaming(weights, compute, &options)?;
        Model::with_experts(Arc::clone(weights), &options, Origin::Drive(streaming)).context(cannot)
    } else {
        Model::new(Arc::clone(weights), &options).context(cannot)
    }?;
    if let Some(path) = &compute.record_routes {
        let name = display_name(weights, weights.path());
        if !model.record_routes(path, &name)? {
            bail!("--record-routes: this model has no routed experts");
        }
    }
    Ok(model)
}

/// Brings weights that the processor reads from a map into memory while the first requests come: in a thread of its own, which
/// ends with them.
pub(crate) fn bring_in_meanwhile(model: &Model, weights: &Arc<Weights>) {
    if model.card().is_some() {
        return;
    }
    let weights = Arc::downgrade(weights);
    let bring_in = move || {
        let pieces =
            (0..).take_while(|&piece| weights.upgrade().is_some_and(|weights| weights.bring_in(piece)));
        debug!(pieces = pieces.count(), "the mapped weights are in memory");
    };
    if let Err(error) = std::thread::Builder::new().name("weights".to_owned()).spawn(bring_in) {
        debug!(%error, "the mapped weights come as they are read");
    }
}

/// Whether the model's draft layer is to be loaded: where guesses are asked of it, or left to us and all experts stay in
/// memory. (Reading more of them from a drive costs more than a right guess saves.)
pub(crate) fn wants_draft_layer(weights: &Weights, speculation: Speculation) -> bool {
    let wanted = match speculation {
        Speculation::Draft { .. } => true,
        Speculation::Auto => weights.bytes() <= machine::memory().0,
        Speculation::Off | Speculation::Lookup { .. } => false,
    };
    wanted && weights.hyper().n_draft_layers > 0
}

/// The model's tokenizer alone.
pub(crate) fn tokenizer(weights: &Weights) -> Result<Tokenizer> {
    let files = weights.tokenizer().context(
        "this model brings no tokenizer that is read here (Kimi's folders have a tiktoken.model alone); use a GGUF file \
         of the model, or a folder with tokenizer.json",
    )?;
    let tokenizer = match files {
        TokenizerFiles::Json { tokenizer_json, config } => {
            Tokenizer::from_json(tokenizer_json, config.as_deref())
        }
        TokenizerFiles::Gguf(gguf) => Tokenizer::from_gguf(vocab(gguf)),
    };
    tokenizer.context("the model's tokenizer cannot be used")
}

/// Tokenizer and chat template together.
pub(crate) fn codec(weights: &Weights) -> Result<Codec> {
    let mut tokenizer = tokenizer(weights)?;
    tokenizer.add_eos_ids(weights.generation().eos_ids.iter().copied());
    let codec =
        Codec::new(tokenizer, weights.chat_template()).context("the model's chat template cannot be used")?;
    if !codec.has_template() {
        bail!("this model brings no chat template; use an instruction model");
    }
    Ok(codec)
}

/// The same data under the name `text` gives it: `weights` and `text` know nothing of each other.
fn vocab(gguf: &GgufTokenizer) -> GgufVocab {
    let GgufTokenizer { model, pre, tokens, token_types, merges, scores, bos, eos, eot, eom, .. } =
        gguf.clone();
    GgufVocab { model, pre, tokens, token_types, merges, scores, bos, eos, eot, eom, ..GgufVocab::default() }
}

/// The data type most of the weights are in.
pub(crate) fn format(weights: &Weights) -> String {
    let mut bytes = BTreeMap::<DType, usize>::new();
    for tensor in weights.tensors() {
        *bytes.entry(tensor.dtype).or_default() += tensor.data.len();
    }
    bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map_or_else(String::new, |(dtype, _)| dtype.to_string())
}

/// What a model is called: by the catalogue if it is known there, else by itself, else by its file.
pub(crate) fn display_name(weights: &Weights, path: &Path) -> String {
    let hashes: Vec<&str> = weights.source().files.iter().filter_map(|file| file.sha256.as_deref()).collect();
    if let Some(name) = catalogue::name_by_sha256(&hashes) {
        return name;
    }
    let file_name = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    weights.hyper().name.clone().or_else(file_name).unwrap_or_else(|| "model".into())
}

/// The name in the API: lower case, without spaces.
pub(crate) fn model_id(display_name: &str) -> String {
    let clean = |c: char| if c.is_alphanumeric() || ".-_".contains(c) { c.to_ascii_lowercase() } else { '-' };
    display_name.chars().map(clean).collect()
}

/// A step of which nothing may fail.
pub(crate) fn step(
    model: &mut dyn Forward,
    chunks: &[model::Chunk<'_>],
    logits: &mut Vec<f32>,
) -> Result<()> {
    match model.step(chunks, logits)?.into_iter().next() {
        Some(failure) => Err(failure.error.into()),
        None => Ok(()),
    }
}

/// Runs `tokens` through a fresh sequence in steps the model takes, calling `rows(position, logits)` for each step's
/// first position and its rows of logits. Returns the open sequence.
pub(crate) fn prefill(
    model: &mut dyn Forward,
    tokens: &[model::TokenId],
    room: usize,
    step_tokens: usize,
    logits_of: model::LogitsOf,
    mut rows: impl FnMut(usize, &mut [f32]),
) -> Result<model::SeqId> {
    let seq = model.open(room).context("the KV cache is too small for this sequence")?;
    let mut logits = Vec::new();
    let n_chunks = tokens.len().div_ceil(step_tokens);
    for (idx, chunk) in tokens.chunks(step_tokens).enumerate() {
        let last = idx + 1 == n_chunks;
        let wanted =
            if last || logits_of == model::LogitsOf::All { logits_of } else { model::LogitsOf::None };
        step(model, &[model::Chunk { seq, tokens: chunk, logits: wanted }], &mut logits)?;
        rows(idx * step_tokens, &mut logits);
    }
    Ok(seq)
}
