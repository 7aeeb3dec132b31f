//! Every variant is WGSL that naga accepts.

use naga::valid::{Capabilities, ValidationFlags, Validator};
use shaders::Shader;

#[test]
fn every_variant_is_valid() {
    let all = Shader::all();
    assert!(all.len() > 100, "{} variants", all.len());
    for shader in all {
        let source = shader.source();
        let module = naga::front::wgsl::parse_str(&source)
            .unwrap_or_else(|error| panic!("{shader:?}: {}", error.emit_to_string(&source)));
        let mut capabilities =
            Capabilities::IMMEDIATES | Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        capabilities.set(Capabilities::SHADER_FLOAT16, shader.needs_f16());
        Validator::new(ValidationFlags::all(), capabilities)
            .validate(&module)
            .unwrap_or_else(|error| panic!("{shader:?}: {}", error.emit_to_string(&source)));
    }
}
