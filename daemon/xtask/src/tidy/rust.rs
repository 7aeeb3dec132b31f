//! Rules of Rust files: short functions, short files, and `unsafe` only where the list allows it.
//!
//! A file is cut into tokens, not parsed: comments and strings can't mislead it, and macros are seen too.

use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::{Finding, Source};

/// Lines of a function from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// From here on a file probably holds two nouns.
const FILE_LINES_MAX: usize = 500;

/// The files and folders that may hold `unsafe`, and why.
const UNSAFE: &[(&str, &str)] = &[
    ("daemon/experts/src/disk/priority.rs", "the system's scheduler"),
    ("daemon/experts/src/disk/uring.rs", "the kernel writes into slots"),
    ("daemon/experts/src/slot.rs", "slots share a mapping"),
    ("daemon/gpu/src/adapter.rs", "the driver's memory sizes"),
    ("daemon/gpu/src/pipelines.rs", "what the driver compiled"),
    ("daemon/kernels/src", "SIMD intrinsics, the worker pool"),
    ("daemon/weights/src/mapped.rs", "mmap"),
];
/// Says so when there is nothing unsafe any more, which `allow` would not.
const EXPECT: &str = "[expect(unsafe_code, reason =";

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let n_lines = source.text.lines().count();
    if n_lines > FILE_LINES_MAX {
        let what = format!("{n_lines} lines; above {FILE_LINES_MAX} look for the second noun");
        findings.push(Finding::warning(&source.path, what));
    }
    let Ok(tokens) = source.text.parse::<TokenStream>() else {
        findings.push(Finding::error(&source.path, 0, "is not Rust: rustc says where"));
        return findings;
    };
    let mut seen = Seen::default();
    seen.walk(tokens);
    for (name, first, lines) in seen.functions {
        if lines > FUNCTION_LINES_MAX {
            let what = format!(
                "`{name}` has {lines} lines; {FUNCTION_LINES_MAX} at most: push `if` up and `for` down"
            );
            findings.push(Finding::error(&source.path, first, what));
        }
    }
    findings.extend(check_unsafe(source, seen.first_unsafe));
    findings
}

fn check_unsafe(source: &Source, first: Option<usize>) -> Option<Finding> {
    let line = first?;
    if !UNSAFE.iter().any(|(allowed, _)| source.path.starts_with(allowed)) {
        let what =
            "`unsafe` in a file that tidy's list does not allow; keep it in the crates that are for it";
        return Some(Finding::error(&source.path, line, what));
    }
    if !source.text.contains(EXPECT) {
        let what = "`unsafe` without `expect(unsafe_code, reason = ...)` on the file or the item";
        return Some(Finding::error(&source.path, line, what));
    }
    None
}

/// The list itself must not promise more than there is.
pub(super) fn check_list(sources: &[&Source]) -> Vec<Finding> {
    let is_used = |allowed: &str| {
        sources.iter().any(|source| source.path.starts_with(allowed) && source.text.contains("unsafe"))
    };
    let stale = UNSAFE.iter().filter(|(allowed, _)| !is_used(allowed));
    stale
        .map(|(allowed, _)| {
            Finding::error(Path::new(allowed), 0, "holds no `unsafe`: take it off tidy's list")
        })
        .collect()
}

#[derive(Default)]
struct Seen {
    /// Name, first line, number of lines.
    functions: Vec<(String, usize, usize)>,
    first_unsafe: Option<usize>,
}

impl Seen {
    fn walk(&mut self, tokens: TokenStream) {
        // The function whose body has not begun yet: name and first line.
        let mut open: Option<(String, usize)> = None;
        let mut after_fn = None;
        for token in tokens {
            let started = after_fn.take();
            match token {
                TokenTree::Ident(word) if word == "fn" => after_fn = Some(word.span().start().line),
                TokenTree::Ident(word) => {
                    let line = word.span().start().line;
                    if word == "unsafe" {
                        self.first_unsafe.get_or_insert(line);
                    }
                    if let Some(first) = started {
                        open = Some((word.to_string(), first));
                    }
                }
                TokenTree::Group(group) => {
                    if group.delimiter() == Delimiter::Brace
                        && let Some((name, first)) = open.take()
                    {
                        let last = group.span_close().end().line;
                        self.functions.push((name, first, last + 1 - first));
                    }
                    self.walk(group.stream());
                }
                TokenTree::Punct(mark) if mark.as_char() == ';' => open = None,
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let source = Source { path: path.into(), text: text.to_owned() };
        check(&source).iter().map(ToString::to_string).collect()
    }

    fn function(n_lines: usize) -> String {
        format!("/// Doc.\nfn long(callback: fn(u8) -> u8) {{\n{}}}\n", "    step();\n".repeat(n_lines - 2))
    }

    #[test]
    fn counts_from_fn_to_the_closing_brace() {
        assert!(findings("a.rs", &function(70)).is_empty());
        let found = findings("a.rs", &function(71));
        assert_eq!(found, ["a.rs:2: `long` has 71 lines; 70 at most: push `if` up and `for` down"]);
    }

    #[test]
    fn sees_functions_in_modules_and_macros() {
        assert_eq!(findings("a.rs", &format!("mod inner {{ {} }}", function(80))).len(), 1);
        assert_eq!(findings("a.rs", &format!("make! {{ {} }}", function(80))).len(), 1);
    }

    #[test]
    fn words_in_strings_and_comments_are_not_code() {
        assert!(findings("a.rs", "// unsafe\n/// unsafe fn\nconst A: &str = \"unsafe {\";").is_empty());
    }

    #[test]
    fn unsafe_needs_the_list_and_the_reason() {
        let code = "fn f() { unsafe { g() } }";
        assert!(findings("daemon/text/src/a.rs", code)[0].contains("does not allow"));
        assert!(findings("daemon/kernels/src/a.rs", code)[0].contains("without"));
        let explained = format!("#![expect(unsafe_code, reason = \"x\")]\n{code}");
        assert!(findings("daemon/kernels/src/a.rs", &explained).is_empty());
    }
}
