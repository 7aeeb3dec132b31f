//! Other engines: bringing a build of them, and running it as `wels bench` runs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::contest::Work;
use crate::cgroup::Cgroup;
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

/// Instructions that both sides are held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Level {
    /// AVX2 and FMA: what every processor since Haswell and Zen has.
    Avx2,
}

impl Level {
    /// The value of `WELS_CPU`.
    pub(super) fn wels(self) -> &'static str {
        match self {
            Self::Avx2 => "avx2",
        }
    }

    /// The processor that llama.cpp names its library for that level after.
    fn llama(self) -> &'static str {
        match self {
            Self::Avx2 => "haswell",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Llama,
    /// llama.cpp with its Vulkan backend, which takes all layers.
    LlamaVulkan,
    Ik,
}

/// An engine, ready to be measured.
pub(super) struct Peer {
    engine: Engine,
    /// The folder of libllama.
    library: PathBuf,
    /// Weights are laid out anew while they are loaded: faster, but a second copy in memory.
    repack: bool,
}

impl Peer {
    /// Fetches or builds llama.cpp unless it is here.
    pub(super) fn llama(workspace: &Workspace, build: Build) -> Result<Self> {
        setup::tools(workspace, &[Need::Python, Need::Numpy])?;
        let library = match build {
            Build::Prebuilt => prebuilt(workspace)?,
            Build::Native => native(workspace)?,
        };
        Ok(Self { engine: Engine::Llama, library, repack: true })
    }

    /// Fetches llama.cpp's Vulkan build unless it is here.
    pub(super) fn llama_vulkan(workspace: &Workspace) -> Result<Self> {
        setup::tools(workspace, &[Need::Python, Need::Numpy, Need::Vulkan])?;
        let folder = workspace.target().join("bench/llama-vulkan");
        let library = folder.join("package/bins/linux-x64-vulkan");
        if !library.is_dir() {
            console::step("llama.cpp 0.5.0 for Vulkan, prebuilt (24 MB)", || {
                fetch::npm_package(workspace, "@node-llama-cpp/linux-x64-vulkan", "3.22.1", &folder)
            })?;
        }
        Ok(Self { engine: Engine::LlamaVulkan, library, repack: true })
    }

    /// Fetches ik_llama.cpp unless it is here. Which way of it is the faster depends on the work.
    pub(super) fn ik(workspace: &Workspace) -> Result<[Self; 2]> {
        setup::tools(workspace, &[Need::Python, Need::Numpy])?;
        let folder = workspace.target().join("bench/ik-llama");
        if !folder.is_dir() {
            console::step("ik_llama.cpp of ik-llama-cpp-python 0.1.5, prebuilt (25 MB)", || {
                fetch::wheel(workspace, "ik-llama-cpp-python", "0.1.5", &folder)
            })?;
        }
        let library = folder.join("ik_llama_cpp/lib");
        Ok([false, true].map(|repack| Self { engine: Engine::Ik, library: library.clone(), repack }))
    }

    pub(super) fn name(&self) -> String {
        match (self.engine, self.repack) {
            (Engine::Llama, true) => "llama.cpp",
            (Engine::Llama, false) => "llama.cpp --no-repack",
            (Engine::LlamaVulkan, _) => "llama.cpp Vulkan",
            (Engine::Ik, false) => "ik_llama.cpp",
            (Engine::Ik, true) => "ik_llama.cpp -rtr",
        }
        .to_owned()
    }

    /// Changes llama.cpp from the faster layout, which fails on some models, to the plain one; false where there is no
    /// other way to try.
    pub(super) fn try_without_repacking(&mut self) -> bool {
        let can = self.engine == Engine::Llama && self.repack;
        self.repack &= !can;
        can
    }

    /// What the script printed; its last line is JSON. The logits behind the prompt go to the file `logits`.
    pub(super) fn bench(
        &self,
        workspace: &Workspace,
        model: &Path,
        work: &Work,
        logits: &Path,
    ) -> Result<String> {
        let python = self.script(workspace, "peer_bench.py", model);
        let python = match work.level.filter(|_| self.engine == Engine::Llama) {
            Some(level) => python.args(["--cpu", level.llama()]),
            None => python,
        };
        let output = python.args(work.options()).arg("--logits").arg(logits).output();
        output.or_else(|error| bail!("fails: {}", cause(&format!("{error:#}"))))
    }

    /// Leaves the weights in the mapped file, from where they can be read again.
    pub(super) fn mapped(self) -> Self {
        Self { repack: false, ..self }
    }

    /// What the script for models larger than memory printed; its last line is JSON.
    pub(super) fn stream(
        &self,
        workspace: &Workspace,
        model: &Path,
        options: &[String],
        cgroup: &Cgroup,
    ) -> Result<String> {
        let python = self.script(workspace, "peer_streaming.py", model).args(options);
        let python = if self.engine == Engine::Ik { python.arg("--deferred") } else { python };
        let output = python.within(cgroup).output();
        output.or_else(|error| bail!("fails: {}", cause(&format!("{error:#}"))))
    }

    /// Python with a script of ours, and what all of them are told.
    fn script(&self, workspace: &Workspace, name: &str, model: &Path) -> Tool {
        let kind = match self.engine {
            Engine::Llama | Engine::LlamaVulkan => "mainline",
            Engine::Ik => "ik",
        };
        let python = Tool::new(workspace, workspace.venv().join("bin/python"));
        // Nothing is left beside the sources.
        let python = python.arg("-B").arg(workspace.join("daemon/xtask/src/bench").join(name));
        let python = python.args(["--kind", kind, "--repack", if self.repack { "yes" } else { "no" }]);
        let python = python.arg("--library").arg(&self.library).arg("--model").arg(model);
        let python = python.env("GGML_NO_BACKTRACE", "1");
        match self.engine {
            // Without being told it leaves software devices alone, and would compute on the processor.
            Engine::LlamaVulkan => python.env("GGML_VK_VISIBLE_DEVICES", "0"),
            _ => python,
        }
    }
}

/// The line of a failed program's output that says why.
fn cause(output: &str) -> String {
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let tells = |line: &&&str| ["ASSERT", "abort", "Error"].iter().any(|word| line.contains(word));
    let said = lines.iter().skip(1).find(tells).or(lines.last());
    said.map_or_else(|| "it does not say why".to_owned(), |line| (*line).to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_by_the_line_that_says_why() {
        let crash =
            "`python ...` failed (signal: 6)\nloading\na.cpp:12: GGML_ASSERT(x) failed\n#1 0x7f in ??\n";
        assert_eq!(cause(crash), "a.cpp:12: GGML_ASSERT(x) failed");
        assert_eq!(
            cause("`python` failed (exit status: 1)\nthe logits are not finite\n"),
            "the logits are not finite"
        );
        assert_eq!(cause("`python` failed (signal: 4)"), "`python` failed (signal: 4)");
    }

    #[test]
    fn only_llama_cpp_has_a_second_way() {
        let mut peer = Peer { engine: Engine::Llama, library: PathBuf::new(), repack: true };
        assert!(peer.try_without_repacking() && !peer.repack && !peer.try_without_repacking());
        let mut peer = Peer { engine: Engine::Ik, library: PathBuf::new(), repack: true };
        assert!(!peer.try_without_repacking() && peer.repack);
    }
}
