// Q4_1: | d x16 | m x16 | 4 lines of codes |, value = d code + m.
const BLOCK_VALUES: u32 = 32u;
const BLOCK_VEC4: u32 = 20u;

fn load(base: u32, sub: u32, quad: u32) -> Group {
    var g: Group;
    //@ repeat i j: 0 4, 1 5, 2 6, 3 7
    let line$i = weights[base + 4u + $iu * 4u + quad];
    g.q$i = line$i & LOW;
    g.q$j = (line$i >> vec4<u32>(4u)) & LOW;
    //@ end
    return with_factors(g, halves(base, quad), halves(base + 2u, quad));
}
