//! How a pack stores its experts changes no bit of the answer.

use fixtures::Expected;
use model::Precision;
use weights::{Compress, ImportOptions, import};

use crate::support::{bind, logits_of};

/// Logits of a pack of `fixture` whose experts are stored so.
fn logits(fixture: &fixtures::Model, compress: Compress, ids: &[u32]) -> Vec<u32> {
    let dest = fixture.beside(&format!("{compress:?}"));
    let options = ImportOptions { compress, ..ImportOptions::default() };
    import(&fixture.path, &dest, &options, &mut |_| {}).unwrap();
    let mut model = bind(&dest, Precision::Fast, 512);
    let (_, rows) = logits_of(&mut model, ids, 64, ids.len());
    rows.into_iter().map(f32::to_bits).collect()
}

#[test]
fn coded_experts_answer_bit_for_bit_as_uncoded_ones() {
    for name in ["tiny-deepseek-v3-fp8", "tiny-deepseek-v3", "tiny-deepseek-v2-lite"] {
        let fixture = fixtures::folder(name);
        let ids = Expected::read(&format!("{name}/expected.safetensors")).u32("p33.input_ids");
        let [raw, coded] =
            [Compress::Never, Compress::Always].map(|compress| logits(&fixture, compress, &ids));
        assert!(!raw.is_empty() && raw == coded, "{name}");
    }
}
