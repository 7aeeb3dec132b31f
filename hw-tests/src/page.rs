//! The box's page as a program sees it: claims the box, makes a key, asks.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use ureq::Agent;

/// Time for one answer; the virtual box computes slowly.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(300);
/// What whoever claimed it signs in with.
pub(crate) const PASSWORD: &str = "a long enough password";
/// A page that takes longer for a word is gone.
const GONE_TIME: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read.
const BODY_MAX: u64 = 4 << 20;

/// A person's browser, in short.
pub(crate) struct Page {
    agent: Agent,
    url: String,
    /// The session, once somebody has signed in.
    pub(crate) cookie: Option<String>,
}

impl Page {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let config =
            Agent::config_builder().timeout_global(Some(ANSWER_TIME_MAX)).http_status_as_error(false);
        Self { agent: config.build().new_agent(), url: format!("http://{address}"), cookie: None }
    }

    /// Status and body.
    pub(crate) fn get(&self, path: &str) -> Result<(u16, String)> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(cookie) = &self.cookie {
            request = request.header("Cookie", cookie);
        }
        let mut reply = request.call().with_context(|| format!("GET {path}"))?;
        Ok((reply.status().as_u16(), reply.body_mut().with_config().limit(BODY_MAX).read_to_string()?))
    }

    /// Waits until the page answers.
    pub(crate) fn wait(&self, limit: Duration) -> Result<()> {
        self.wait_for("/healthz", 200, limit).context("no page")
    }

    /// Waits until whoever is signed in no longer is.
    pub(crate) fn wait_signed_out(&self, limit: Duration) -> Result<()> {
        self.wait_for("/api/admin/updates", 401, limit).context("still signed in")
    }

    fn wait_for(&self, path: &str, status: u16, limit: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            match self.get(path) {
                Ok((found, _)) if found == status => return Ok(()),
                found if start.elapsed() > limit => {
                    bail!("GET {path}: not {status} after {} s: {found:?}", limit.as_secs())
                }
                _ => std::thread::sleep(Duration::from_millis(500)),
            }
        }
    }

    /// Waits until the page no longer answers. Soon: the port that leads to a virtual box is open while that is down, and what
    /// is asked there is answered once it is up again.
    pub(crate) fn wait_gone(&self, limit: Duration) -> Result<()> {
        let config = Agent::config_builder().timeout_global(Some(GONE_TIME));
        let (agent, url) = (config.build().new_agent(), format!("{}/healthz", self.url));
        let start = Instant::now();
        while agent.get(&url).call().is_ok() {
            if start.elapsed() > limit {
                bail!("the page still answers after {} s", limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    }

    pub(crate) fn post(&mut self, path: &str, body: &Value, key: Option<&str>) -> Result<Value> {
        let mut request = self.agent.post(format!("{}{path}", self.url)).header("Origin", &self.url);
        request = request.header("Content-Type", "application/json");
        if let Some(cookie) = &self.cookie {
            request = request.header("Cookie", cookie);
        }
        if let Some(key) = key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let mut reply = request.send(body.to_string()).with_context(|| format!("POST {path}"))?;
        if let Some(cookie) = reply.headers().get("set-cookie").and_then(|value| value.to_str().ok()) {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        let text = reply.body_mut().with_config().limit(BODY_MAX).read_to_string()?;
        if !reply.status().is_success() {
            bail!("POST {path}: {} {text}", reply.status());
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Makes the box somebody's.
    pub(crate) fn claim(&mut self, code: &str) -> Result<()> {
        let owner = json!({ "code": code, "name": "ada", "password": PASSWORD });
        self.post("/api/claim", &owner, None).map(drop)
    }

    /// Signs in as whoever claimed it.
    pub(crate) fn sign_in(&mut self) -> Result<()> {
        let who = json!({ "name": "ada", "password": PASSWORD });
        self.post("/api/login", &who, None).map(drop)
    }

    /// JSON from the page's API.
    pub(crate) fn json(&self, path: &str) -> Result<Value> {
        let (status, text) = self.get(path)?;
        if status != 200 {
            bail!("GET {path}: {status} {text}");
        }
        serde_json::from_str(&text).with_context(|| format!("GET {path}: {text}"))
    }

    /// Begins a chat of that title.
    pub(crate) fn begin_chat(&mut self, title: &str) -> Result<()> {
        let chat = self.post("/api/chats", &Value::Null, None)?;
        let id = chat["id"].as_str().with_context(|| format!("no chat in {chat}"))?;
        let path = format!("/api/chats/{id}");
        let patch = self.agent.patch(format!("{}{path}", self.url)).header("Origin", &self.url);
        let patch = patch.header("Content-Type", "application/json");
        let patch = patch.header("Cookie", self.cookie.as_deref().unwrap_or_default());
        let reply = patch.send(json!({ "title": title }).to_string())?;
        if !reply.status().is_success() {
            bail!("PATCH {path}: {}", reply.status());
        }
        Ok(())
    }

    /// The titles of its chats.
    pub(crate) fn chats(&self) -> Result<Vec<String>> {
        let found = self.json("/api/chats")?;
        let chats = found["chats"].as_array().with_context(|| format!("no chats in {found}"))?;
        Ok(chats.iter().filter_map(|chat| chat["title"].as_str()).map(str::to_owned).collect())
    }

    /// Asks the model through the API that programs use.
    pub(crate) fn ask(&mut self, question: &str, max_tokens: usize) -> Result<String> {
        let made = self.post("/api/keys", &json!({ "name": "hw-tests" }), None)?;
        let key = made["key"].as_str().with_context(|| format!("no key in {made}"))?.to_owned();
        let ask = json!({ "messages": [{ "role": "user", "content": question }], "max_tokens": max_tokens, "temperature": 0 });
        let answer = self.post("/v1/chat/completions", &ask, Some(&key))?;
        let text = answer["choices"][0]["message"]["content"].as_str();
        Ok(text.with_context(|| format!("no answer in {answer}"))?.to_owned())
    }
}
