//! Variants of stages, and their source.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::format::Format;

/// How a stage uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// It reads.
    Read,
    /// It reads and writes.
    Write,
}

/// How the cache stores keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvType {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
}

/// How the threads of a workgroup share a matrix: each has four rows, and one of `splits` parts of the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Threads {
    /// Threads side by side, four rows each.
    pub quads: u32,
    /// Threads that share rows.
    pub splits: u32,
}

/// Tokens that a tile of a long prompt has.
pub const TILE_TOKENS: u32 = 8;

/// What products are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// Single precision.
    F32,
    /// Whole numbers, four at a time: activations in 8 bits, weights of formats with whole codes.
    Int8,
    /// Half precision, summed up by fours: activations in 16 bits, weights of F16 and FP8.
    F16,
}

/// One variant of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shader {
    /// out = W x, or silu(W_gate x) * (W_up x).
    Linear {
        /// Of the weights.
        format: Format,
        /// Tokens that share what is read of the weights.
        tokens: u32,
        /// Gate and up in one.
        gated: bool,
        /// Of the products.
        arithmetic: Arithmetic,
        /// The workgroup.
        threads: Threads,
    },
    /// Activations in 8 bits, or in 16.
    QuantiseActivations {
        /// Half floats.
        half: bool,
    },
    /// Rows of a table.
    Embedding {
        /// Of the table.
        format: Format,
    },
    /// RMSNorm.
    RmsNorm {
        /// Sums by subgroups, or through shared memory.
        subgroups: bool,
    },
    /// Rotary positions.
    Rope,
    /// Keys or values into the cache.
    KvWrite {
        /// Of the cache.
        kv: KvType,
    },
    /// Flash attention.
    Attention {
        /// Of the cache.
        kv: KvType,
        /// Values wider than 256: latent attention.
        wide: bool,
    },
    /// Joins the splits of attention.
    AttentionCombine,
    /// silu(gate) * up.
    SwiGlu,
    /// A residual.
    Add,
    /// Experts of a token.
    Route,
    /// Choices by expert, in tiles.
    SortChoices,
    /// [`Linear`](Self::Linear) with each row's own expert.
    ExpertLinear {
        /// Of the weights.
        format: Format,
        /// Choices that share what is read of the weights: one, or tiles of [`SortChoices`](Self::SortChoices).
        tokens: u32,
        /// Gate and up in one.
        gated: bool,
        /// Of the products.
        arithmetic: Arithmetic,
        /// The workgroup.
        threads: Threads,
    },
    /// Sums of experts' results.
    Combine,
    /// The likeliest token.
    Argmax,
}

use Access::{Read, Write};

impl Arithmetic {
    fn label(self) -> &'static str {
        match self {
            Self::F32 => "",
            Self::Int8 => ", 8 bits",
            Self::F16 => ", half floats",
        }
    }
}

impl Shader {
    /// Every variant, with a few workgroups of those that come in many.
    pub fn all() -> Vec<Self> {
        let kvs = [KvType::F32, KvType::F16];
        let mut all = vec![
            Self::Rope,
            Self::AttentionCombine,
            Self::SwiGlu,
            Self::Add,
            Self::Route,
            Self::SortChoices,
            Self::Combine,
            Self::Argmax,
        ];
        all.extend([true, false].map(|subgroups| Self::RmsNorm { subgroups }));
        all.extend([true, false].map(|half| Self::QuantiseActivations { half }));
        for kv in kvs {
            all.push(Self::KvWrite { kv });
            all.extend([true, false].map(|wide| Self::Attention { kv, wide }));
        }
        for format in Format::all() {
            all.push(Self::Embedding { format });
            for gated in [false, true] {
                for (tokens, splits) in [(1, 1), (1, 8), (TILE_TOKENS, 1)] {
                    let threads = Threads { quads: 8, splits };
                    for arithmetic in format.arithmetics(tokens) {
                        all.push(Self::Linear { format, tokens, gated, arithmetic, threads });
                        all.push(Self::ExpertLinear { format, tokens, gated, arithmetic, threads });
                    }
                }
            }
        }
        all
    }

