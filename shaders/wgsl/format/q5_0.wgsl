// Q5_0: | d x16 | 1 line of high bits | 4 lines of codes |, value = d (code - 16).
const BLOCK_VALUES: u32 = 32u;
const BLOCK_VEC4: u32 = 22u;

fn load(base: u32, sub: u32, quad: u32) -> Group {
    let d = halves(base, quad);
    let high = weights[base + 2u + quad];
    var g: Group;
    //@ repeat i j: 0 4, 1 5, 2 6, 3 7
    let line$i = weights[base + 6u + $iu * 4u + quad];
    g.q$i = (line$i & LOW) | fifth_bits(high, 4u * $iu);
    g.q$j = ((line$i >> vec4<u32>(4u)) & LOW) | fifth_bits(high, 4u * $ju);
    //@ end
    return with_factors(g, d, -16.0 * d);
}
