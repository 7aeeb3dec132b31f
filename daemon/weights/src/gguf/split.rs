//! Models split over several files: `NAME-00001-of-00003.gguf`.

use std::path::{Path, PathBuf};

use super::{Metadata, Problem};

/// Files a model may be split into.
const MAX_PARTS: u64 = 1024;

/// What a file's name says about its place in a split set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartName {
    stem: String,
    /// From 1.
    pub(crate) no: u64,
    pub(crate) count: u64,
}

impl PartName {
    /// Reads `STEM-00001-of-00003.gguf`; `None` for any other name.
    pub(crate) fn parse(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = name.rsplit_once("-of-")?;
        let (stem, no) = rest.rsplit_once('-')?;
        let five_digits = |s: &str| (s.len() == 5).then(|| s.parse::<u64>().ok()).flatten();
        let (no, count) = (five_digits(no)?, five_digits(count)?);
        ((1..=count).contains(&no) && count <= MAX_PARTS).then(|| Self { stem: stem.into(), no, count })
    }

    /// Paths of all parts, beside `path`.
    pub(crate) fn siblings(&self, path: &Path) -> Vec<PathBuf> {
        let name = |no| format!("{}-{no:05}-of-{:05}.gguf", self.stem, self.count);
        (1..=self.count).map(|no| path.with_file_name(name(no))).collect()
    }
}

/// Checks a file's `split.*` metadata against its name.
pub(crate) fn check(name: Option<&PartName>, metadata: &Metadata) -> Result<(), Problem> {
    let field = |key| metadata.uint(key).ok().flatten();
    let no = field("split.no").unwrap_or(0).saturating_add(1);
    let count = field("split.count").unwrap_or(1).max(1);
    match name {
        None if count > 1 => Err(Problem::SplitName { no, count }),
        Some(name) if (name.no, name.count) != (no, count) => {
            Err(Problem::SplitMismatch { name_no: name.no, name_count: name.count, no, count })
        }
        _ => Ok(()),
    }
}

/// Checks the sum of the parts against the first one's promise.
pub(crate) fn check_sum(first: &Metadata, got: u64) -> Result<(), Problem> {
    match first.uint("split.tensors.count").ok().flatten() {
        Some(want) if want != got => Err(Problem::SplitTensors { got, want }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_finds_siblings() {
        let path = Path::new("/m/R1-Q4_K_M-00002-of-00003.gguf");
        let name = PartName::parse(path).expect("a part's name");
        assert_eq!((name.no, name.count), (2, 3));
        assert_eq!(name.siblings(path)[2], Path::new("/m/R1-Q4_K_M-00003-of-00003.gguf"));
        for other in ["R1.gguf", "R1-00004-of-00003.gguf", "R1-1-of-2.gguf", "R1-00000-of-00001.gguf"] {
            assert_eq!(PartName::parse(Path::new(other)), None, "{other}");
        }
    }
}