    /// The stage's name: its file, its twin, its label.
    pub fn stage(self) -> &'static str {
        match self {
            Self::Linear { .. } => "linear",
            Self::QuantiseActivations { .. } => "quantise_activations",
            Self::Embedding { .. } => "embedding",
            Self::RmsNorm { .. } => "rms_norm",
            Self::Rope => "rope",
            Self::KvWrite { .. } => "kv_write",
            Self::Attention { .. } => "attention",
            Self::AttentionCombine => "attention_combine",
            Self::SwiGlu => "swiglu",
            Self::Add => "add",
            Self::Route => "route",
            Self::SortChoices => "sort_choices",
            Self::ExpertLinear { .. } => "expert_linear",
            Self::Combine => "combine",
            Self::Argmax => "argmax",
        }
    }

    /// The stage and what distinguishes its variants, for people.
    pub fn label(self) -> String {
        match self {
            Self::Linear { format, tokens, gated, arithmetic, .. }
            | Self::ExpertLinear { format, tokens, gated, arithmetic, .. } => {
                let gated = if gated { "gated " } else { "" };
                let kind = self.stage().replace('_', " ");
                format!("{gated}{kind} {}{}, tiles of {tokens}", format.dtype(), arithmetic.label())
            }
            Self::Embedding { format } => format!("embedding {}", format.dtype()),
            _ => self.stage().to_owned(),
        }
    }

    /// Its bindings, in order.
    pub fn bindings(self) -> &'static [Access] {
        match self {
            Self::Linear { arithmetic: Arithmetic::F32, .. } => &[Read, Read, Read, Read, Write],
            Self::Linear { .. } => &[Read, Read, Read, Read, Write, Read],
            Self::QuantiseActivations { .. } => &[Read, Write, Write],
            Self::Attention { .. } => &[Read, Read, Read, Read, Write, Write],
            Self::ExpertLinear { tokens: 1, .. } => &[Read, Read, Read, Read, Read, Write],
            Self::ExpertLinear { arithmetic: Arithmetic::F32, .. } => {
                &[Read, Read, Read, Read, Read, Write, Read]
            }
            Self::ExpertLinear { .. } => &[Read, Read, Read, Read, Read, Write, Read, Read],
            Self::SortChoices => &[Read, Write, Write],
            Self::Embedding { .. } | Self::RmsNorm { .. } | Self::Combine => &[Read, Read, Read, Write],
            Self::Rope | Self::KvWrite { .. } | Self::SwiGlu | Self::Route => &[Read, Read, Write],
            Self::AttentionCombine | Self::Add | Self::Argmax => &[Read, Write],
        }
    }

    /// The whole source.
    ///
    /// # Panics
    /// [`reload_from`] was given a folder that lacks a file: a programmer's error.
    pub fn source(self) -> String {
        let mut source = if self.needs_f16() { "enable f16;\n".to_owned() } else { String::new() };
        source.push_str(&self.constants());
        for file in self.files() {
            source.push_str(&repeated(&included(&text(file)), &self.counts()));
        }
        source
    }

    /// Whether a card needs half floats for it.
    pub fn needs_f16(self) -> bool {
        match self {
            Self::Linear { arithmetic, .. } | Self::ExpertLinear { arithmetic, .. } => {
                arithmetic == Arithmetic::F16
            }
            Self::QuantiseActivations { half } => half,
            _ => false,
        }
    }

    /// What `//@ repeat` calls by name, and how often.
    fn counts(self) -> Vec<(&'static str, Range<u32>)> {
        let once = |is: bool| 0..u32::from(is);
        let fours = |format: Format| ("FOURS", 0..format.group_values() as u32 / 4);
        match self {
            Self::Linear { format, tokens, gated, arithmetic, .. }
            | Self::ExpertLinear { format, tokens, gated, arithmetic, .. } => {
                let parts = 1 + u32::from(gated);
                vec![
                    fours(format),
                    ("TOKENS", 0..tokens),
                    ("SINGLE", once(tokens == 1)),
                    ("TILED", once(tokens > 1)),
                    ("PARTS", 0..parts),
                    ("GATED", 1..parts),
                    ("FLOAT", once(arithmetic == Arithmetic::F32)),
                    ("INT8", once(arithmetic == Arithmetic::Int8)),
                    ("HALF", once(arithmetic == Arithmetic::F16)),
                ]
            }
            Self::QuantiseActivations { half } => vec![("INT8", once(!half)), ("HALF", once(half))],
            Self::Embedding { format } => vec![fours(format)],
            _ => Vec::new(),
        }
    }

    fn constants(self) -> String {
        let mut out = String::new();
        let mut constant = |name: &str, value: u32| {
            writeln!(out, "const {name}: u32 = {value}u;").expect("a string takes it");
        };
        match self {
            Self::Linear { tokens, gated, threads, .. }
            | Self::ExpertLinear { tokens, gated, threads, .. } => {
                let Threads { quads, splits } = threads;
                let parts = 1 + u32::from(gated);
                let partials = if splits > 1 { parts * tokens * quads * splits } else { 1 };
                let values = [
                    ("TOKENS", tokens),
                    ("PARTS", parts),
                    ("QUADS", quads),
                    ("SPLITS", splits),
                    ("PARTIALS", partials),
                ];
                values.into_iter().for_each(|(name, value)| constant(name, value));
            }
            Self::Attention { wide, .. } => constant("ACCS", if wide { 16 } else { 8 }),
            Self::SortChoices => constant("TILE", TILE_TOKENS),
            _ => {}
        }
        out
    }

    fn files(self) -> Vec<&'static str> {
        let with_format = |format: Format, stage| {
            let (needs, file) = format.files();
            [&["part/weights.wgsl", "part/silu.wgsl"], needs, &[file, stage]].concat()
        };
        let with_products = |format: Format, arithmetic, stage| {
            let with = with_format(format, stage);
            match arithmetic {
                Arithmetic::F32 => with,
                Arithmetic::Int8 => [&["part/products.wgsl"], with.as_slice()].concat(),
                Arithmetic::F16 => [&[format.halves()], with.as_slice()].concat(),
            }
        };
        let kv_file = |kv| match kv {
            KvType::F32 => "part/kv_f32.wgsl",
            KvType::F16 => "part/kv_f16.wgsl",
        };
        match self {
            Self::Linear { format, arithmetic, .. } => with_products(format, arithmetic, "linear.wgsl"),
            Self::Embedding { format } => with_format(format, "embedding.wgsl"),
            Self::RmsNorm { subgroups } => with_sum(subgroups, "rms_norm.wgsl"),
            Self::QuantiseActivations { .. } => vec!["quantise_activations.wgsl"],
            Self::Rope => vec!["rope.wgsl"],
            Self::KvWrite { kv } => vec![kv_file(kv), "kv_write.wgsl"],
            Self::Attention { kv, .. } => vec![kv_file(kv), "attention.wgsl"],
            Self::AttentionCombine => vec!["attention_combine.wgsl"],
            Self::SwiGlu => vec!["part/silu.wgsl", "swiglu.wgsl"],
            Self::Add => vec!["add.wgsl"],
            Self::Route => vec!["route.wgsl"],
            Self::SortChoices => vec!["sort_choices.wgsl"],
            Self::ExpertLinear { format, arithmetic, .. } => {
                with_products(format, arithmetic, "expert_linear.wgsl")
            }
            Self::Combine => vec!["combine.wgsl"],
            Self::Argmax => vec!["argmax.wgsl"],
        }
    }
}

