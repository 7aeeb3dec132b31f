//! What a model writes, cut anywhere: thoughts and answer come out the same, and nothing is held without bound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use text::{Delta, ThinkSplitter};

/// Runs of line breaks beyond what is held back belong to the text, where they are cut.
const LINE_BREAKS_MAX: usize = 200;

fuzz_target!(|input: &[u8]| {
    let [flags, cut, text @ ..] = input else { return };
    let text = String::from_utf8_lossy(text);
    let breaks = text.split(|c| !char::is_whitespace(c)).map(str::len).max();
    if breaks > Some(LINE_BREAKS_MAX) {
        return;
    }
    let splitter = || ThinkSplitter::new(flags & 1 != 0).expecting(flags & 2 != 0);
    let step = usize::from(*cut) + 1;
    let chars: Vec<char> = text.chars().collect();
    let pieces = chars.chunks(step).map(|piece| piece.iter().collect::<String>());
    assert_eq!(follow(splitter(), pieces), follow(splitter(), [text.to_string()]));
});

/// Thoughts and answer.
fn follow(mut splitter: ThinkSplitter, pieces: impl IntoIterator<Item = String>) -> (String, String) {
    let mut deltas: Vec<Delta> = pieces.into_iter().flat_map(|piece| splitter.push(&piece)).collect();
    deltas.extend(splitter.finish());
    let (mut thoughts, mut answer) = (String::new(), String::new());
    for delta in deltas {
        match delta {
            Delta::Reasoning(text) => thoughts.push_str(&text),
            Delta::Content(text) => answer.push_str(&text),
            Delta::WasThought => thoughts = std::mem::take(&mut answer),
        }
    }
    (thoughts, answer)
}
