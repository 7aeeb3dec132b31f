// Writes each token's keys (or values) to its place in the cache.
//
// x: [n_tokens, stride]; cache: [blocks, heads, width, 32 tokens], widths and strides in vectors of four; the token's place is
// step[slots + t] = block * 32 + position within it.
struct KvWrite {
    n_tokens: u32,
    heads: u32,
    width: u32,
    stride: u32,
    offset: u32,
    slots: u32,
}
var<immediate> p: KvWrite;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> step: array<u32>;
@group(0) @binding(2) var<storage, read_write> cache: array<Kv>;

@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.heads * p.width {
        return;
    }
    let slot = step[p.slots + id.y];
    let line = (slot >> 5u) * p.heads * p.width + id.x;
    cache[line * 32u + (slot & 31u)] = narrow_kv(x[id.y * p.stride + p.offset + id.x]);
}
