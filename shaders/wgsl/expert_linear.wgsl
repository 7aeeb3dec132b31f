// out[row] = W[expert of the row] x, or gated; for rows whose expert lies on the card. Other rows are left alone.
//
// A row is a choice of a token, top_k a token. table: [n_experts], the expert's slot or NOWHERE; a slot is `slot` vectors of
// weights; choices: (expert, weight); x: a row for `share` rows of out; strides in vectors of four.
struct ExpertLinear {
    n_tokens: u32,
    top_k: u32,
    quads: u32,
    groups: u32,
    row_block: u32,
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
@group(0) @binding(3) var<storage, read> choices: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;

const NOWHERE: u32 = 0xffffffffu;

var<workgroup> partial: array<vec4<f32>, PARTIALS>;

@compute @workgroup_size(QUADS, SPLITS, 1)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let row = wg.y;
    let slot = table[choices[row].x];
    if slot == NOWHERE {
        return;
    }
    let wanted = wg.x * QUADS + local.x;
    let row_quad = min(wanted, p.quads - 1u);
    let lane = row_quad & 3u;
    let at = row / p.share * p.x_stride;
    //@ repeat part: PARTS
    var sum$part = vec4<f32>();
    scale_row = slot * p.scale_slot + (row_quad >> 5u) * p.scale_cols + $partu * p.scale_up;
    let first$part = slot * p.slot + ((row_quad >> 2u) * PARTS + $partu) * p.row_block;
    for (var k = local.y; k < p.groups; k += SPLITS) {
        let g = group(first$part, k, lane);
        let column = at + k * (GROUP_VALUES / 4u);
        //@ repeat i: FOURS
        sum$part += x[column + $iu] * four$i(g);
        //@ end
    }
    //@ end
    if SPLITS > 1u {
        let me = local.y * QUADS + local.x;
        //@ repeat part: PARTS
        partial[$partu * QUADS * SPLITS + me] = sum$part;
        //@ end
        workgroupBarrier();
        if local.y > 0u {
            return;
        }
        for (var split = 1u; split < SPLITS; split++) {
            //@ repeat part: PARTS
            sum$part += partial[($partu * SPLITS + split) * QUADS + local.x];
            //@ end
        }
    }
    if wanted >= p.quads {
        return;
    }
    //@ repeat part: GATED
    sum0 = silu(sum0) * sum$part;
    //@ end
    out[row * p.out_stride + row_quad] = sum0;
}
