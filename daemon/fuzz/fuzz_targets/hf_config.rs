//! Hugging Face's config.json: hyperparameters out of any bytes, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(hyper) = weights::hf::hyperparameters(bytes, true) {
        hyper.check().expect("checked when read");
    }
});
