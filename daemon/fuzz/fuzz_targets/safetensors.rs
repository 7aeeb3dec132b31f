//! A safetensors file: header, then every tensor's bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weights::safetensors::View;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(view) = View::parse(bytes) {
        for tensor in view.tensors() {
            assert_eq!(tensor.data.len() as u64, tensor.info.bytes);
            let _ = (tensor.f32(), tensor.i32());
        }
    }
});
