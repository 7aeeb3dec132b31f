//! The shapes of OpenAI's answers, in their strict form: the role first and once, one id, no `finish_reason` before the
//! last choice, whose delta is empty, then the usage.

use engine::{FinishReason, Timings};
use serde_json::{Value, json};
use store::{now_ms, secret};
use text::Tokenizer;

use crate::generation::{Ended, Scored};

/// What every chunk of one answer repeats.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    id: String,
    created: i64,
    model: String,
    /// Whether a usage chunk will come: the others then say `"usage": null`.
    with_usage: bool,
}

impl Envelope {
    pub(crate) fn new(model: &str, with_usage: bool) -> Self {
        let id = format!("chatcmpl-{:016x}", secret::random_u64());
        Self { id, created: now_ms() / 1000, model: model.to_owned(), with_usage }
    }

    fn wrap(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": concat!("wels-", env!("CARGO_PKG_VERSION")),
            "choices": choices,
        })
    }

    fn chunk(&self, delta: &Value, logprobs: &Value, finish_reason: Option<&str>) -> Value {
        let choice =
            json!({ "index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason });
        let mut chunk = self.wrap("chat.completion.chunk", json!([choice]));
        if self.with_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    /// The first chunk.
    pub(crate) fn role(&self) -> Value {
        self.chunk(&json!({ "role": "assistant", "content": "" }), &Value::Null, None)
    }

    /// A piece of the thoughts.
    pub(crate) fn reasoning(&self, text: &str) -> Value {
        self.chunk(&json!({ "reasoning_content": text }), &Value::Null, None)
    }

    /// A piece of the answer.
    pub(crate) fn content(&self, text: &str, logprobs: &Value) -> Value {
        self.chunk(&json!({ "content": text }), logprobs, None)
    }

    /// The last chunk with a choice.
    pub(crate) fn finish(&self, reason: FinishReason) -> Value {
        self.chunk(&json!({}), &Value::Null, Some(finish_reason(reason)))
    }

    /// The chunk after it.
    pub(crate) fn usage(&self, ended: &Ended) -> Value {
        let mut chunk = self.wrap("chat.completion.chunk", json!([]));
        chunk["usage"] = usage(ended);
        chunk
    }

    /// The whole answer at once.
    pub(crate) fn completion(
        &self,
        reasoning: Option<&str>,
        content: &str,
        logprobs: &Value,
        ended: &Ended,
    ) -> Value {
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        if let Some(reasoning) = reasoning {
            message["reasoning_content"] = json!(reasoning);
        }
        let finish_reason = finish_reason(ended.reason);
        let choice =
            json!({ "index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish_reason });
        let mut completion = self.wrap("chat.completion", json!([choice]));
        completion["usage"] = usage(ended);
        completion
    }
}

fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}

fn usage(ended: &Ended) -> Value {
    let Timings { n_prompt, n_cached, n_generated, lost, .. } = ended.timings;
    let mut usage = json!({
        "prompt_tokens": n_prompt,
        "completion_tokens": n_generated,
        "total_tokens": n_prompt + n_generated,
        "prompt_tokens_details": { "cached_tokens": n_cached },
        "completion_tokens_details": { "reasoning_tokens": ended.n_reasoning },
    });
    if let Some(lost) = lost {
        usage["wels"] = json!({ "quality": "skip", "lost_share": lost });
    }
    usage
}

/// OpenAI's `logprobs` of a piece of the answer.
pub(crate) fn logprobs(tokenizer: &Tokenizer, scored: &[Scored]) -> Value {
    let token = |id: u32, logprob: f32| {
        let bytes = tokenizer.token_bytes(id);
        json!({ "token": String::from_utf8_lossy(bytes), "logprob": logprob, "bytes": bytes })
    };
    let entry = |scored: &Scored| {
        let mut entry = token(scored.id, scored.logprobs.chosen);
        entry["top_logprobs"] = scored.logprobs.top.iter().map(|&(id, logprob)| token(id, logprob)).collect();
        entry
    };
    json!({ "content": scored.iter().map(entry).collect::<Vec<_>>(), "refusal": null })
}
