//! The daemon as systemd runs it on the box: ready, watched, and with a page whatever the models' folder holds.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A daemon with its folders, and the socket on which it reports.
struct Box {
    daemon: Child,
    dir: tempfile::TempDir,
    reports: UnixDatagram,
    url: String,
}

impl Box {
    /// Starts with what `install` puts into the models' folder.
    fn start(install: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["models", "state", "run"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        install(&dir.path().join("models"));
        let reports = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        reports.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_wels"))
            .args(["serve", "--listen", "127.0.0.1:0", "--json", "--models"])
            .arg(dir.path().join("models"))
            .arg("--state")
            .arg(dir.path().join("state"))
            .env("RUNTIME_DIRECTORY", dir.path().join("run"))
            .env("NOTIFY_SOCKET", dir.path().join("notify"))
            .env("WATCHDOG_USEC", "600000")
            .env("WELS_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let announced: Value = serde_json::from_str(&line).unwrap();
        let url = announced["listening"].as_str().unwrap().to_owned();
        Self { daemon, dir, reports, url }
    }

    /// What it tells systemd next.
    fn report(&self) -> String {
        let mut bytes = [0; 256];
        let n = self.reports.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..n]).trim_end().to_owned()
    }

    /// Runs another command of the box, beside the daemon.
    fn command(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wels"));
        command.args(args).arg("--runtime").arg(self.dir.path().join("run"));
        command
            .arg("--state")
            .arg(self.dir.path().join("state"))
            .env("WELS_LOG", "error")
            .env("TERM", "linux")
            .output()
            .unwrap()
    }

    fn screen(&self) -> String {
        String::from_utf8(self.command(&["console", "--once"]).stdout).unwrap()
    }

    fn health(&self) -> Output {
        self.command(&["health", "--within", "1s", "--url", &self.url])
    }
}

impl Drop for Box {
    fn drop(&mut self) {
        // Gone already, or going.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn smollm2() -> PathBuf {
    fixtures::test_data("smollm2.gguf")
}

fn install(models: &Path) {
    let version = models.join("smollm2/1");
    fs::create_dir(models.join("smollm2")).unwrap();
    let import =
        Command::new(env!("CARGO_BIN_EXE_wels")).arg("import").args([&smollm2(), &version]).output().unwrap();
    assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
    symlink("1", models.join("smollm2/current")).unwrap();
}

#[test]
fn a_box_with_a_model_is_ready_watched_and_well() {
    let wels = Box::start(install);
    assert_eq!(wels.report(), "READY=1");
    assert_eq!(wels.report(), "WATCHDOG=1");
    let health = wels.health();
    let words = String::from_utf8_lossy(&health.stdout).into_owned();
    assert!(health.status.success() && words.contains("has said a word"), "{words}");
    let screen = wels.screen();
    assert!(screen.contains("Model: SmolLM2") && screen.contains("Code that makes it yours"), "{screen}");
}

#[test]
fn a_box_without_a_model_has_a_page_and_says_what_to_do() {
    let wels = Box::start(|_| ());
    assert_eq!(wels.report(), "READY=1");
    assert!(wels.health().status.success());
    let page = ureq::get(&wels.url).call().unwrap().body_mut().read_to_string().unwrap();
    assert!(page.contains("<html"), "{page}");
    assert!(wels.screen().contains("plug in a stick"), "{}", wels.screen());
}

#[test]
fn a_model_that_cannot_be_served_costs_health_and_not_the_page() {
    let wels = Box::start(|models| {
        fs::create_dir_all(models.join("broken/1")).unwrap();
        fs::write(models.join("broken/1/pack.json"), "{").unwrap();
        fs::write(models.join("broken/current"), "1").unwrap();
    });
    assert_eq!(wels.report(), "READY=1");
    assert!(ureq::get(&wels.url).call().is_ok());
    let health = wels.health();
    let words = String::from_utf8_lossy(&health.stderr).into_owned();
    assert!(!health.status.success() && words.contains("broken/1"), "{words}");
    assert!(wels.screen().contains("cannot be served"), "{}", wels.screen());
}
