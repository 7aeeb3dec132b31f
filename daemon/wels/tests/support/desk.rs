//! A folder to work in, and `wels` as a person types it there.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;

use super::wels;

/// A folder; `state` and `models` in it are `wels`'s own.
pub(crate) struct Desk(tempfile::TempDir);

impl Desk {
    pub(crate) fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        // Where the commands run: what they name by themselves lies there.
        fs::create_dir(desk.path("here")).unwrap();
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Words with a `@` are names on the desk.
    pub(crate) fn run(&self, line: &str) -> Output {
        let word = |word: &str| word.strip_prefix('@').map_or(word.into(), |name| self.path(name));
        let mut command = wels();
        command.args(line.split_whitespace().map(word)).current_dir(self.path("here"));
        command.env("WELS_STATE", self.path("state")).env("WELS_MODELS", self.path("models"));
        command.env("WELS_LOG", "warn").output().unwrap()
    }

    /// What it says to programs.
    pub(crate) fn json(&self, line: &str) -> Value {
        let output = self.run(&format!("{line} --json"));
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Why it doesn't do it, in words.
    pub(crate) fn complaint(&self, line: &str) -> String {
        let output = self.run(line);
        let text = String::from_utf8(output.stderr).unwrap();
        let plain = text.starts_with("error: ") && !text.contains("panicked");
        assert!(output.status.code() == Some(1) && plain, "{text}");
        text
    }
}
