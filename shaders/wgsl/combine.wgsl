// out[t] = out[t] + sum over the choices of t whose expert lies on the card: weight rows[choice], in the router's order.
//
// rows: [n_tokens * top_k, width]; choices: (expert, weight as bits); table: [n_experts]; width in vectors of four.
struct Combine {
    n_tokens: u32,
    top_k: u32,
    width: u32,
}
var<immediate> p: Combine;

@group(0) @binding(0) var<storage, read> rows: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> choices: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> table: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

const NOWHERE: u32 = 0xffffffffu;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.width {
        return;
    }
    var sum = out[id.y * p.width + id.x];
    for (var k = 0u; k < p.top_k; k++) {
        let choice = choices[id.y * p.top_k + k];
        if table[choice.x] != NOWHERE {
            sum += bitcast<f32>(choice.y) * rows[(id.y * p.top_k + k) * p.width + id.x];
        }
    }
    out[id.y * p.width + id.x] = sum;
}
