// Sorts a step's choices by expert and cuts each expert's into tiles; one workgroup.
//
// choices: [n_tokens * top_k] of (expert, weight); order: the choices' numbers, expert after expert; tiles: (expert, place of
// its first choice in `order`, choices), those behind the last without any. Which choice of an expert comes first is open:
// each has its own row of results.
struct SortChoices {
    n_tokens: u32,
    top_k: u32,
    n_experts: u32,
}
var<immediate> p: SortChoices;

@group(0) @binding(0) var<storage, read> choices: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> order: array<u32>;
@group(0) @binding(2) var<storage, read_write> tiles: array<vec4<u32>>;

const THREADS: u32 = 128u;
const EXPERTS_MAX: u32 = 512u;

var<workgroup> counts: array<atomic<u32>, EXPERTS_MAX>;
// Of each expert its first place in `order`, and its first tile.
var<workgroup> first: array<u32, EXPERTS_MAX>;
var<workgroup> first_tile: array<u32, EXPERTS_MAX>;

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) me: u32) {
    let n = p.n_tokens * p.top_k;
    for (var e = me; e < p.n_experts; e += THREADS) {
        atomicStore(&counts[e], 0u);
    }
    workgroupBarrier();
    for (var i = me; i < n; i += THREADS) {
        atomicAdd(&counts[choices[i].x], 1u);
    }
    workgroupBarrier();
    if me == 0u {
        var place = 0u;
        var tile = 0u;
        for (var e = 0u; e < p.n_experts; e++) {
            let count = atomicLoad(&counts[e]);
            first[e] = place;
            first_tile[e] = tile;
            place += count;
            tile += (count + TILE - 1u) / TILE;
        }
    }
    workgroupBarrier();
    for (var e = me; e < p.n_experts; e += THREADS) {
        let count = atomicLoad(&counts[e]);
        for (var i = 0u; i * TILE < count; i++) {
            tiles[first_tile[e] + i] = vec4<u32>(e, first[e] + i * TILE, min(TILE, count - i * TILE), 0u);
        }
    }
    workgroupBarrier();
    // As many as the step has at most: see `Extent::ExpertTiles`.
    let last = p.n_experts - 1u;
    let n_tiles = first_tile[last] + (atomicLoad(&counts[last]) + TILE - 1u) / TILE;
    for (var i = n_tiles + me; i < min(n, n / TILE + p.n_experts); i += THREADS) {
        tiles[i] = vec4<u32>();
    }
    workgroupBarrier();
    for (var e = me; e < p.n_experts; e += THREADS) {
        atomicStore(&counts[e], 0u);
    }
    workgroupBarrier();
    for (var i = me; i < n; i += THREADS) {
        let e = choices[i].x;
        order[first[e] + atomicAdd(&counts[e], 1u)] = i;
    }
}
