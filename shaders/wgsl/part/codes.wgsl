// Formats with whole codes: a group is 32 values of each of four rows, value = d code + m, where d and m belong to 16 values.
const GROUP_VALUES: u32 = 32u;

// Codes of four bits, one in each byte.
const LOW = vec4<u32>(0x0f0f0f0fu);

struct Group {
    // Signed bytes: word i holds values 4i..4i+4 of a row, a vector four rows.
    //@ repeat i: 0, 1, 2, 3, 4, 5, 6, 7
    q$i: vec4<u32>,
    //@ end
    d0: vec4<f32>,
    d1: vec4<f32>,
    m0: vec4<f32>,
    m1: vec4<f32>,
}

fn group(first: u32, k: u32, quad: u32) -> Group {
    let per_block = BLOCK_VALUES / GROUP_VALUES;
    return load(first + k / per_block * BLOCK_VEC4, k % per_block, quad);
}

// Values 4i..4i+4 of a group, a row each column.
//@ repeat i f: 0 0, 1 0, 2 0, 3 0, 4 1, 5 1, 6 1, 7 1
fn four$i(g: Group) -> mat4x4<f32> {
    return mat4x4<f32>(
        g.d$f.x * vec4<f32>(unpack4xI8(g.q$i.x)) + g.m$f.x,
        g.d$f.y * vec4<f32>(unpack4xI8(g.q$i.y)) + g.m$f.y,
        g.d$f.z * vec4<f32>(unpack4xI8(g.q$i.z)) + g.m$f.z,
        g.d$f.w * vec4<f32>(unpack4xI8(g.q$i.w)) + g.m$f.w,
    );
}

//@ end
// The same factors for all 32 values.
fn with_factors(g: Group, d: vec4<f32>, m: vec4<f32>) -> Group {
    var out = g;
    out.d0 = d;
    out.d1 = d;
    out.m0 = m;
    out.m1 = m;
    return out;
}

// Half floats of rows 4 quad.. of a field of 16.
fn halves(field: u32, quad: u32) -> vec4<f32> {
    let both = weights[field + (quad >> 1u)];
    let two = select(both.xy, both.zw, (quad & 1u) == 1u);
    return vec4<f32>(unpack2x16float(two.x), unpack2x16float(two.y));
}

// 16-bit integers of rows 4 quad.. of a field of 16.
fn shorts(field: u32, quad: u32) -> vec4<u32> {
    let both = weights[field + (quad >> 1u)];
    let two = select(both.xy, both.zw, (quad & 1u) == 1u);
    return vec4<u32>(two.x & 0xffffu, two.x >> 16u, two.y & 0xffffu, two.y >> 16u);
}

// Bits at..at+4 of each row, one in each byte, as the fifth bit of a code.
fn fifth_bits(bits: vec4<u32>, at: u32) -> vec4<u32> {
    let four = (bits >> vec4<u32>(at)) & vec4<u32>(15u);
    return ((four * vec4<u32>(0x00204081u)) & vec4<u32>(0x01010101u)) << vec4<u32>(4u);
}

// The signed byte that begins at bit `at` of each row's word.
fn signed_byte(words: vec4<u32>, at: u32) -> vec4<i32> {
    return bitcast<vec4<i32>>(words << vec4<u32>(24u - at)) >> vec4<u32>(24u);
}
