//! Chooses the page to embed: `web-ui/dist` where it has been built, else a page that says how to build it. Cargo needs
//! no Node; a release check refuses the placeholder.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

const PLACEHOLDER: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>Wels</title>
<h1>The page has not been built</h1>
<p>This daemon was compiled without its page. Build the page, then the daemon:</p>
<pre>cargo xtask run</pre>
<p>The API under /v1 works without it.</p>
</html>
";

fn main() -> io::Result<()> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web-ui/dist");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", built.display());
    let page = if built.join("index.html").is_file() { built.canonicalize()? } else { placeholder()? };
    println!("cargo:rustc-env=WELS_PAGE_DIR={}", page.display());
    Ok(())
}

fn placeholder() -> io::Result<PathBuf> {
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is not set: run by cargo"))?;
    let dir = Path::new(&out).join("page");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("index.html"), PLACEHOLDER)?;
    Ok(dir)
}
