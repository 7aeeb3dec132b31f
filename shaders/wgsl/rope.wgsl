// Rotates a part of every head of every token: pairs (i, i + dim / 2), or neighbours (2i, 2i + 1).
//
// x, out: [n_tokens, heads, head stride], in values; angles: cosine and sine of each pair of each token, [n_tokens, dim / 2, 2].
struct Rope {
    n_tokens: u32,
    heads: u32,
    pairs: u32,
    neighbours: u32,
    x_stride: u32,
    x_head_stride: u32,
    x_offset: u32,
    out_stride: u32,
    out_head_stride: u32,
    out_offset: u32,
    // 1: x is out.
    in_place: u32,
    angles: u32,
}
var<immediate> p: Rope;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> step: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let pair = id.x % p.pairs;
    let head = id.x / p.pairs;
    if head >= p.heads {
        return;
    }
    let first = select(pair, 2u * pair, p.neighbours == 1u);
    let second = select(pair + p.pairs, 2u * pair + 1u, p.neighbours == 1u);
    let from_ = id.y * p.x_stride + head * p.x_head_stride + p.x_offset;
    let to = id.y * p.out_stride + head * p.out_head_stride + p.out_offset;
    var a: f32;
    var b: f32;
    if p.in_place == 1u {
        a = out[to + first];
        b = out[to + second];
    } else {
        a = x[from_ + first];
        b = x[from_ + second];
    }
    let angle = p.angles + (id.y * p.pairs + pair) * 2u;
    let cosine = bitcast<f32>(step[angle]);
    let sine = bitcast<f32>(step[angle + 1u]);
    out[to + first] = a * cosine - b * sine;
    out[to + second] = a * sine + b * cosine;
}
