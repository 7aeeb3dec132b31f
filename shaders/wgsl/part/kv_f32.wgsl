// Keys and values in f32, four to an element.
alias Kv = vec4<f32>;

fn widen_kv(v: Kv) -> vec4<f32> {
    return v;
}

fn narrow_kv(v: vec4<f32>) -> Kv {
    return v;
}
