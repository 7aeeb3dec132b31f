// Q2_K: | 4 lines of scales and minima | 16 lines of codes | d x16 | dmin x16 |, value = d scale code - dmin min.
const BLOCK_VALUES: u32 = 256u;
const BLOCK_VEC4: u32 = 84u;

fn load(base: u32, sub: u32, quad: u32) -> Group {
    let shift = vec4<u32>(2u * (sub & 3u));
    let codes = base + 16u + (sub >> 2u) * 32u + quad;
    var g: Group;
    //@ repeat i: 0, 1, 2, 3, 4, 5, 6, 7
    g.q$i = (weights[codes + $iu * 4u] >> shift) & vec4<u32>(0x03030303u);
    //@ end
    let d = halves(base + 80u, quad);
    let dmin = halves(base + 82u, quad);
    let scales = weights[base + (sub >> 1u) * 4u + quad] >> vec4<u32>(16u * (sub & 1u));
    //@ repeat i: 0, 1
    let byte$i = scales >> vec4<u32>(8u * $iu);
    g.d$i = d * vec4<f32>(byte$i & vec4<u32>(15u));
    g.m$i = -dmin * vec4<f32>((byte$i >> vec4<u32>(4u)) & vec4<u32>(15u));
    //@ end
    return g;
}
