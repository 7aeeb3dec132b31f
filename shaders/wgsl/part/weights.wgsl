// A weight matrix: blocks of 16 rows, each `row_block` vectors; see `tensor::Layout::Rows16` for what lies within.
@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>;
// Factors of an FP8 matrix, [rows / 128, cols / 128]; else unused.
@group(0) @binding(1) var<storage, read> scales: array<f32>;

// Where the factors of the rows at hand begin.
var<private> scale_row: u32;

fn scale_of_group(first: u32, k: u32) -> f32 {
    return scales[scale_row + (k >> 5u)];
}
