//! An HTTP/1.1 client of a hundred lines: exact about what it sends, and able to leave at any moment.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Nothing in these tests takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends requests with the same extra headers each time.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) headers: Vec<(String, String)>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, headers: vec![("Host".into(), address.to_string())] }
    }

    /// The same client with a header set or replaced.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut headers = self.without(name).headers;
        headers.push((name.into(), value.into()));
        Self { headers, ..self.clone() }
    }

    pub(crate) fn without(&self, name: &str) -> Self {
        let keep = self.headers.iter().filter(|(known, _)| !known.eq_ignore_ascii_case(name));
        Self { headers: keep.cloned().collect(), ..self.clone() }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, Some(body.to_string().into_bytes())).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: Option<Vec<u8>>) -> Reply {
        self.open(method, path, body).await.reply().await
    }

    /// Sends a request and reads the answer's head.
    pub(crate) async fn open(&self, method: &str, path: &str, body: Option<Vec<u8>>) -> Exchange {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        let known = |name: &str| self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        if body.is_some() && !known("content-type") {
            head += "Content-Type: application/json\r\n";
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = &body {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        stream.write_all(&body.unwrap_or_default()).await.unwrap();
        Exchange { stream, buffer: Vec::new(), head: None, text: String::new() }
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {:?}", self.text()))
    }

    /// Status and `error.code`.
    pub(crate) fn error(&self) -> (u16, String) {
        (self.status, self.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
    }
}

/// A server-sent event, or a comment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sse {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: String,
    pub(crate) comment: String,
}

impl Sse {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("{e} in {:?}", self.data))
    }
}

/// A request under way; dropping it hangs up.
#[derive(Debug)]
pub(crate) struct Exchange {
    stream: TcpStream,
    buffer: Vec<u8>,
    head: Option<Reply>,
    text: String,
}

impl Exchange {
    /// The whole answer.
    pub(crate) async fn reply(mut self) -> Reply {
        self.head().await;
        let mut body = Vec::new();
        if self.head().await.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                body.extend(chunk);
            }
        } else {
            let length = self.head().await.header("content-length").map_or(0, |n| n.parse().unwrap());
            body = self.take(length).await;
        }
        Reply { body, ..self.head.unwrap() }
    }

    /// Status and headers.
    pub(crate) async fn head(&mut self) -> &Reply {
        if self.head.is_none() {
            let text = String::from_utf8(self.until(b"\r\n\r\n").await).unwrap();
            let mut lines = text.lines();
            let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
            let headers = lines.filter_map(|line| line.split_once(": "));
            let headers = headers.map(|(name, value)| (name.into(), value.into())).collect();
            self.head = Some(Reply { status, headers, body: Vec::new() });
        }
        self.head.as_ref().unwrap()
    }

    /// The next event of a stream. Panics on text cut inside a character, as each chunk must be UTF-8 by itself.
    pub(crate) async fn event(&mut self) -> Option<Sse> {
        self.head().await;
        while !self.text.contains("\n\n") {
            let chunk = self.chunk().await?;
            self.text += &String::from_utf8(chunk).expect("no character is split between chunks");
        }
        let (block, rest) = self.text.split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        self.text = rest;
        let mut sse = Sse::default();
        for line in block.lines() {
            let (field, value) = line.split_once(':').unwrap();
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match field {
                "id" => sse.id = value,
                "event" => sse.event = value,
                "data" => sse.data = value,
                "" => sse.comment = value,
                _ => panic!("an unknown field in {line:?}"),
            }
        }
        Some(sse)
    }

    /// All events to the end.
    pub(crate) async fn events(mut self) -> Vec<Sse> {
        let mut events = Vec::new();
        while let Some(event) = self.event().await {
            events.push(event);
        }
        events
    }

    async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = String::from_utf8(self.until(b"\r\n").await).unwrap();
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        let chunk = self.take(length).await;
        self.take(2).await;
        (length > 0).then_some(chunk)
    }

    async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return self.take(at + end.len()).await;
            }
            self.fill().await;
        }
    }

    async fn take(&mut self, n: usize) -> Vec<u8> {
        while self.buffer.len() < n {
            self.fill().await;
        }
        self.buffer.drain(..n).collect()
    }

    async fn fill(&mut self) {
        let n = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer))
            .await
            .expect("an answer in time")
            .unwrap();
        assert!(n > 0, "the server hung up");
    }
}
