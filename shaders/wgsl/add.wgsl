// out = out + x, [n_tokens, width], width in vectors of four.
struct Add {
    n_tokens: u32,
    width: u32,
}
var<immediate> p: Add;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < p.width {
        let i = id.y * p.width + id.x;
        out[i] += x[i];
    }
}
