// out[row] = W[expert of the row] x, or gated; for rows whose expert lies on the card. Other rows are left alone.
//
// A row is a choice of a token, top_k a token. table: [n_experts], the expert's slot or NOWHERE; a slot is `slot` vectors of
// weights, 16 rows of its gate and of its up `part` vectors apart; x: a row for `share` rows of out; strides in vectors of four.
//
// TILED: choices of one expert in turn share what is read of it, as `sort_choices` leaves them. INT8, HALF: activations as
// `quantise_activations` leaves them.
struct ExpertLinear {
    top_k: u32,
    quads: u32,
    groups: u32,
    // Vectors from 16 rows to the next, and from gate to up.
    rows: u32,
    part: u32,
    slot: u32,
    x_stride: u32,
    share: u32,
    out_stride: u32,
    scale_cols: u32,
    // Factors of a slot, and of its first part.
    scale_slot: u32,
    scale_up: u32,
}
var<immediate> p: ExpertLinear;

@group(0) @binding(2) var<storage, read> table: array<u32>;
//@ repeat single: SINGLE
@group(0) @binding(3) var<storage, read> choices: array<vec2<u32>>;
//@ end
//@ repeat tiled: TILED
@group(0) @binding(3) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> order: array<u32>;
//@ end
//@ repeat float: FLOAT
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;
//@ end
//@ repeat half: HALF
@group(0) @binding(4) var<storage, read> halved: array<vec4<f16>>;
@group(0) @binding(7) var<storage, read> factors: array<vec4<f32>>;
//@ end
//@ repeat int8: INT8
@group(0) @binding(4) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> factors: array<vec4<f32>>;
//@ end
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;

const NOWHERE: u32 = 0xffffffffu;

var<workgroup> partial: array<vec4<f32>, PARTIALS>;

@compute @workgroup_size(QUADS, SPLITS, 1)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    //@ repeat single: SINGLE
    let expert = choices[wg.y].x;
    let n = 1u;
    let row0 = wg.y;
    //@ end
    //@ repeat tiled: TILED
    let tile = tiles[wg.y];
    let n = tile.z;
    if n == 0u {
        return;
    }
    let expert = tile.x;
    //@ repeat t: TOKENS
    let row$t = order[tile.y + min($tu, n - 1u)];
    //@ end
    //@ end
    let slot = table[expert];
    if slot == NOWHERE {
        return;
    }
    let wanted = wg.x * QUADS + local.x;
    let row_quad = min(wanted, p.quads - 1u);
    let lane = row_quad & 3u;
    //@ repeat t: TOKENS
    let at$t = row$t / p.share * p.x_stride;
    let group$t = row$t / p.share * p.groups;
    //@ end
    let rows_at = slot * p.slot + (row_quad >> 2u) * p.rows;
    let part_step = p.part;
    let scales_at = slot * p.scale_slot + (row_quad >> 5u) * p.scale_cols;
    //@ include part/sums.wgsl
    //@ repeat t: TOKENS
    if $tu < n {
        out[row$t * p.out_stride + row_quad] = sum0_$t;
    }
    //@ end
}
