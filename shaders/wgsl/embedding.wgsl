// out[t] = row ids[t] of the table, for the rows that this part of the table holds.
//
// ids: [n_tokens]; out: [n_tokens, stride], stride in vectors of four. A thread has a group of a row.
struct Embedding {
    n_tokens: u32,
    groups: u32,
    row_block: u32,
    stride: u32,
    // Rows of the table that lie here.
    first_row: u32,
    n_rows: u32,
    ids: u32,
    scale_cols: u32,
}
var<immediate> p: Embedding;

@group(0) @binding(2) var<storage, read> step: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(16)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = step[p.ids + id.y] - p.first_row;
    let k = id.x;
    if k >= p.groups || row >= p.n_rows {
        return;
    }
    scale_row = ((row + p.first_row) >> 7u) * p.scale_cols;
    let g = group((row >> 4u) * p.row_block, k, (row >> 2u) & 3u);
    //@ repeat i: FOURS
    let w$i = four$i(g);
    out[id.y * p.stride + k * (GROUP_VALUES / 4u) + $iu] = w$i[row & 3u];
    //@ end
}
