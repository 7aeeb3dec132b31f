// Factors of four rows' sub-blocks: value = d code + m.
struct KScales { d: vec4<f32>, m: vec4<f32> }

// Scale and minimum of sub-block `sub` of Q4_K and Q5_K: 6 bits each in three lines at `lines`, times d and dmin at `base`.
fn k_scales(base: u32, lines: u32, sub: u32, quad: u32) -> KScales {
    let low = weights[lines + quad];
    let mid = weights[lines + 4u + quad];
    let shift = vec4<u32>(8u * (sub & 3u));
    var scale = (low >> shift) & vec4<u32>(63u);
    var least = (mid >> shift) & vec4<u32>(63u);
    if sub >= 4u {
        let high = weights[lines + 8u + quad] >> shift;
        scale = (high & vec4<u32>(15u)) | (((low >> shift) >> vec4<u32>(2u)) & vec4<u32>(48u));
        least = ((high >> vec4<u32>(4u)) & vec4<u32>(15u)) | (((mid >> shift) >> vec4<u32>(2u)) & vec4<u32>(48u));
    }
    return KScales(halves(base, quad) * vec4<f32>(scale), -halves(base + 2u, quad) * vec4<f32>(least));
}
