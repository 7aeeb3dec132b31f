// Keys and values in f16, four to an element.
alias Kv = vec2<u32>;

fn widen_kv(v: Kv) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y));
}

fn narrow_kv(v: vec4<f32>) -> Kv {
    return vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw));
}
