//! One constructor a stage: shapes in, a dispatch out. Widths are in values here, in vectors of four for the card.

mod experts;

use shaders::{Arithmetic, KvType, Shader, Threads};

use crate::layout::{Binding, Weight};
use crate::recording::{Extent, Recording, Stage, Word};

pub use experts::{
    Chosen, EXPERTS_MAX, ExpertLinear, GROUPS_MAX, Tiles, add, combine, expert_linear, expert_tiles_max,
    route, sort_choices,
};

/// Workgroup of `embedding`.
const EMBEDDING_THREADS: u32 = 16;
/// Workgroup of stages that give a thread four values of a row.
const ROW_THREADS: u32 = 64;
/// Workgroup of `rope` and `kv_write`.
const PART_THREADS: u32 = 32;

fn vec4(values: usize) -> u32 {
    assert!(values.is_multiple_of(4), "widths are whole vectors of four: {values}");
    (values / 4) as u32
}

fn is(n: u32) -> Word {
    Word::Is(n)
}

/// Rows of activations: where, and how far apart.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// The buffer.
    pub at: Binding,
    /// Values from one token's row to the next.
    pub stride: usize,
    /// The first value of the row that counts.
    pub offset: usize,
    /// Values from one head's part to the next; 0 where all heads read the same.
    pub head_stride: usize,
}

impl Rows {
    /// Rows that lie side by side.
    pub fn new(at: Binding, stride: usize) -> Self {
        Self { at, stride, offset: 0, head_stride: 0 }
    }

    /// The same rows from another value on.
    pub fn at_offset(self, offset: usize) -> Self {
        Self { offset, ..self }
    }

    /// The same buffer with narrower rows, side by side.
    pub fn of_width(self, width: usize) -> Self {
        Self { stride: width, ..self }
    }

    /// The same rows, of heads side by side.
    pub fn with_heads(self, head_stride: usize) -> Self {
        Self { head_stride, ..self }
    }

    /// Rows of heads, each `head_stride` values after the last.
    pub fn of_heads(at: Binding, stride: usize, head_stride: usize) -> Self {
        Self { at, stride, offset: 0, head_stride }
    }
}

/// How `linear` runs.
#[derive(Clone, Copy, Debug)]
pub struct Linear<'a> {
    /// The weights; two parts make it gated.
    pub weight: &'a Weight,
    /// Added, [rows].
    pub bias: Option<Binding>,
    /// Matrices, one below the other, each for a head.
    pub heads: usize,
    /// Added to what is there.
    pub add: bool,
    /// Tokens that share what is read of the weights.
    pub tokens: u32,
    /// The workgroup.
    pub threads: Threads,
    /// Over rows that logits are wanted for, instead of all tokens.
    pub wanted: bool,
    /// The activations in fewer bits, of formats that are faster so: computed from x unless they are there.
    pub quantised: Option<Quantised>,
}

impl<'a> Linear<'a> {
    /// Of all tokens, one by one, in f32.
    pub fn new(weight: &'a Weight, threads: Threads) -> Self {
        let (bias, heads, add, tokens, wanted, quantised) = (None, 1, false, 1, false, None);
        Self { weight, bias, heads, add, tokens, threads, wanted, quantised }
    }
}

/// Where a tile's activations in fewer bits lie: codes [n_tokens, cols] and factors [n_tokens, cols / 32, 4].
#[derive(Clone, Copy, Debug)]
pub struct Quantised {
    /// Signed bytes, or half floats.
    pub codes: Binding,
    /// Scales and sums.
    pub factors: Binding,
    /// The card has half floats.
    pub f16: bool,
}

/// What activations of a weight's products are quantised to, if to anything: a group is 32 values.
fn quantised(to: Option<Quantised>, weight: &Weight) -> Option<(Quantised, Arithmetic)> {
    let to = to.filter(|_| weight.shape.cols.is_multiple_of(32))?;
    Some((to, weight.format.fast(to.f16)?))
}

