// IQ4_XS: | d x16 | high bits of scales x16 | 1 line of their low bits | 32 lines of codes |, value = d (scale - 32) VALUES[code].
const BLOCK_VALUES: u32 = 256u;
const BLOCK_VEC4: u32 = 136u;

fn load(base: u32, sub: u32, quad: u32) -> Group {
    let low = (weights[base + 4u + quad] >> vec4<u32>(4u * sub)) & vec4<u32>(15u);
    let high = (shorts(base + 2u, quad) >> vec4<u32>(2u * sub)) & vec4<u32>(3u);
    let d = halves(base, quad) * (vec4<f32>(low | (high << vec4<u32>(4u))) - 32.0);
    let codes = base + 8u + sub * 16u + quad;
    var g: Group;
    //@ repeat i j: 0 4, 1 5, 2 6, 3 7
    let line$i = weights[codes + $iu * 4u];
    g.q$i = iq4_words(line$i);
    g.q$j = iq4_words(line$i >> vec4<u32>(4u));
    //@ end
    return with_factors(g, d, vec4<f32>());
}
