// Sums over a workgroup of THREADS, a subgroup at a time, whatever its width.
var<workgroup> shares: array<f32, THREADS>;

fn workgroup_sum(value: f32, me: u32, subgroup: u32, lane: u32, width: u32) -> f32 {
    let mine = subgroupAdd(value);
    if lane == 0u {
        shares[subgroup] = mine;
    }
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i * width < THREADS; i++) {
        sum += shares[i];
    }
    workgroupBarrier();
    return sum;
}