/// codes, factors <- x [n_tokens * rows, cols], unless the last stage that wrote them had the same x and nothing has changed it
/// since.
fn quantise(
    recording: &mut Recording,
    (to, arithmetic): (Quantised, Arithmetic),
    x: Rows,
    rows: usize,
    cols: usize,
) {
    let shader = Shader::QuantiseActivations { half: arithmetic == Arithmetic::F16 };
    let bindings = vec![x.at, to.codes, to.factors];
    let words = vec![Word::Tokens, is((cols / 32) as u32), is(vec4(x.stride)), is(vec4(x.offset))];
    for stage in recording.stages.iter().rev() {
        if matches!(stage.shader, Shader::QuantiseActivations { .. }) {
            if stage.shader == shader && stage.bindings == bindings && stage.words == words {
                return;
            }
            break;
        }
        if stage.writes(x.at) {
            break;
        }
    }
    recording.push(Stage {
        shader,
        words,
        bindings,
        grid: [
            Extent::Is(((cols / 32) as u32).div_ceil(ROW_THREADS)),
            Extent::TokensTimes(rows as u32),
            Extent::Is(1),
        ],
        weight_bytes: 0,
    });
}

/// out = W x: a dispatch for each shard.
pub fn linear(recording: &mut Recording, job: Linear<'_>, x: Rows, out: Rows) {
    let Linear { weight, bias, heads, add, tokens, threads, wanted, .. } = job;
    let (shape, format) = (weight.shape, weight.format);
    let head_rows = shape.rows / heads;
    assert!(head_rows.is_multiple_of(4) || heads == 1, "a head has whole quads");
    let gated = shape.parts == 2;
    let groups = shape.cols / format.group_values();
    let row_block = format.row_block_bytes(shape.cols) / 16;
    let scale_cols = shape.cols.div_ceil(128);
    let (n, per) = match wanted {
        false => (Word::Tokens, Extent::Tokens(tokens)),
        true => (Word::Wanted, Extent::Wanted(tokens)),
    };
    let quantised = quantised(job.quantised.filter(|_| heads == 1 && !wanted), weight);
    if let Some(to) = quantised {
        quantise(recording, to, x, 1, shape.cols);
    }
    for shard in &weight.shards {
        let quads = shard.rows.div_ceil(4) as u32;
        let first_quad = vec4(shard.first_row);
        // A matrix of heads lies in one shard: a head's rows are never cut.
        let head_quads = if heads > 1 { (head_rows / 4) as u32 } else { quads };
        let words = vec![
            n,
            is(quads),
            is(groups as u32),
            is(row_block as u32),
            is(vec4(x.stride)),
            is(vec4(x.offset)),
            is(vec4(x.head_stride)),
            is(vec4(out.stride)),
            is(vec4(out.offset) + first_quad),
            is(vec4(out.head_stride)),
            is(head_quads),
            is(u32::from(add) + 2 * u32::from(bias.is_some())),
            is(scale_cols as u32),
            is(shard.first_row as u32),
            is((shape.rows.div_ceil(128) * scale_cols) as u32),
        ];
        let bias = bias.map_or(x.at, |bias| Binding {
            offset: bias.offset + 4 * shard.first_row as u64,
            bytes: bias.bytes - 4 * shard.first_row as u64,
            ..bias
        });
        let mut bindings = vec![shard.weights, shard.scales.unwrap_or(shard.weights), bias];
        match quantised {
            Some((Quantised { codes, factors, .. }, _)) => bindings.extend([codes, out.at, factors]),
            None => bindings.extend([x.at, out.at]),
        }
        let arithmetic = quantised.map_or(Arithmetic::F32, |(_, arithmetic)| arithmetic);
        recording.push(Stage {
            shader: Shader::Linear { format, tokens, gated, arithmetic, threads },
            words,
            bindings,
            grid: [Extent::Is(quads.div_ceil(threads.quads)), per, Extent::Is(1)],
            weight_bytes: shard.weights.bytes + shard.scales.map_or(0, |scales| scales.bytes),
        });
    }
}

