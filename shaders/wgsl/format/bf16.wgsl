// BF16: a line of 16 rows holds two values of each, upper halves of f32.
const GROUP_VALUES: u32 = 4u;
struct Group { low: vec4<u32>, high: vec4<u32> }

fn group(first: u32, k: u32, quad: u32) -> Group {
    let at = first + k * 8u + quad;
    return Group(weights[at], weights[at + 4u]);
}

fn widen(low: u32, high: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(low << 16u, low & 0xffff0000u, high << 16u, high & 0xffff0000u));
}

fn four0(g: Group) -> mat4x4<f32> {
    return mat4x4<f32>(
        widen(g.low.x, g.high.x),
        widen(g.low.y, g.high.y),
        widen(g.low.z, g.high.z),
        widen(g.low.w, g.high.w),
    );
}
