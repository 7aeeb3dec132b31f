// F16 as it is: four values of each of four rows, a row each column, and what their products are to be multiplied with.
// naga has no bitcast to halves; a compiler sees through this.
fn two(bits: u32) -> vec2<f16> {
    return vec2<f16>(unpack2x16float(bits));
}

fn halves(g: Group) -> mat4x4<f16> {
    return mat4x4<f16>(
        //@ repeat row: x, y, z, w
        vec4<f16>(two(g.low.$row), two(g.high.$row)),
        //@ end
    );
}

fn factor(g: Group) -> f32 {
    return 1.0;
}