/// Where `embedding` finds token ids.
#[derive(Clone, Copy, Debug)]
pub struct Embedding {
    /// The step's numbers.
    pub step: Binding,
    /// Place of the ids in it.
    pub ids: u32,
}

/// out[t] = row ids[t] of the table: a dispatch for each shard.
pub fn embedding(recording: &mut Recording, table: &Weight, ids: Embedding, out: Rows) {
    let format = table.format;
    let groups = (table.shape.cols / format.group_values()) as u32;
    for shard in &table.shards {
        let words = vec![
            Word::Tokens,
            is(groups),
            is((format.row_block_bytes(table.shape.cols) / 16) as u32),
            is(vec4(out.stride)),
            is(shard.first_row as u32),
            is(shard.rows as u32),
            is(ids.ids),
            is(table.shape.cols.div_ceil(128) as u32),
        ];
        recording.push(Stage {
            shader: Shader::Embedding { format },
            words,
            bindings: vec![shard.weights, shard.scales.unwrap_or(shard.weights), ids.step, out.at],
            grid: [Extent::Is(groups.div_ceil(EMBEDDING_THREADS)), Extent::Tokens(1), Extent::Is(1)],
            weight_bytes: (format.row_block_bytes(table.shape.cols) / 16) as u64,
        });
    }
}

/// out = w * x / sqrt(mean(x^2) + eps), and `tail` values behind the normed ones as they are. With `wanted`, of the rows at
/// that place in the step's numbers.
pub fn rms_norm(
    recording: &mut Recording,
    (w, width, eps): (Binding, usize, f32),
    tail: usize,
    (step, wanted): (Binding, Option<u32>),
    (x, out): (Rows, Rows),
    subgroups: bool,
) {
    let (n, per) = match wanted {
        None => (Word::Tokens, Extent::Tokens(1)),
        Some(_) => (Word::Wanted, Extent::Wanted(1)),
    };
    let words = vec![
        n,
        is(vec4(width)),
        is(vec4(tail)),
        is(vec4(x.stride)),
        is(vec4(out.stride)),
        Word::Float(eps),
        is(u32::from(wanted.is_some())),
        is(wanted.unwrap_or(0)),
    ];
    recording.push(Stage {
        shader: Shader::RmsNorm { subgroups },
        words,
        bindings: vec![x.at, w, step, out.at],
        grid: [per, Extent::Is(1), Extent::Is(1)],
        weight_bytes: 4 * width as u64,
    });
}

/// What `rope` rotates.
#[derive(Clone, Copy, Debug)]
pub struct Rope {
    /// Heads of a token.
    pub heads: usize,
    /// Dimensions rotated.
    pub dim: usize,
    /// Neighbours make a pair, instead of halves.
    pub neighbours: bool,
    /// The step's numbers.
    pub step: Binding,
    /// Place of the angles in it.
    pub angles: u32,
}

/// Rotates a part of every head, from `x` to `out`, or in place.
pub fn rope(recording: &mut Recording, job: Rope, x: Option<Rows>, out: Rows) {
    let Rope { heads, dim, neighbours, step, angles } = job;
    let pairs = (dim / 2) as u32;
    let from = x.unwrap_or(out);
    let words = vec![
        Word::Tokens,
        is(heads as u32),
        is(pairs),
        is(u32::from(neighbours)),
        is(from.stride as u32),
        is(from.head_stride as u32),
        is(from.offset as u32),
        is(out.stride as u32),
        is(out.head_stride as u32),
        is(out.offset as u32),
        is(u32::from(x.is_none())),
        is(angles),
    ];
    let threads = heads as u32 * pairs;
    recording.push(Stage {
        shader: Shader::Rope,
        words,
        bindings: vec![x.map_or(step, |x| x.at), step, out.at],
        grid: [Extent::Is(threads.div_ceil(PART_THREADS)), Extent::Tokens(1), Extent::Is(1)],
        weight_bytes: 0,
    });
}

