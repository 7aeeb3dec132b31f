// F32: a line of 16 rows holds one value of each.
const GROUP_VALUES: u32 = 4u;
struct Group { values: mat4x4<f32> }

fn group(first: u32, k: u32, quad: u32) -> Group {
    let at = first + k * 16u + quad;
    let lines = mat4x4<f32>(
        bitcast<vec4<f32>>(weights[at]),
        bitcast<vec4<f32>>(weights[at + 4u]),
        bitcast<vec4<f32>>(weights[at + 8u]),
        bitcast<vec4<f32>>(weights[at + 12u]),
    );
    return Group(transpose(lines));
}

fn four0(g: Group) -> mat4x4<f32> {
    return g.values;
}
