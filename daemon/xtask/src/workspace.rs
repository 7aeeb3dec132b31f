//! Where things are: the checkout and the folders the commands write to.

use std::path::{Path, PathBuf};

/// The checkout. Everything the commands write lies in `target/`, `.wels/` and `web-ui/{node_modules,dist}`.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The checkout that this program was compiled in.
    pub(crate) fn locate() -> Self {
        let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = crate_dir.ancestors().nth(2).expect("the crate lies two folders below the root");
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// What cargo builds into.
    pub(crate) fn target(&self) -> PathBuf {
        std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| self.join("target"), |dir| self.join(PathBuf::from(dir)))
    }

    /// Python's virtual environment with the tools that the machine lacks.
    pub(crate) fn venv(&self) -> PathBuf {
        self.target().join("tools/venv")
    }

    /// Tools built by `cargo install`.
    pub(crate) fn cargo_tools(&self) -> PathBuf {
        self.target().join("tools/cargo")
    }

    /// Models and third-party text that tests read; tests find it by the same rule.
    pub(crate) fn test_data(&self) -> PathBuf {
        std::env::var_os("WELS_TEST_DATA").map_or_else(|| self.join("target/test-data"), PathBuf::from)
    }

    pub(crate) fn web_ui(&self) -> PathBuf {
        self.join("web-ui")
    }

    /// `path` as people type it: from the root where it is below it.
    pub(crate) fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}
