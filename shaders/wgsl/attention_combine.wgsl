// out = sum over splits of e^(max_s - max) values_s / sum over splits of e^(max_s - max) sum_s
//
// parts: [n_splits, rows, width + 1] as `attention` leaves them; out: [rows, width]; widths in vectors of four.
// Source: Dao et al. 2023, "Flash-Decoding for long-context inference".
struct AttentionCombine {
    n_tokens: u32,
    n_splits: u32,
    heads: u32,
    width: u32,
}
var<immediate> p: AttentionCombine;

@group(0) @binding(0) var<storage, read> parts: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y;
    if id.x >= p.width {
        return;
    }
    let rows = p.n_tokens * p.heads;
    var most = parts[row * (p.width + 1u) + p.width].x;
    for (var s = 1u; s < p.n_splits; s++) {
        most = max(most, parts[(s * rows + row) * (p.width + 1u) + p.width].x);
    }
    var sum = 0.0;
    var value = vec4<f32>();
    for (var s = 0u; s < p.n_splits; s++) {
        let part = (s * rows + row) * (p.width + 1u);
        let factor = exp(parts[part + p.width].x - most);
        sum += factor * parts[part + p.width].y;
        value += factor * parts[part + id.x];
    }
    out[row * p.width + id.x] = value / sum;
}
