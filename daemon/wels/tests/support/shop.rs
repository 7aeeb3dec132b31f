//! Who makes bundles: keys, packs of models that can be told apart, sticks.

use std::fs;
use std::path::{Path, PathBuf};

use super::desk::Desk;

/// Keys, and bundles made with them.
pub(crate) struct Shop(Desk);

/// Where a GGUF's name is changed, so that one model can be told from the other.
const NAME: &[u8] = b"Smollm2 135M 8k";

impl Shop {
    pub(crate) fn new() -> Self {
        let shop = Self(Desk::new());
        shop.run("bundle keygen --role release --name Releases --out @release.key");
        shop
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    /// Words with a `@` are names in the shop.
    pub(crate) fn run(&self, line: &str) {
        let output = self.0.run(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The key that boxes have to believe, as its file's text.
    pub(crate) fn key(&self) -> String {
        fs::read_to_string(self.path("release.key.pub")).unwrap()
    }

    /// A pack of a model that talks, but for a few bytes of its file.
    pub(crate) fn pack_with(&self, pack: &str, bytes: &[u8], others: &[u8]) {
        let mut gguf = fs::read(fixtures::test_data("smollm2.gguf")).unwrap();
        let at = gguf.windows(bytes.len()).position(|window| window == bytes).unwrap();
        gguf[at..at + bytes.len()].copy_from_slice(others);
        fs::write(self.path("m.gguf"), gguf).unwrap();
        self.run(&format!("import @m.gguf @{pack}"));
    }

    /// A stick with a version of `smol`, whose model calls itself `name`: 15 letters.
    pub(crate) fn stick(&self, name: &str, counter: u32) -> PathBuf {
        let pack = name.replace(' ', "-");
        self.pack_with(&pack, NAME, name.as_bytes());
        self.run(&format!(
            "bundle create @{pack} --image @{counter}.img --name smol --counter {counter} --key @release.key"
        ));
        self.path(&format!("{counter}.img"))
    }

    /// Installs a bundle into a models' folder, as a factory does.
    pub(crate) fn install(&self, stick: &Path, models: &Path) {
        self.run("bundle trust @release.key.pub --state @state");
        let (stick, models) = (stick.display(), models.display());
        self.run(&format!("bundle install {stick} --models {models} --state @state"));
    }
}
