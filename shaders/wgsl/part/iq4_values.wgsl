// The 16 values of IQ4_NL and IQ4_XS, signed bytes: -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113.
const IQ4_VALUES = array<u32, 4>(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);

fn iq4_value(code: u32) -> u32 {
    return (IQ4_VALUES[code >> 2u] >> (8u * (code & 3u))) & 0xffu;
}

// Four codes of four bits, one in the low half of each byte, to four signed bytes.
fn iq4_word(codes: u32) -> u32 {
    return iq4_value(codes & 15u) | (iq4_value((codes >> 8u) & 15u) << 8u)
        | (iq4_value((codes >> 16u) & 15u) << 16u) | (iq4_value((codes >> 24u) & 15u) << 24u);
}

fn iq4_words(codes: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(iq4_word(codes.x), iq4_word(codes.y), iq4_word(codes.z), iq4_word(codes.w));
}
