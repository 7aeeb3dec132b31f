// Q3_K: | 8 lines of third bits | 16 lines of codes | 3 lines of scales | d x16 |, value = d (scale - 32) (code - 4).
const BLOCK_VALUES: u32 = 256u;
const BLOCK_VEC4: u32 = 110u;

fn scale_of(base: u32, idx: u32, quad: u32) -> vec4<f32> {
    let low = weights[base + (24u + ((idx & 7u) >> 2u)) * 4u + quad] >> vec4<u32>(8u * (idx & 3u) + 4u * (idx >> 3u));
    let high = weights[base + 26u * 4u + quad] >> vec4<u32>(8u * (idx & 3u) + 2u * (idx >> 2u));
    return vec4<f32>((low & vec4<u32>(15u)) | ((high & vec4<u32>(3u)) << vec4<u32>(4u))) - 32.0;
}

fn load(base: u32, sub: u32, quad: u32) -> Group {
    let shift = vec4<u32>(2u * (sub & 3u));
    let codes = base + 32u + (sub >> 2u) * 32u + quad;
    var g: Group;
    //@ repeat i: 0, 1, 2, 3, 4, 5, 6, 7
    let high$i = (weights[base + $iu * 4u + quad] >> vec4<u32>(sub)) & vec4<u32>(0x01010101u);
    g.q$i = ((weights[codes + $iu * 4u] >> shift) & vec4<u32>(0x03030303u)) | (high$i << vec4<u32>(2u));
    //@ end
    let d = halves(base + 108u, quad);
    //@ repeat i: 0, 1
    g.d$i = d * scale_of(base, 2u * sub + $iu, quad);
    g.m$i = -4.0 * g.d$i;
    //@ end
    return g;
}
