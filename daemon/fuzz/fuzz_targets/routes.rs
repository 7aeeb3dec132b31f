//! A routing trace: the file as it is, and steps whose checksums are right, so that what is inside them is reached. What is
//! accepted must be written and read again unchanged.
#![no_main]

use experts::trace::{Header, Layer, Trace};
use libfuzzer_sys::fuzz_target;
use weights::pack::Hash;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    let layers = (0..4).map(|layer| Layer { layer, record_bytes: 1 }).collect();
    let header =
        Header { model: "fuzz".into(), fingerprint: String::new(), n_experts: 300, top_k: 8, layers };
    let mut file = header.to_bytes().expect("within the limits");
    for body in bytes.split(|&byte| byte == b'\n') {
        file.extend((body.len() as u32).to_le_bytes());
        file.extend((Hash::of(body).0 as u32).to_le_bytes());
        file.extend(body);
    }
    check(&file);
});

fn check(bytes: &[u8]) {
    if let Ok(trace) = Trace::parse(bytes) {
        let again = Trace::parse(&trace.to_bytes()).expect("an accepted trace");
        assert_eq!(again.n_steps(), trace.n_steps());
        for (a, b) in again.steps().zip(trace.steps()) {
            assert!(a.n_tokens == b.n_tokens && a.visits().eq(b.visits()));
        }
    }
}
