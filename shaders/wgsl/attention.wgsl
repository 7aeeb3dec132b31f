// out = softmax(scale q . k) v, a tile of up to ROWS query rows that share their keys, over a part of the past.
//
// A query row is a head of a token; rows of a tile are of one sequence and one key head, token after token. The past is
// walked in blocks of 32 positions with a running maximum (Milakov & Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022,
// arXiv:2205.14135). With one split the result goes to `out`, else each split's maximum, sum and unnormed values go to
// `parts` for `attention_combine`.
//
// q: [n_tokens, q_stride], of which heads * key_width; out: [n_tokens, heads, value_width]; keys, values: as `kv_write` leaves them; widths in
// vectors of four; parts: [n_splits, n_tokens * heads, value_width + 1], the last being (maximum, sum, 0, 0).
struct Attention {
    n_tokens: u32,
    n_splits: u32,
    // Query heads of a key head.
    group: u32,
    n_kv_heads: u32,
    key_width: u32,
    value_width: u32,
    scale: f32,
    // In `step`: tiles (token, row, rows, table) and positions.
    tiles: u32,
    positions: u32,
    // Positions of a split, whole blocks.
    split: u32,
    // Width of a row of `values`, of which the first `value_width` count: latent attention's lie within its keys.
    value_row: u32,
    // From one token's queries to the next.
    q_stride: u32,
}
var<immediate> p: Attention;

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> keys: array<Kv>;
@group(0) @binding(2) var<storage, read> values: array<Kv>;
@group(0) @binding(3) var<storage, read> step: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> parts: array<vec4<f32>>;

const ROWS: u32 = 8u;
const BLOCK: u32 = 32u;
const THREADS: u32 = 64u;
// The smallest f32: nothing has been seen.
const NOTHING: f32 = -3.4e38;

var<workgroup> weights: array<f32, 256>;
var<workgroup> maxima: array<f32, ROWS>;
var<workgroup> sums: array<f32, ROWS>;
var<workgroup> factors: array<f32, ROWS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) me: u32) {
    let tile = p.tiles + wg.x * 4u;
    let token = step[tile];
    let first_row = step[tile + 1u];
    let n_rows = step[tile + 2u];
    let table = step[tile + 3u];
    let kv_head = wg.y;
    let heads = p.group * p.n_kv_heads;
    // Of each row: where its result goes, where its query lies, and how many positions it sees.
    var places: array<u32, ROWS>;
    var queries: array<u32, ROWS>;
    var seen: array<u32, ROWS>;
    var end = 0u;
    for (var r = 0u; r < ROWS; r++) {
        let row = first_row + min(r, n_rows - 1u);
        let at = token + row / p.group;
        let head = kv_head * p.group + row % p.group;
        places[r] = at * heads + head;
        queries[r] = at * p.q_stride + head * p.key_width;
        seen[r] = step[p.positions + at] + 1u;
        end = max(end, seen[r]);
    }
    let from_ = wg.z * p.split;
    end = min(end, from_ + p.split);
    if me < ROWS {
        maxima[me] = NOTHING;
        sums[me] = 0.0;
    }
    var acc: array<vec4<f32>, ACCS>;
    let pos = me & 31u;
    let rows_of = (me >> 5u) * 4u;
    for (var start = from_; start < end; start += BLOCK) {
        let block = step[table + start / BLOCK];
        let key = (block * p.n_kv_heads + kv_head) * p.key_width * BLOCK + pos;
        var dots: array<f32, 4>;
        for (var d = 0u; d < p.key_width; d++) {
            let k = widen_kv(keys[key + d * BLOCK]);
            for (var r = 0u; r < 4u; r++) {
                dots[r] += dot(q[queries[rows_of + r] + d], k);
            }
        }
        for (var r = 0u; r < 4u; r++) {
            weights[(rows_of + r) * BLOCK + pos] = select(NOTHING, dots[r] * p.scale, start + pos < seen[rows_of + r]);
        }
        workgroupBarrier();
        if me < ROWS {
            var most = maxima[me];
            for (var i = 0u; i < BLOCK; i++) {
                most = max(most, weights[me * BLOCK + i]);
            }
            factors[me] = exp(maxima[me] - most);
            maxima[me] = most;
            var sum = sums[me] * factors[me];
            for (var i = 0u; i < BLOCK; i++) {
                let weight = select(0.0, exp(weights[me * BLOCK + i] - most), weights[me * BLOCK + i] > NOTHING);
                weights[me * BLOCK + i] = weight;
                sum += weight;
            }
            sums[me] = sum;
        }
        workgroupBarrier();
        let value = (block * p.n_kv_heads + kv_head) * p.value_row * BLOCK;
        for (var a = 0u; a < ACCS / ROWS; a++) {
            let d = a * THREADS + me;
            if d < p.value_width {
                for (var r = 0u; r < ROWS; r++) {
                    acc[a * ROWS + r] *= factors[r];
                }
                for (var i = 0u; i < min(BLOCK, end - start); i++) {
                    let v = widen_kv(values[value + d * BLOCK + i]);
                    for (var r = 0u; r < ROWS; r++) {
                        acc[a * ROWS + r] += weights[r * BLOCK + i] * v;
                    }
                }
            }
        }
        workgroupBarrier();
    }
    for (var a = 0u; a < ACCS / ROWS; a++) {
        let d = a * THREADS + me;
        for (var r = 0u; r < n_rows && d < p.value_width; r++) {
            if p.n_splits == 1u {
                out[places[r] * p.value_width + d] = acc[a * ROWS + r] / sums[r];
            } else {
                let part = (wg.z * p.n_tokens * heads + places[r]) * (p.value_width + 1u);
                parts[part + d] = acc[a * ROWS + r];
                if d == 0u {
                    parts[part + p.value_width] = vec4<f32>(maxima[r], sums[r], 0.0, 0.0);
                }
            }
        }
    }
}
