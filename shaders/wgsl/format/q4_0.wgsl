// Q4_0: | d x16 | 4 lines of codes |, value = d (code - 8). Low halves are values 0..16, high halves 16..32.
const BLOCK_VALUES: u32 = 32u;
const BLOCK_VEC4: u32 = 18u;

fn load(base: u32, sub: u32, quad: u32) -> Group {
    let d = halves(base, quad);
    var g: Group;
    //@ repeat i j: 0 4, 1 5, 2 6, 3 7
    let line$i = weights[base + 2u + $iu * 4u + quad];
    g.q$i = line$i & LOW;
    g.q$j = (line$i >> vec4<u32>(4u)) & LOW;
    //@ end
    return with_factors(g, d, -8.0 * d);
}
