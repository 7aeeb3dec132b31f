//! A pack's manifest: what is accepted must be written and read again unchanged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weights::pack::Manifest;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse(bytes) {
        Manifest::parse(&manifest.to_json()).expect("an accepted manifest");
    }
});
