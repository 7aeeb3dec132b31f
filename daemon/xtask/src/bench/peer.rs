//! llama.cpp: bringing a build of it, and running it as `wels bench` runs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Work;
use crate::process::Tool;
use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{console, fetch};

/// Where llama.cpp's library comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Build {
    /// Release 0.5.0 out of an npm package: nothing is compiled; the faster of the two in decode.
    Prebuilt,
    /// PyPI's llama-cpp-python 0.3.36, compiled here by clang, once (some minutes); the faster of the two in prefill on
    /// processors with AMX.
    Native,
}

/// llama.cpp, ready to be measured.
pub(crate) struct Peer {
    /// The folder of libllama and its backends.
    library: PathBuf,
}

impl Peer {
    /// Fetches or builds it unless it is here.
    pub(crate) fn bring(workspace: &Workspace, build: Build) -> Result<Self> {
        setup::tools(workspace, &[Need::Python, Need::Numpy])?;
        let library = match build {
            Build::Prebuilt => prebuilt(workspace)?,
            Build::Native => native(workspace)?,
        };
        Ok(Self { library })
    }

    /// What the script printed; its last line is JSON.
    pub(crate) fn bench(&self, workspace: &Workspace, model: &Path, work: &Work) -> Result<String> {
        let script = workspace.join("daemon/xtask/src/bench/llama_bench.py");
        let python = Tool::new(workspace, workspace.venv().join("bin/python")).arg(script);
        python.arg("--library").arg(&self.library).arg("--model").arg(model).args(work.options()).output()
    }
}

fn prebuilt(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target().join("bench/llama-prebuilt");
    let library = folder.join("package/bins/linux-x64");
    if !library.is_dir() {
        console::step("llama.cpp 0.5.0, prebuilt (11 MB)", || {
            fetch::npm_package(workspace, "@node-llama-cpp/linux-x64", "3.22.1", &folder)
        })?;
    }
    Ok(library)
}

/// Clang, because gcc 12 miscompiles llama.cpp's AMX kernels: the first prefill dies of an illegal instruction. Clang 14
/// calls the processor's AMX by older names than llama.cpp looks for, so the macros are given; without them llama.cpp
/// leaves AMX out, at a quarter of its prefill speed, and the comparison would be unfair.
fn native(workspace: &Workspace) -> Result<PathBuf> {
    let venv = workspace.target().join("bench/llama-native");
    let library = venv.join("wels-library");
    if library.exists() {
        return Ok(library);
    }
    setup::tools(workspace, &[Need::Clang])?;
    let has_amx = std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("amx_int8"));
    let amx = if has_amx { "-D__AMX_TILE__=1 -D__AMX_INT8__=1" } else { "" };
    let jobs = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    console::step("llama-cpp-python 0.3.36: compiling it, once", || {
        Tool::new(workspace, "python3").args(["-m", "venv", "--clear"]).arg(&venv).output()?;
        let python = venv.join("bin/python");
        let pip = Tool::new(workspace, &python).args(["-m", "pip", "install", "--quiet", "--no-cache-dir"]);
        let pip = pip.env("CC", "clang").env("CXX", "clang++").env("CFLAGS", amx).env("CXXFLAGS", amx);
        let pip = pip.env("CMAKE_ARGS", "-DGGML_NATIVE=ON").env("CMAKE_BUILD_PARALLEL_LEVEL", jobs);
        pip.arg("llama-cpp-python==0.3.36").output()?;
        let place =
            "import importlib.util as u; print(u.find_spec('llama_cpp').submodule_search_locations[0])";
        let package = Tool::new(workspace, &python).args(["-c", place]).output()?;
        std::os::unix::fs::symlink(Path::new(package.trim()).join("lib"), &library)
            .context("cannot link the library")
    })?;
    Ok(library)
}
