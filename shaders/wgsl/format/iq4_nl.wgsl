// IQ4_NL: | d x16 | 4 lines of codes |, value = d VALUES[code].
const BLOCK_VALUES: u32 = 32u;
const BLOCK_VEC4: u32 = 18u;

fn load(base: u32, sub: u32, quad: u32) -> Group {
    var g: Group;
    //@ repeat i j: 0 4, 1 5, 2 6, 3 7
    let line$i = weights[base + 2u + $iu * 4u + quad];
    g.q$i = iq4_words(line$i);
    g.q$j = iq4_words(line$i >> vec4<u32>(4u));
    //@ end
    return with_factors(g, halves(base, quad), vec4<f32>());
}
