// out = silu(gate) * up, [n_tokens, width], width in vectors of four.
struct SwiGlu {
    n_tokens: u32,
    width: u32,
}
var<immediate> p: SwiGlu;

@group(0) @binding(0) var<storage, read> gate: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> up: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.width {
        return;
    }
    let i = id.y * p.width + id.x;
    out[i] = silu(gate[i]) * up[i];
}
