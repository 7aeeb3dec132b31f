// FP8 E4M3: a line of 16 rows holds four values of each; 128 x 128 values share a factor, which `scale_of_group` reads.
const GROUP_VALUES: u32 = 4u;
struct Group { codes: vec4<u32>, scale: f32 }

fn group(first: u32, k: u32, quad: u32) -> Group {
    return Group(weights[first + k * 4u + quad], scale_of_group(first, k));
}

// 1.m x 2^(e - 7), or m x 2^-9 where e is 0. There are no infinities, and no NaN in weights.
fn widen(codes: u32) -> vec4<f32> {
    let bytes = vec4<u32>(codes, codes >> 8u, codes >> 16u, codes >> 24u);
    let body = bytes & vec4<u32>(0x7fu);
    let normal = bitcast<vec4<f32>>((body << vec4<u32>(20u)) + vec4<u32>(120u << 23u));
    let small = vec4<f32>(body) * 0.001953125;
    let value = select(normal, small, body < vec4<u32>(8u));
    return select(value, -value, (bytes & vec4<u32>(0x80u)) != vec4<u32>(0u));
}

fn four0(g: Group) -> mat4x4<f32> {
    return mat4x4<f32>(
        g.scale * widen(g.codes.x),
        g.scale * widen(g.codes.y),
        g.scale * widen(g.codes.z),
        g.scale * widen(g.codes.w),
    );
}
