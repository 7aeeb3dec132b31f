@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) me: u32) {
    run(wg, me, 0u, 0u, 1u);
}
