// out[row] = (place of the row's largest value, the value as bits); the first of equals. NaN is never the largest.
//
// x: [n_rows, stride]. A workgroup has a row.
struct Argmax {
    n_rows: u32,
    width: u32,
    stride: u32,
}
var<immediate> p: Argmax;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<vec2<u32>>;

const THREADS: u32 = 128u;
const NOWHERE: u32 = 0xffffffffu;

var<workgroup> values: array<f32, THREADS>;
var<workgroup> places: array<u32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) me: u32) {
    let row = wg.x * p.stride;
    var largest = -3.4028234e38;
    var place = NOWHERE;
    for (var i = me; i < p.width; i += THREADS) {
        let value = x[row + i];
        if value > largest {
            largest = value;
            place = i;
        }
    }
    values[me] = largest;
    places[me] = place;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if me < half {
            let other = values[me + half];
            let first = places[me + half] < places[me];
            if other > values[me] || (other == values[me] && first) {
                values[me] = other;
                places[me] = places[me + half];
            }
        }
        workgroupBarrier();
    }
    if me == 0u {
        // Where nothing is larger than the least, the first will do, as in the twin.
        out[wg.x] = vec2<u32>(select(places[0], 0u, places[0] == NOWHERE), bitcast<u32>(values[0]));
    }
}
