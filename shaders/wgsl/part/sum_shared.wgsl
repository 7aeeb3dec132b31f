// Sums over a workgroup of THREADS, for devices without subgroups.
var<workgroup> shares: array<f32, THREADS>;

fn workgroup_sum(value: f32, me: u32, subgroup: u32, lane: u32, width: u32) -> f32 {
    shares[me] = value;
    workgroupBarrier();
    var step = THREADS / 2u;
    while step > 0u {
        if me < step {
            shares[me] += shares[me + step];
        }
        workgroupBarrier();
        step /= 2u;
    }
    let sum = shares[0];
    workgroupBarrier();
    return sum;
}
