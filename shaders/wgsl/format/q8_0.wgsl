// Q8_0: | d x16 | 8 lines of signed codes |, value = d code.
const BLOCK_VALUES: u32 = 32u;
const BLOCK_VEC4: u32 = 34u;

fn load(base: u32, sub: u32, quad: u32) -> Group {
    var g: Group;
    //@ repeat i: 0, 1, 2, 3, 4, 5, 6, 7
    g.q$i = weights[base + 2u + $iu * 4u + quad];
    //@ end
    return with_factors(g, halves(base, quad), vec4<f32>());
}
