// Chooses experts for a token, a workgroup each; `tensor::reference::route` says by what rule.
//
// logits: [n_tokens, stride]; bias: [n_experts]; choices: [n_tokens, top_k] of (expert, weight as bits), by descending weight.
// What is chosen is found by counting what is better: no sort, and three barriers.
struct Route {
    n_tokens: u32,
    n_experts: u32,
    stride: u32,
    top_k: u32,
    n_groups: u32,
    top_k_groups: u32,
    // 0: softmax, 1: sigmoid.
    sigmoid: u32,
    normalise: u32,
    scale: f32,
    biased: u32,
}
var<immediate> p: Route;

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> bias: array<f32>;
@group(0) @binding(2) var<storage, read_write> choices: array<vec2<u32>>;

const THREADS: u32 = 64u;
const EXPERTS_MAX: u32 = 512u;
const GROUPS_MAX: u32 = 64u;
const NEVER: f32 = -3.4e38;

var<workgroup> scores: array<f32, EXPERTS_MAX>;
// What the choice goes by; NEVER where it is out of the question, or not chosen.
var<workgroup> ranked: array<f32, EXPERTS_MAX>;
var<workgroup> groups: array<f32, GROUPS_MAX>;
var<workgroup> chosen: array<u32, EXPERTS_MAX>;

// The greatest of a group, or the sum of its two greatest.
fn group_score(group: u32, size: u32) -> f32 {
    var first = NEVER;
    var second = NEVER;
    for (var e = group * size; e < (group + 1u) * size; e++) {
        let score = ranked[e];
        if score > first {
            second = first;
            first = score;
        } else if score > second {
            second = score;
        }
    }
    return select(first, first + second, p.sigmoid == 1u && size > 1u);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) me: u32) {
    let row = wg.x * p.stride;
    var most = NEVER;
    for (var e = 0u; e < p.n_experts; e++) {
        most = max(most, logits[row + e]);
    }
    for (var e = me; e < p.n_experts; e += THREADS) {
        let logit = logits[row + e];
        scores[e] = select(exp(logit - most), 1.0 / (1.0 + exp(-logit)), p.sigmoid == 1u);
    }
    workgroupBarrier();
    var total = 1.0;
    if p.sigmoid == 0u {
        total = 0.0;
        for (var e = 0u; e < p.n_experts; e++) {
            total += scores[e];
        }
    }
    for (var e = me; e < p.n_experts; e += THREADS) {
        var by = scores[e] / total;
        if p.biased == 1u {
            by += bias[e];
        }
        ranked[e] = by;
        chosen[e] = 0u;
    }
    workgroupBarrier();
    let size = p.n_experts / p.n_groups;
    if me < p.n_groups {
        groups[me] = group_score(me, size);
    }
    workgroupBarrier();
    for (var e = me; e < p.n_experts; e += THREADS) {
        let mine = e / size;
        var better = 0u;
        for (var g = 0u; g < p.n_groups; g++) {
            better += u32(groups[g] > groups[mine] || (groups[g] == groups[mine] && g < mine));
        }
        chosen[e] = u32(better < p.top_k_groups);
    }
    workgroupBarrier();
    // Of the candidates, those with fewer than top_k better ones; kept apart until all have counted.
    var kept: array<u32, 8>;
    for (var i = 0u; i * THREADS + me < p.n_experts; i++) {
        let e = i * THREADS + me;
        var better = 0u;
        for (var other = 0u; other < p.n_experts; other++) {
            let wins = ranked[other] > ranked[e] || (ranked[other] == ranked[e] && other < e);
            better += u32(chosen[other] == 1u && wins);
        }
        kept[i] = u32(chosen[e] == 1u && better < p.top_k);
    }
    workgroupBarrier();
    for (var i = 0u; i * THREADS + me < p.n_experts; i++) {
        chosen[i * THREADS + me] = kept[i];
    }
    workgroupBarrier();
    var sum = 0.0;
    for (var e = 0u; e < p.n_experts; e++) {
        sum += select(0.0, scores[e] / total, chosen[e] == 1u);
    }
    let factor = select(p.scale, p.scale / (sum + 1e-20), p.normalise == 1u);
    for (var e = me; e < p.n_experts; e += THREADS) {
        if chosen[e] == 0u {
            continue;
        }
        var place = 0u;
        for (var other = 0u; other < p.n_experts; other++) {
            let before = scores[other] > scores[e] || (scores[other] == scores[e] && other < e);
            place += u32(chosen[other] == 1u && before);
        }
        choices[wg.x * p.top_k + place] = vec2<u32>(e, bitcast<u32>(scores[e] / total * factor));
    }
}
