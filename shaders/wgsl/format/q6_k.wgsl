// Q6_K: | 32 lines of low halves | 16 lines of high quarters | 4 lines of signed scales | d x16 |, value = d scale (code - 32).
const BLOCK_VALUES: u32 = 256u;
const BLOCK_VEC4: u32 = 210u;

fn load(base: u32, sub: u32, quad: u32) -> Group {
    let half = sub >> 2u;
    let j = sub & 3u;
    let low_shift = vec4<u32>(4u * (j >> 1u));
    let high_shift = vec4<u32>(2u * j);
    let low = base + (half * 16u + (j & 1u) * 8u) * 4u + quad;
    let high = base + (32u + half * 8u) * 4u + quad;
    var g: Group;
    //@ repeat i: 0, 1, 2, 3, 4, 5, 6, 7
    let high$i = (weights[high + $iu * 4u] >> high_shift) & vec4<u32>(0x03030303u);
    g.q$i = ((weights[low + $iu * 4u] >> low_shift) & LOW) | (high$i << vec4<u32>(4u));
    //@ end
    let d = halves(base + 208u, quad);
    let scales = weights[base + (48u + half * 2u + (j >> 1u)) * 4u + quad];
    let at = 16u * (j & 1u);
    g.d0 = d * vec4<f32>(signed_byte(scales, at));
    g.d1 = d * vec4<f32>(signed_byte(scales, at + 8u));
    g.m0 = -32.0 * g.d0;
    g.m1 = -32.0 * g.d1;
    return g;
}
