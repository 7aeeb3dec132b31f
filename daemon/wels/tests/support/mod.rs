//! A box for tests: the daemon as systemd runs it, bundles on sticks, and its page as a program sees it.
#![allow(dead_code, reason = "each test uses a part")]

pub(crate) mod desk;
pub(crate) mod shop;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Nothing here takes this long.
const PATIENCE: Duration = Duration::from_secs(120);
const PASSWORD: &str = "correct horse battery";

/// A daemon with its folders, and the socket on which it reports.
pub(crate) struct TestBox {
    pub(crate) daemon: Child,
    pub(crate) dir: tempfile::TempDir,
    reports: mpsc::Receiver<String>,
    pub(crate) url: String,
    code: Option<String>,
}

impl TestBox {
    /// Starts with what `install` puts into the models' folder.
    pub(crate) fn start(install: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["models", "state", "run"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        install(&dir.path().join("models"));
        let reports = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        let reports = heard(reports);
        let (daemon, announced) = launch(dir.path());
        let text = |name: &str| announced[name].as_str().map(str::to_owned);
        let (url, code) = (text("listening").unwrap(), text("claim_code"));
        Self { daemon, dir, reports, url, code }
    }

    /// Its power goes, and comes back.
    pub(crate) fn cut_power(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
        let (daemon, announced) = launch(self.dir.path());
        self.daemon = daemon;
        self.url = announced["listening"].as_str().unwrap().to_owned();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What it tells systemd next.
    pub(crate) fn report(&self) -> String {
        self.reports.recv_timeout(PATIENCE).unwrap()
    }

    /// Runs another command of the box, beside the daemon.
    pub(crate) fn command(&self, args: &[&str]) -> Output {
        let mut command = wels();
        command.args(args).arg("--runtime").arg(self.path("run"));
        command.arg("--state").arg(self.path("state")).env("TERM", "linux").output().unwrap()
    }

    pub(crate) fn screen(&self) -> String {
        String::from_utf8(self.command(&["console", "--once"]).stdout).unwrap()
    }

    /// Waits until the screen shows `words`.
    pub(crate) fn until_screen(&self, words: &str) {
        self.until_screen_is(words, |screen| screen.contains(words));
    }

    /// The first screen that is as wanted.
    pub(crate) fn until_screen_is(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return screen;
            }
            assert!(start.elapsed() < PATIENCE, "{what} never came: {screen}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn health(&self) -> Output {
        self.command(&["health", "--within", "1s", "--url", &self.url])
    }

    /// Plugs a stick in: an image or a folder.
    pub(crate) fn plug(&self, stick: &Path) -> Plugged {
        let mut command = wels();
        Plugged(command.arg("stick").arg(stick).arg("--runtime").arg(self.path("run")).spawn().unwrap())
    }

    /// The administrator's browser; the box is claimed by it.
    pub(crate) fn claimed(&self) -> Browser {
        self.claimed_by("ada")
    }

    pub(crate) fn claimed_by(&self, name: &str) -> Browser {
        let claim = json!({ "code": self.code, "name": name, "password": PASSWORD });
        self.entered("/api/claim", &claim)
    }

    /// The administrator's browser, after a restart.
    pub(crate) fn signed_in(&self) -> Browser {
        self.entered("/api/login", &json!({ "name": "ada", "password": PASSWORD }))
    }

    /// The browser of whoever has read the recovery code; ada's, with a new password.
    pub(crate) fn recovered(&self, code: &str, password: &str) -> Browser {
        self.entered("/api/recover", &json!({ "code": code, "name": "ada", "password": password }))
    }

    /// A browser on the page, signed out.
    pub(crate) fn signed_out(&self) -> Browser {
        Browser { url: self.url.clone(), cookie: String::new() }
    }

    fn entered(&self, path: &str, words: &Value) -> Browser {
        let browser = self.signed_out();
        let mut reply = browser.send(path, words);
        let text = reply.body_mut().read_to_string().unwrap();
        assert_eq!(reply.status(), 200, "{text}");
        let cookie = reply.headers()["set-cookie"].to_str().unwrap();
        Browser { cookie: cookie.split(';').next().unwrap().to_owned(), ..browser }
    }
}

impl Drop for TestBox {
    fn drop(&mut self) {
        // Gone already, or going.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// What is reported, heard at once: a daemon that nobody hears waits.
fn heard(reports: UnixDatagram) -> mpsc::Receiver<String> {
    let (tell, hear) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 256];
        while let Ok(n) = reports.recv(&mut bytes) {
            if tell.send(String::from_utf8_lossy(&bytes[..n]).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    hear
}

fn wels() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wels"));
    command.env("WELS_LOG", "error");
    command
}

fn launch(dir: &Path) -> (Child, Value) {
    let mut daemon = wels()
        .args(["serve", "--listen", "127.0.0.1:0", "--json", "--device", "cpu", "--models"])
        .arg(dir.join("models"))
        .arg("--state")
        .arg(dir.join("state"))
        .env("RUNTIME_DIRECTORY", dir.join("run"))
        .env("NOTIFY_SOCKET", dir.join("notify"))
        .env("WATCHDOG_USEC", "600000")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (daemon, serde_json::from_str(&line).unwrap())
}

/// A stick that is in, until it is dropped.
pub(crate) struct Plugged(Child);

impl Drop for Plugged {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A browser that is signed in.
pub(crate) struct Browser {
    url: String,
    cookie: String,
}

impl Browser {
    fn send(&self, path: &str, body: &Value) -> ureq::http::Response<ureq::Body> {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let request = agent.post(format!("{}{path}", self.url));
        let request = request.header("Origin", &self.url).header("Cookie", &self.cookie);
        request.header("Content-Type", "application/json").send(body.to_string()).unwrap()
    }

    /// Status, and what is said.
    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let mut reply = self.send(path, body);
        let text = reply.body_mut().read_to_string().unwrap();
        (reply.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub(crate) fn delete(&self, path: &str) -> (u16, Value) {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let request = agent.delete(format!("{}{path}", self.url)).header("Origin", &self.url);
        let mut reply = request.header("Cookie", &self.cookie).call().unwrap();
        let text = reply.body_mut().read_to_string().unwrap();
        (reply.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub(crate) fn done(&self, path: &str, body: &Value) {
        let (status, reply) = self.post(path, body);
        assert_eq!(status, 204, "{path}: {reply}");
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let mut reply =
            ureq::get(format!("{}{path}", self.url)).header("Cookie", &self.cookie).call().unwrap();
        serde_json::from_str(&reply.body_mut().read_to_string().unwrap()).unwrap()
    }

    pub(crate) fn updates(&self) -> Value {
        self.get("/api/admin/updates")
    }

    /// The first state of updates that is as wanted.
    pub(crate) fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let state = self.updates();
            if wanted(&state) {
                return state;
            }
            assert!(start.elapsed() < PATIENCE, "{what} never came: {state:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the stick holds, once it was looked at.
    pub(crate) fn stick(&self) -> Value {
        let is_looked_at =
            |state: &Value| state["stick"]["content"]["state"].as_str().is_some_and(|it| it != "reading");
        self.until("a stick", is_looked_at)["stick"].take()
    }

    /// Agrees to what the stick holds.
    pub(crate) fn install(&self, allow_older: bool) -> (u16, Value) {
        let stick = self.stick();
        let bundle = &stick["content"]["preview"]["id"];
        let wish = json!({ "stick": stick["id"], "bundle": bundle, "allow_older": allow_older });
        self.post("/api/admin/updates/install", &wish)
    }

    /// How what is under way ends.
    pub(crate) fn outcome(&self) -> Value {
        let is_over = |state: &Value| {
            let progress = &state["progress"];
            !progress.is_null() && (progress["step"] == "done" || !progress["error"].is_null())
        };
        self.until("an end", is_over)["progress"].take()
    }

    /// The model that serves; `null` without one.
    pub(crate) fn model(&self) -> Value {
        self.get("/api/state")["model"]["name"].take()
    }
}
