// Activations in 8 bits, by 32: scale = max|x| / 127, code = x / scale, rounded to the nearest. HALF: as half floats within -1
// and 1, scale = max|x|.
//
// x: [n_tokens, stride]; codes: [n_tokens, groups, 2] of 16 signed bytes; factors: [n_tokens, groups] of (scale, scale times the
// sum of the first 16 codes, of the last 16, 0); strides in vectors of four. A thread has a group.
struct Quantise {
    n_tokens: u32,
    groups: u32,
    stride: u32,
    offset: u32,
}
var<immediate> p: Quantise;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
//@ repeat int8: INT8
@group(0) @binding(1) var<storage, read_write> codes: array<vec4<u32>>;
//@ end
//@ repeat half: HALF
// [n_tokens, groups, 8]
@group(0) @binding(1) var<storage, read_write> codes: array<vec4<f16>>;
//@ end
@group(0) @binding(2) var<storage, read_write> factors: array<vec4<f32>>;

fn most(v: vec4<f32>) -> f32 {
    let a = abs(v);
    return max(max(a.x, a.y), max(a.z, a.w));
}

fn word(v: vec4<f32>) -> u32 {
    return pack4xI8(vec4<i32>(v));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.groups {
        return;
    }
    let at = id.y * p.stride + p.offset + id.x * 8u;
    var largest = 0.0;
    //@ repeat i: 0, 1, 2, 3, 4, 5, 6, 7
    let v$i = x[at + $iu];
    largest = max(largest, most(v$i));
    //@ end
    let place = id.y * p.groups + id.x;
    //@ repeat half: HALF
    let inverse = select(1.0 / largest, 0.0, largest == 0.0);
    //@ repeat i: 0, 1, 2, 3, 4, 5, 6, 7
    codes[8u * place + $iu] = vec4<f16>(v$i * inverse);
    //@ end
    factors[place] = vec4<f32>(largest, 0.0, 0.0, 0.0);
    //@ end
    //@ repeat int8: INT8
    let scale = largest / 127.0;
    let inverse = select(1.0 / scale, 0.0, scale == 0.0);
    //@ repeat i: 0, 1, 2, 3, 4, 5, 6, 7
    let c$i = clamp(round(v$i * inverse), vec4<f32>(-127.0), vec4<f32>(127.0));
    //@ end
    codes[2u * place] = vec4<u32>(word(c0), word(c1), word(c2), word(c3));
    codes[2u * place + 1u] = vec4<u32>(word(c4), word(c5), word(c6), word(c7));
    let low = dot(c0 + c1 + c2 + c3, vec4<f32>(1.0));
    let high = dot(c4 + c5 + c6 + c7, vec4<f32>(1.0));
    factors[place] = vec4<f32>(scale, scale * low, scale * high, 0.0);
    //@ end
}
