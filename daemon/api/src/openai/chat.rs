//! `POST /v1/chat/completions`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use futures_util::{Stream, StreamExt, stream};
use serde_json::{Value, json};

use crate::app::App;
use crate::auth::Program;
use crate::body::JsonBody;
use crate::generation::{Answering, Ended, Piece, Word, begin};
use crate::openai::chunk::{Envelope, logprobs};
use crate::openai::request::ChatRequest;
use crate::problem::{Problem, Result};
use crate::slot::ServedModel;

/// Comments this often keep the connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// `POST /v1/chat/completions`. A client that leaves cancels its own request, streamed or not: what it waited for is
/// dropped with the connection.
pub(crate) async fn chat(
    State(app): State<App>,
    program: Program,
    JsonBody(request): JsonBody<ChatRequest>,
) -> Result<Response> {
    let model = app.slot.require()?;
    request.check_model(&model)?;
    let (is_stream, with_usage) = (request.stream.unwrap_or(false), request.with_usage());
    let order = request.into_order(program.owner, &model.defaults)?;
    let with_logprobs = order.logprobs.is_some();
    let answering = begin(&app, Arc::clone(&model), order).await?;
    let envelope = Envelope::new(&model.id, with_usage && is_stream);
    let teller = Teller { envelope, model, with_logprobs, with_usage, has_begun: false };
    if is_stream { Ok(streamed(answering, teller)) } else { whole(answering, &teller).await }
}

/// The answer at once.
async fn whole(mut answering: Answering, teller: &Teller) -> Result<Response> {
    let (mut reasoning, mut content, mut scored) = (String::new(), String::new(), Vec::new());
    loop {
        match answering.next().await {
            Some(Piece::Word(Word::Reasoning(text))) => reasoning += &text,
            Some(Piece::Word(Word::Content(text, tokens))) => {
                content += &text;
                scored.extend(tokens);
            }
            Some(Piece::Word(Word::WasThought)) => {
                reasoning = std::mem::take(&mut content);
                scored.clear();
            }
            Some(Piece::Queued { .. } | Piece::Prefill { .. }) => {}
            Some(Piece::Failed(problem)) => return Err(problem),
            Some(Piece::Ended(ended)) => {
                let reasoning = Some(&*reasoning).filter(|reasoning| !reasoning.is_empty());
                let completion =
                    teller.envelope.completion(reasoning, &content, &teller.logprobs(&scored), &ended);
                return Ok(Json(completion).into_response());
            }
            None => return Err(Problem::internal(&"an answer without an end")),
        }
    }
}

type Sent = std::result::Result<Event, Infallible>;

fn streamed(answering: Answering, teller: Teller) -> Response {
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive");
    Sse::new(events(answering, teller)).keep_alive(keep_alive).into_response()
}

/// The answer as server-sent events. The answering lives in the stream: a connection that goes takes it along.
fn events(answering: Answering, teller: Teller) -> impl Stream<Item = Sent> {
    let told = stream::unfold((answering, teller), async |(mut answering, mut teller)| {
        let piece = answering.next().await?;
        Some((teller.tell(piece), (answering, teller)))
    });
    told.flat_map(stream::iter).map(Ok)
}

/// Turns pieces into events.
struct Teller {
    envelope: Envelope,
    model: Arc<ServedModel>,
    with_logprobs: bool,
    with_usage: bool,
    has_begun: bool,
}

impl Teller {
    /// News of the queue are comments: a named event, or a chunk without choices, breaks clients.
    fn tell(&mut self, piece: Piece) -> Vec<Event> {
        match piece {
            Piece::Queued { ahead } => vec![comment("queue", &json!({ "ahead": ahead }))],
            Piece::Prefill { done, total } => {
                let progress = comment("prefill", &json!({ "done": done, "total": total }));
                self.begun().into_iter().chain([progress]).collect()
            }
            Piece::Word(Word::Reasoning(text)) => self.with_role(self.envelope.reasoning(&text)),
            Piece::Word(Word::Content(text, scored)) => {
                let logprobs = self.logprobs(&scored);
                self.with_role(self.envelope.content(&text, &logprobs))
            }
            // What was sent can't be taken back; the marker is left out.
            Piece::Word(Word::WasThought) => Vec::new(),
            Piece::Ended(ended) => self.ended(&ended),
            Piece::Failed(problem) => vec![data(&problem.to_json()), Event::default().data("[DONE]")],
        }
    }

    fn with_role(&mut self, chunk: Value) -> Vec<Event> {
        self.begun().into_iter().chain([data(&chunk)]).collect()
    }

    /// The role chunk, the first time.
    fn begun(&mut self) -> Option<Event> {
        let first = !std::mem::replace(&mut self.has_begun, true);
        first.then(|| data(&self.envelope.role()))
    }

    fn ended(&mut self, ended: &Ended) -> Vec<Event> {
        let usage = self.with_usage.then(|| data(&self.envelope.usage(ended)));
        let mut events = self.with_role(self.envelope.finish(ended.reason));
        events.extend(usage);
        events.push(Event::default().data("[DONE]"));
        events
    }

    fn logprobs(&self, scored: &[crate::generation::Scored]) -> Value {
        if self.with_logprobs { logprobs(self.model.codec.tokenizer(), scored) } else { Value::Null }
    }
}

fn data(chunk: &Value) -> Event {
    Event::default().data(chunk.to_string())
}

fn comment(what: &str, facts: &Value) -> Event {
    Event::default().comment(format!("{what} {facts}"))
}
