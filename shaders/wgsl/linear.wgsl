// out = W x (+ bias), added to out or in its place; or out = silu(W_gate x) * (W_up x), where blocks of 16 rows take turns.
//
// x: [n_tokens, x_stride]; out: [n_tokens, out_stride]; strides and offsets in vectors of four. A thread has four rows and
// TOKENS tokens; SPLITS threads share the rows and divide the columns. A matrix per head reads and writes its head's part.
//
// INT8: activations as `quantise_activations` leaves them, and products of whole numbers, four at a time; without heads.
// HALF: likewise in half floats, of which four products are summed before they are widened.
struct Linear {
    n_tokens: u32,
    // Rows / 4, padded; of the output, so half of the matrix's where gated.
    quads: u32,
    // Groups in a row.
    groups: u32,
    // Vectors that 16 rows take.
    row_block: u32,
    x_stride: u32,
    x_offset: u32,
    x_head_stride: u32,
    out_stride: u32,
    out_offset: u32,
    out_head_stride: u32,
    // Quads of a head; all of them where there are no heads.
    head_quads: u32,
    // 1: add to out. 2: add the bias.
    flags: u32,
    // Factors in a row of `scales`, and the first row's place in a block of 128.
    scale_cols: u32,
    scale_first: u32,
    // Where the factors of W_up begin.
    scale_up: u32,
}
var<immediate> p: Linear;

@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
//@ repeat float: FLOAT
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
//@ end
//@ repeat half: HALF
@group(0) @binding(3) var<storage, read> halved: array<vec4<f16>>;
@group(0) @binding(5) var<storage, read> factors: array<vec4<f32>>;
//@ end
//@ repeat int8: INT8
@group(0) @binding(3) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> factors: array<vec4<f32>>;
//@ end
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;


// Sums of the other splits, and of the gate's before the up's.
var<workgroup> partial: array<vec4<f32>, PARTIALS>;

// Writes a token's values, where there is such a token.
fn store(token: u32, offset: u32, row_quad: u32, value: vec4<f32>) {
    if token >= p.n_tokens {
        return;
    }
    let place = token * p.out_stride + offset;
    var y = value;
    if (p.flags & 2u) != 0u {
        y += bias[row_quad];
    }
    if (p.flags & 1u) != 0u {
        y += out[place];
    }
    out[place] = y;
}

@compute @workgroup_size(QUADS, SPLITS, 1)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let wanted = wg.x * QUADS + local.x;
    let row_quad = min(wanted, p.quads - 1u);
    let lane = row_quad & 3u;
    let head = row_quad / p.head_quads;
    let token = wg.y * TOKENS;
    let from_ = p.x_offset + head * p.x_head_stride;
    //@ repeat t: TOKENS
    let token$t = min(token + $tu, p.n_tokens - 1u);
    let at$t = token$t * p.x_stride + from_;
    let group$t = token$t * p.groups;
    //@ end
    let rows_at = (row_quad >> 2u) * PARTS * p.row_block;
    let part_step = p.row_block;
    let scales_at = ((row_quad * 4u + p.scale_first) >> 7u) * p.scale_cols;
    //@ include part/sums.wgsl
    let offset = p.out_offset + head * p.out_head_stride + row_quad - head * p.head_quads;
    //@ repeat t: TOKENS
    store(token + $tu, offset, row_quad, sum0_$t);
    //@ end
}
