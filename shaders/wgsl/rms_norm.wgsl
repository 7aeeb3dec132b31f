// out = w * x / sqrt(mean(x^2) + eps) of some rows; what lies behind the normed part is copied as it is.
//
// x: [.., x_stride]; w: [width]; out: [n_rows, out_stride]; widths in vectors of four. A workgroup has a row.
struct RmsNorm {
    n_rows: u32,
    width: u32,
    tail: u32,
    x_stride: u32,
    out_stride: u32,
    eps: f32,
    // 1: row i of out is row step[rows + i] of x.
    chosen: u32,
    rows: u32,
}
var<immediate> p: RmsNorm;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> step: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

const THREADS: u32 = 64u;

fn run(wg: vec3<u32>, me: u32, subgroup: u32, lane: u32, width: u32) {
    var row = wg.x;
    if p.chosen == 1u {
        row = step[p.rows + wg.x];
    }
    let from_ = row * p.x_stride;
    let to = wg.x * p.out_stride;
    var squares = 0.0;
    for (var i = me; i < p.width; i += THREADS) {
        let v = x[from_ + i];
        squares += dot(v, v);
    }
    let mean = workgroup_sum(squares, me, subgroup, lane, width) / f32(4u * p.width);
    let factor = inverseSqrt(mean + p.eps);
    for (var i = me; i < p.width; i += THREADS) {
        out[to + i] = w[i] * (x[from_ + i] * factor);
    }
    for (var i = p.width + me; i < p.width + p.tail; i += THREADS) {
        out[to + i] = x[from_ + i];
    }
}