/// Puts the text of a file in the place of each line `//@ include FILE`.
fn included(source: &str) -> String {
    let line = |line: &str| match line.trim().strip_prefix("//@ include ") {
        Some(file) => text(file),
        None => format!("{line}\n"),
    };
    source.lines().map(line).collect()
}

/// Writes lines between `//@ repeat NAMES: VALUES` and its `//@ end` once for each comma-separated set of values, which take
/// the place of `$NAME`. Instead of values there may be one name of `counts`.
///
/// Not every driver unrolls a loop: on llvmpipe an array that is indexed by one costs eight times the time.
fn repeated(source: &str, counts: &[(&str, Range<u32>)]) -> String {
    let mut out = String::with_capacity(4 * source.len());
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let head = line.trim().strip_prefix("//@ repeat ").and_then(|head| head.split_once(": "));
        let Some((names, values)) = head else {
            out.extend([line, "\n"]);
            continue;
        };
        let body = body(&mut lines);
        let counted = counts.iter().find(|(name, _)| *name == values);
        let sets: Vec<String> = match counted {
            Some((_, range)) => range.clone().map(|i| i.to_string()).collect(),
            None => values.split(", ").map(str::to_owned).collect(),
        };
        for set in sets {
            let pairs = names.split(' ').zip(set.split(' '));
            let text =
                pairs.fold(body.clone(), |text, (name, value)| text.replace(&format!("${name}"), value));
            out.push_str(&repeated(&text, counts));
        }
    }
    out
}

