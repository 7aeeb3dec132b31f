//! The daemon as a client sees it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::cgroup::Cgroup;

/// Longest wait for an answer: a request that hangs is a fault, too.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// A running daemon; dropped, it ends as the system would end it.
pub(super) struct Server {
    child: Child,
    address: String,
    /// When its process began.
    pub(super) started: Instant,
}

/// What a question brought.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The answer's text, or the error's message.
    pub(super) text: String,
    pub(super) seconds: f64,
}

impl Answer {
    pub(super) fn is_error(&self) -> bool {
        self.status != 200
    }
}

impl Server {
    /// Starts `wels serve` with a model, its state in a folder, and waits until it listens; in a cgroup if there is one.
    pub(super) fn start<A: AsRef<OsStr>>(
        wels: &Path,
        (model, state): (&Path, &Path),
        options: impl IntoIterator<Item = A>,
        cgroup: Option<&Cgroup>,
    ) -> Result<Self> {
        let mut command = match cgroup.map(Cgroup::entrance) {
            None => Command::new(wels),
            Some([shell, words @ ..]) => {
                let mut command = Command::new(shell);
                command.args(words).arg(wels);
                command
            }
        };
        command.args(["serve", "--listen", "127.0.0.1:0", "--no-api-key", "--json", "--model"]);
        command.arg(model).arg("--state").arg(state).args(options);
        // What it says of broken drives is expected here.
        command.env("WELS_LOG", "off").stdin(Stdio::null()).stdout(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot start {}", wels.display()))?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("its output is piped")?;
        BufReader::new(stdout).read_line(&mut line).context("cannot read what the daemon says")?;
        let said: Value = serde_json::from_str(&line).context("the daemon ended instead of listening")?;
        let address = said["listening"].as_str().context("the daemon names no address")?;
        Ok(Self { child, address: address.trim_start_matches("http://").to_owned(), started })
    }

    /// Of its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The likeliest answer to a question, of `n_tokens` at most.
    pub(super) fn ask(&self, question: &str, n_tokens: usize) -> Result<Answer> {
        let body = json!({
            "messages": [{ "role": "user", "content": question }], "max_tokens": n_tokens, "temperature": 0,
        });
        let start = Instant::now();
        let (status, body) = self.post("/v1/chat/completions", &body.to_string())?;
        let body: Value =
            serde_json::from_str(&body).with_context(|| format!("the daemon answers no JSON: {body}"))?;
        let text = if status == 200 {
            let message = &body["choices"][0]["message"];
            format!("{}{}", message["reasoning_content"].as_str().unwrap_or_default(), message["content"])
        } else {
            body["error"]["message"].as_str().unwrap_or_default().to_owned()
        };
        Ok(Answer { status, text, seconds: start.elapsed().as_secs_f64() })
    }

    /// Status and body.
    fn post(&self, path: &str, body: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address).context("the daemon takes no connection")?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).context("cannot limit the wait")?;
        // HTTP/1.0: the body comes in one piece and ends with the connection.
        write!(
            stream,
            "POST {path} HTTP/1.0\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .context("the daemon takes no request")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("the daemon gives no answer")?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let (_, body) = answer.split_once("\r\n\r\n").context("the daemon's answer has no body")?;
        Ok((status.context("the daemon's answer has no status")?, body.to_owned()))
    }

    /// Ends it, and waits until it has kept what it keeps.
    pub(super) fn stop(mut self) -> Result<()> {
        self.terminate()?;
        let status = self.child.wait().context("cannot wait for the daemon")?;
        ensure!(status.success(), "the daemon ended with {status}");
        Ok(())
    }

    fn terminate(&self) -> Result<()> {
        kill(Pid::from_raw(self.pid().cast_signed()), Signal::SIGTERM).context("cannot end the daemon")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Gone already, or going.
            let _ = self.terminate();
            let _ = self.child.wait();
        }
    }
}