/// Writes keys or values [n_tokens, heads, width] to the cache.
pub fn kv_write(
    recording: &mut Recording,
    kv: KvType,
    (heads, width): (usize, usize),
    (step, slots): (Binding, u32),
    (x, cache): (Rows, Binding),
) {
    let line = heads as u32 * vec4(width);
    recording.push(Stage {
        shader: Shader::KvWrite { kv },
        words: vec![
            Word::Tokens,
            is(heads as u32),
            is(vec4(width)),
            is(vec4(x.stride)),
            is(vec4(x.offset)),
            is(slots),
        ],
        bindings: vec![x.at, step, cache],
        grid: [Extent::Is(line.div_ceil(PART_THREADS)), Extent::Tokens(1), Extent::Is(1)],
        weight_bytes: 0,
    });
}

/// What attention is over.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key heads.
    pub kv_heads: usize,
    /// Values of a key.
    pub key_dim: usize,
    /// Values of a value.
    pub value_dim: usize,
    /// Values of a value's row in the cache, of which the first count.
    pub value_row: usize,
    /// Factor on the products.
    pub scale: f32,
    /// Of the cache.
    pub kv: KvType,
    /// The step's numbers.
    pub step: Binding,
    /// Places of tiles and positions in it.
    pub tiles: u32,
    /// Of positions.
    pub positions: u32,
}

/// out = softmax(scale q k) v over the cache, in as many splits as the step says.
pub fn attention(
    recording: &mut Recording,
    job: Attention,
    q: Rows,
    (keys, values): (Binding, Binding),
    (out, parts): (Binding, Binding),
) {
    let Attention { heads, kv_heads, key_dim, value_dim, value_row, scale, kv, step, tiles, positions } = job;
    let words = vec![
        Word::Tokens,
        Word::Splits,
        is((heads / kv_heads) as u32),
        is(kv_heads as u32),
        is(vec4(key_dim)),
        is(vec4(value_dim)),
        Word::Float(scale),
        is(tiles),
        is(positions),
        Word::Split,
        is(vec4(value_row)),
        is(vec4(q.stride)),
    ];
    recording.push(Stage {
        shader: Shader::Attention { kv, wide: value_dim > 256 },
        words,
        bindings: vec![q.at, keys, values, step, out, parts],
        grid: [Extent::Tiles, Extent::Is(kv_heads as u32), Extent::Splits],
        weight_bytes: 0,
    });
    let combine = vec![Word::Tokens, Word::Splits, is(heads as u32), is(vec4(value_dim))];
    recording.push(Stage {
        shader: Shader::AttentionCombine,
        words: combine,
        bindings: vec![parts, out],
        grid: [
            Extent::Is(vec4(value_dim).div_ceil(ROW_THREADS)),
            Extent::HeadsIfSplit(heads as u32),
            Extent::Is(1),
        ],
        weight_bytes: 0,
    });
}

/// out [n_wanted] of (place, value) <- the largest of each row of x [n_wanted, width].
pub fn argmax(recording: &mut Recording, width: usize, x: Rows, out: Binding) {
    recording.push(Stage {
        shader: Shader::Argmax,
        words: vec![Word::Wanted, is(width as u32), is(x.stride as u32)],
        bindings: vec![x.at, out],
        grid: [Extent::Wanted(1), Extent::Is(1), Extent::Is(1)],
        weight_bytes: 0,
    });
}

/// out = silu(gate) * up, [n_tokens, width].
pub fn swiglu(recording: &mut Recording, width: usize, gate: Binding, up: Binding, out: Binding) {
    recording.push(Stage {
        shader: Shader::SwiGlu,
        words: vec![Word::Tokens, is(vec4(width))],
        bindings: vec![gate, up, out],
        grid: [Extent::Is(vec4(width).div_ceil(ROW_THREADS)), Extent::Tokens(1), Extent::Is(1)],
        weight_bytes: 0,
    });
}
