//! Each WGSL stage has a twin on the processor and a test that compares them; parts that stages share have none of their own.

use std::path::Path;

use super::{Finding, Source};

/// Where stages live; formats and parts lie in folders below it.
const STAGES: &str = "shaders/wgsl";
const TWINS: &str = "daemon/tensor/src";
const TESTS: &str = "shaders/tests";

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let stages = sources.iter().filter(|source| {
        source.path.parent() == Some(Path::new(STAGES))
            && source.has_extension("wgsl")
            && source.text.contains("@compute")
    });
    stages.flat_map(|stage| check_stage(stage, sources)).collect()
}

fn check_stage(stage: &Source, sources: &[Source]) -> Vec<Finding> {
    let name = stage.path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let holds = |folder: &str, words: &str| {
        let mut below =
            sources.iter().filter(|source| source.path.starts_with(folder) && source.has_extension("rs"));
        below.any(|source| source.text.contains(words))
    };
    let mut findings = Vec::new();
    if !holds(TWINS, &format!("fn {name}(")) {
        findings.push(Finding::error(&stage.path, 0, format!("has no twin `reference::{name}` in {TWINS}")));
    }
    if !holds(TESTS, &name) {
        findings.push(Finding::error(&stage.path, 0, format!("has no test in {TESTS} that names {name}")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.to_owned() }
    }

    #[test]
    fn a_stage_needs_a_twin_and_a_test() {
        let stage = || source("shaders/wgsl/rms_norm.wgsl", "@compute fn main() {}");
        assert_eq!(check(&[stage()]).len(), 2);
        let twin = source("daemon/tensor/src/reference/norm.rs", "pub fn rms_norm(out: &mut [f32]) {}");
        let test = source("shaders/tests/twins.rs", "fn rms_norm_agrees() {}");
        assert!(check(&[stage(), twin, test]).is_empty());
    }

    #[test]
    fn parts_of_stages_need_none() {
        assert!(check(&[source("shaders/wgsl/part/entry.wgsl", "@compute fn main() {}")]).is_empty());
    }
}
