// FP8 E4M3 as half floats: four values of each of four rows, a row each column, and what their products are to be multiplied
// with. Sign, exponent and mantissa lie in the same order in both; exponents differ by 8, which is left to the factor.

// naga has no bitcast to halves; a compiler sees through this.
fn two(codes: u32) -> vec2<f16> {
    let apart = (codes & 0xffu) | ((codes & 0xff00u) << 8u);
    return vec2<f16>(unpack2x16float(((apart & 0x7f007fu) << 7u) | ((apart & 0x800080u) << 8u)));
}

fn halves(g: Group) -> mat4x4<f16> {
    return mat4x4<f16>(
        //@ repeat row: x, y, z, w
        vec4<f16>(two(g.codes.$row), two(g.codes.$row >> 16u)),
        //@ end
    );
}

fn factor(g: Group) -> f32 {
    return 256.0 * g.scale;
}
