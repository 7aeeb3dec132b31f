// F16: a line of 16 rows holds two values of each.
const GROUP_VALUES: u32 = 4u;
struct Group { low: vec4<u32>, high: vec4<u32> }

fn group(first: u32, k: u32, quad: u32) -> Group {
    let at = first + k * 8u + quad;
    return Group(weights[at], weights[at + 4u]);
}

fn four0(g: Group) -> mat4x4<f32> {
    return mat4x4<f32>(
        vec4<f32>(unpack2x16float(g.low.x), unpack2x16float(g.high.x)),
        vec4<f32>(unpack2x16float(g.low.y), unpack2x16float(g.high.y)),
        vec4<f32>(unpack2x16float(g.low.z), unpack2x16float(g.high.z)),
        vec4<f32>(unpack2x16float(g.low.w), unpack2x16float(g.high.w)),
    );
}
