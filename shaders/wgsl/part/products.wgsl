// 16 products of whole numbers with each of four rows.
fn products(a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32>, x: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(vec4<i32>(
        //@ repeat row: x, y, z, w
        dot4I8Packed(a.$row, x.x) + dot4I8Packed(b.$row, x.y) + dot4I8Packed(c.$row, x.z) + dot4I8Packed(d.$row, x.w),
        //@ end
    ));
}
