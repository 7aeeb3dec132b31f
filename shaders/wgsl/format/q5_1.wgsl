// Q5_1: | d x16 | m x16 | 1 line of high bits | 4 lines of codes |, value = d code + m.
const BLOCK_VALUES: u32 = 32u;
const BLOCK_VEC4: u32 = 24u;

fn load(base: u32, sub: u32, quad: u32) -> Group {
    let high = weights[base + 4u + quad];
    var g: Group;
    //@ repeat i j: 0 4, 1 5, 2 6, 3 7
    let line$i = weights[base + 8u + $iu * 4u + quad];
    g.q$i = (line$i & LOW) | fifth_bits(high, 4u * $iu);
    g.q$j = ((line$i >> vec4<u32>(4u)) & LOW) | fifth_bits(high, 4u * $ju);
    //@ end
    return with_factors(g, halves(base, quad), halves(base + 2u, quad));
}