/// Lines up to the `//@ end` of the repetition that has begun.
fn body(lines: &mut std::str::Lines<'_>) -> String {
    let (mut body, mut depth) = (String::new(), 1);
    for line in lines {
        depth += i32::from(line.trim().starts_with("//@ repeat")) - i32::from(line.trim() == "//@ end");
        if depth == 0 {
            break;
        }
        body.extend([line, "\n"]);
    }
    body
}

/// A stage that sums over its workgroup.
fn with_sum(subgroups: bool, stage: &'static str) -> Vec<&'static str> {
    match subgroups {
        true => vec!["part/sum_subgroup.wgsl", "part/entry_subgroup.wgsl", stage],
        false => vec!["part/sum_shared.wgsl", "part/entry_shared.wgsl", stage],
    }
}

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Reads the files from this folder from here on instead of from the binary: for who works on them. The first folder counts.
pub fn reload_from(folder: PathBuf) {
    let _ = FOLDER.set(folder);
}

fn text(file: &str) -> String {
    if let Some(folder) = FOLDER.get() {
        let path = folder.join(file);
        return std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    built_in(file).to_owned()
}

macro_rules! files {
    ($($file:literal),* $(,)?) => {
        /// A file's text, from the binary.
        fn built_in(file: &str) -> &'static str {
            match file {
                $($file => include_str!(concat!("../wgsl/", $file)),)*
                _ => unreachable!("{file} is listed"),
            }
        }
    };
}

files! {
    "add.wgsl",
    "argmax.wgsl",
    "attention.wgsl",
    "combine.wgsl",
    "expert_linear.wgsl",
    "route.wgsl",
    "attention_combine.wgsl",
    "embedding.wgsl",
    "format/bf16.wgsl",
    "format/f16.wgsl",
    "format/f32.wgsl",
    "format/f8_e4m3.wgsl",
    "format/halves/f16.wgsl",
    "format/halves/f8_e4m3.wgsl",
    "format/iq4_nl.wgsl",
    "format/iq4_xs.wgsl",
    "format/q2_k.wgsl",
    "format/q3_k.wgsl",
    "format/q4_0.wgsl",
    "format/q4_1.wgsl",
    "format/q4_k.wgsl",
    "format/q5_0.wgsl",
    "format/q5_1.wgsl",
    "format/q5_k.wgsl",
    "format/q6_k.wgsl",
    "format/q8_0.wgsl",
    "kv_write.wgsl",
    "linear.wgsl",
    "part/codes.wgsl",
    "part/entry_shared.wgsl",
    "part/entry_subgroup.wgsl",
    "part/iq4_values.wgsl",
    "part/k_scales.wgsl",
    "part/kv_f16.wgsl",
    "part/kv_f32.wgsl",
    "part/products.wgsl",
    "part/silu.wgsl",
    "part/sums.wgsl",
    "part/sum_shared.wgsl",
    "part/sum_subgroup.wgsl",
    "part/weights.wgsl",
    "quantise_activations.wgsl",
    "rms_norm.wgsl",
    "rope.wgsl",
    "sort_choices.wgsl",
    "swiglu.wgsl",
}
