// Q4_K: | d x16 | dmin x16 | 3 lines of scales | 32 lines of codes |, value = d scale code - dmin min.
const BLOCK_VALUES: u32 = 256u;
const BLOCK_VEC4: u32 = 144u;

fn load(base: u32, sub: u32, quad: u32) -> Group {
    let shift = vec4<u32>(4u * (sub & 1u));
    let codes = base + 16u + (sub >> 1u) * 32u + quad;
    var g: Group;
    //@ repeat i: 0, 1, 2, 3, 4, 5, 6, 7
    g.q$i = (weights[codes + $iu * 4u] >> shift) & LOW;
    //@ end
    let scales = k_scales(base, base + 4u, sub, quad);
    return with_factors(g, scales.d, scales.m);
}
