//! Stop strings in a stream of text.

use aho_corasick::{AhoCorasick, MatchKind};

use crate::Error;
use crate::think::partial_suffix;

/// Most stop strings a request may have.
pub const MAX_STOPS: usize = 16;
/// Longest stop string.
pub const MAX_STOP_BYTES: usize = 1024;

/// Passes text through until a stop string appears, which is never shown, not even in part.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: Vec<String>,
    matcher: AhoCorasick,
    /// The end of the text so far, as far as a stop string could begin in it.
    held: String,
    stopped: bool,
}

/// What comes out of one push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Text that cannot be part of a stop string.
    pub text: String,
    /// Which stop string ended the answer.
    pub stop: Option<usize>,
}

impl StopMatcher {
    /// A matcher for these strings; none at all passes everything.
    ///
    /// # Errors
    /// There are more than [`MAX_STOPS`], or one is empty or longer than [`MAX_STOP_BYTES`].
    pub fn new(stops: Vec<String>) -> Result<Self, Error> {
        let stop_error = |detail: String| Error::Stop { detail };
        if stops.len() > MAX_STOPS {
            return Err(stop_error(format!("{} given, at most {MAX_STOPS} allowed", stops.len())));
        }
        if let Some(stop) = stops.iter().find(|stop| stop.is_empty() || stop.len() > MAX_STOP_BYTES) {
            return Err(stop_error(format!("length {} is not 1 to {MAX_STOP_BYTES} bytes", stop.len())));
        }
        let matcher = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(&stops)
            .map_err(|e| stop_error(e.to_string()))?;
        Ok(Self { stops, matcher, held: String::new(), stopped: false })
    }

    /// Takes text in; the stop string that ends first wins, however the text is cut. After it nothing passes.
    pub fn push(&mut self, text: &str) -> Passed {
        if self.stopped {
            return Passed::default();
        }
        self.held.push_str(text);
        if let Some(found) = self.matcher.find(&self.held) {
            self.stopped = true;
            self.held.truncate(found.start());
            let text = std::mem::take(&mut self.held);
            return Passed { text, stop: Some(found.pattern().as_usize()) };
        }
        let partial = self.stops.iter().map(|stop| partial_suffix(&self.held, stop)).max().unwrap_or(0);
        let certain = self.held.len() - partial;
        Passed { text: self.held.drain(..certain).collect(), stop: None }
    }

    /// A seam in the text, which no stop string reaches across: what was held back was not one.
    pub fn flush(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// The end of the answer: what was held back was not a stop string.
    pub fn finish(self) -> String {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run<'a>(stops: &[&str], pieces: impl IntoIterator<Item = &'a str>) -> (String, Option<usize>) {
        let mut matcher = StopMatcher::new(stops.iter().map(|s| (*s).to_owned()).collect()).unwrap();
        let mut all = Passed::default();
        for piece in pieces {
            let passed = matcher.push(piece);
            all.text.push_str(&passed.text);
            all.stop = all.stop.or(passed.stop);
        }
        all.text.push_str(&matcher.finish());
        (all.text, all.stop)
    }

    #[test]
    fn a_stop_string_across_pieces_is_never_shown() {
        let mut matcher = StopMatcher::new(vec!["STOP".into()]).unwrap();
        assert_eq!(matcher.push("aST").text, "a");
        assert_eq!(matcher.push("OX").text, "STOX");
        assert_eq!(matcher.push("bSTO").text, "b");
        assert_eq!(matcher.push("Pc"), Passed { text: String::new(), stop: Some(0) });
        assert_eq!(matcher.push("d"), Passed::default());
    }

    #[test]
    fn a_beginning_at_the_end_of_the_answer_is_shown() {
        assert_eq!(run(&["</s>"], ["a</", "s"]), ("a</s".into(), None));
    }

    #[test]
    fn characters_that_share_bytes_stay_whole() {
        assert_eq!(run(&["。"], ["思、", "考。x"]), ("思、考".into(), Some(0)));
    }

    #[test]
    fn bad_lists_are_refused() {
        assert!(StopMatcher::new(vec![String::new()]).is_err());
        assert!(StopMatcher::new(vec!["x".repeat(MAX_STOP_BYTES + 1)]).is_err());
        assert!(StopMatcher::new(vec!["x".into(); MAX_STOPS + 1]).is_err());
        assert_eq!(run(&[], ["a", "b"]), ("ab".into(), None));
    }

    proptest! {
        #[test]
        fn how_the_text_is_cut_makes_no_difference(text in "[ab思]{0,12}", cut in 0usize..40) {
            let stops = ["ab", "ba", "b思a", "aab"];
            let (head, tail) = text.split_at(text.floor_char_boundary(cut));
            let by_char: Vec<String> = text.chars().map(String::from).collect();
            let want = run(&stops, [text.as_str()]);
            prop_assert_eq!(run(&stops, [head, tail]), want.clone());
            prop_assert_eq!(run(&stops, by_char.iter().map(String::as_str)), want);
        }
    }
}
