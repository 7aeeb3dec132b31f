//! A chat completion request: read, checked, and put in our words.
//!
//! Fields that are not known are ignored, as OpenAI's own service does. Fields that are known but can't be honoured yet
//! (tools, response formats, images) are refused: an answer that silently ignores them would be wrong.

use std::collections::BTreeMap;

use engine::Sampling;
use serde::Deserialize;
use serde_json::{Map, Value};
use store::secret;
use text::Role;

use crate::generation::Order;
use crate::openai::models::unknown_model;
use crate::problem::{Problem, Result};
use crate::slot::{GenerationDefaults, ServedModel};

/// Stop strings a request may have.
const STOPS_MAX: usize = 16;

/// Bytes of a stop string.
const STOP_BYTES_MAX: usize = 256;

/// Alternatives a request may ask for per token.
const TOP_LOGPROBS_MAX: usize = 20;

/// Variables a request may hand to the chat template.
const TEMPLATE_KWARGS_MAX: usize = 16;

/// Tokens a request may bias.
const BIASES_MAX: usize = 1024;

/// The body of `POST /v1/chat/completions`. `null` is the same as absent.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatRequest {
    model: Option<String>,
    messages: Vec<Message>,
    pub(crate) stream: Option<bool>,
    pub(crate) stream_options: Option<StreamOptions>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i64>,
    min_p: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    #[serde(alias = "repeat_penalty")]
    repetition_penalty: Option<f32>,
    seed: Option<i64>,
    stop: Option<OneOrMany>,
    logit_bias: Option<BTreeMap<String, f32>>,
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
    n: Option<usize>,
    ignore_eos: Option<bool>,
    tools: Option<Value>,
    functions: Option<Value>,
    tool_choice: Option<Value>,
    response_format: Option<Value>,
    /// Variables for the chat template, as vLLM and llama.cpp take them: `{"thinking": true}`.
    chat_template_kwargs: Option<Map<String, Value>>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct StreamOptions {
    pub(crate) include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Message {
    role: String,
    content: Option<Content>,
    /// DeepSeek's field; its absence is fine.
    reasoning_content: Option<String>,
    tool_calls: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Value>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl ChatRequest {
    pub(crate) fn with_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    /// Whether this asks for `model`: by its id, or by no name at all.
    pub(crate) fn check_model(&self, model: &ServedModel) -> Result<()> {
        match self.model.as_deref() {
            None | Some("" | "default") => Ok(()),
            Some(id) if id == model.id => Ok(()),
            Some(id) => Err(unknown_model(id)),
        }
    }

    /// What to generate for `owner`.
    pub(crate) fn into_order(self, owner: u64, defaults: &GenerationDefaults) -> Result<Order> {
        self.refuse_unsupported()?;
        let sampling = self.sampling(defaults)?;
        let max_tokens = self.max_completion_tokens.or(self.max_tokens);
        if max_tokens == Some(0) {
            return Err(invalid("max_tokens", "ask for one token at least"));
        }
        let logprobs = self.logprobs()?;
        let ignore_eos = self.ignore_eos.unwrap_or(false);
        let stops = checked_stops(self.stop)?;
        let messages = self.messages.into_iter().enumerate().map(|(idx, message)| checked(idx, message));
        let messages = messages.collect::<Result<Vec<_>>>()?;
        if messages.is_empty() {
            return Err(invalid("messages", "send one message at least"));
        }
        let template_kwargs = checked_kwargs(self.chat_template_kwargs)?;
        Ok(Order { messages, template_kwargs, sampling, max_tokens, stops, ignore_eos, logprobs, owner })
    }

    fn refuse_unsupported(&self) -> Result<()> {
        let is_used = |value: &Option<Value>| {
            value.as_ref().is_some_and(|v| !v.is_null() && v.as_array().is_none_or(|items| !items.is_empty()))
        };
        for (param, value) in [("tools", &self.tools), ("functions", &self.functions)] {
            if is_used(value) {
                return Err(unsupported(param, "this box can't call tools yet; leave the field out"));
            }
        }
        if self
            .tool_choice
            .as_ref()
            .is_some_and(|choice| !choice.is_null() && choice != "none" && choice != "auto")
        {
            return Err(unsupported("tool_choice", "this box can't call tools yet; leave the field out"));
        }
        let format = self.response_format.as_ref().filter(|format| !format.is_null());
        if format.is_some_and(|format| format["type"] != "text") {
            let message = "this box can't enforce a response format yet; leave the field out";
            return Err(unsupported("response_format", message));
        }
        if self.n.is_some_and(|n| n != 1) {
            return Err(unsupported("n", "this box gives one answer a request; send n requests"));
        }
        Ok(())
    }

    fn sampling(&self, defaults: &GenerationDefaults) -> Result<Sampling> {
        let top_k = match self.top_k {
            None => defaults.top_k,
            // Other servers take -1 for "all".
            Some(k) => usize::try_from(k.max(0)).unwrap_or(usize::MAX),
        };
        Ok(Sampling {
            temperature: within("temperature", self.temperature, 0.0, 2.0)?.unwrap_or(defaults.temperature),
            top_k,
            top_p: within("top_p", self.top_p, 0.0, 1.0)?.unwrap_or(defaults.top_p),
            min_p: within("min_p", self.min_p, 0.0, 1.0)?.unwrap_or(0.0),
            repetition_penalty: within("repetition_penalty", self.repetition_penalty, 0.01, 10.0)?
                .unwrap_or(defaults.repetition_penalty),
            frequency_penalty: within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?.unwrap_or(0.0),
            presence_penalty: within("presence_penalty", self.presence_penalty, -2.0, 2.0)?.unwrap_or(0.0),
            logit_bias: self.logit_bias()?,
            seed: self.seed.map_or_else(secret::random_u64, i64::cast_unsigned),
            ..Sampling::default()
        })
    }

    fn logit_bias(&self) -> Result<Vec<(u32, f32)>> {
        let Some(biases) = &self.logit_bias else { return Ok(Vec::new()) };
        if biases.len() > BIASES_MAX {
            return Err(invalid("logit_bias", format!("at most {BIASES_MAX} tokens can be biased")));
        }
        let bias = |(token, bias): (&String, &f32)| {
            let id = token.parse().map_err(|_| invalid("logit_bias", "its keys are token ids"))?;
            let bias = within("logit_bias", Some(*bias), -100.0, 100.0)?.unwrap_or(0.0);
            Ok((id, bias))
        };
        biases.iter().map(bias).collect()
    }

    fn logprobs(&self) -> Result<Option<usize>> {
        let top = self.top_logprobs.unwrap_or(0);
        let wanted = self.logprobs.unwrap_or(false);
        if top > TOP_LOGPROBS_MAX {
            return Err(invalid(
                "top_logprobs",
                format!("at most {TOP_LOGPROBS_MAX} alternatives can be asked for"),
            ));
        }
        if top > 0 && !wanted {
            return Err(invalid("top_logprobs", "set `logprobs` to true as well"));
        }
        Ok(wanted.then_some(top))
    }
}

fn checked(idx: usize, message: Message) -> Result<text::Message> {
    let param = |field: &str| format!("messages[{idx}].{field}");
    let role = match message.role.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => return Err(unsupported(&param("role"), "this box can't call tools yet")),
        _ => {
            let message = "a role is one of system, developer, user and assistant";
            return Err(invalid(&param("role"), message));
        }
    };
    if message.tool_calls.is_some_and(|calls| calls.as_array().is_some_and(|calls| !calls.is_empty())) {
        return Err(unsupported(&param("tool_calls"), "this box can't call tools yet"));
    }
    let content = match message.content {
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => joined(&parts, &param("content"))?,
        None if role == Role::Assistant => String::new(),
        None => return Err(invalid(&param("content"), "this message has no content")),
    };
    Ok(text::Message { reasoning_content: message.reasoning_content, ..text::Message::text(role, content) })
}

/// The texts of a content array, one after another.
fn joined(parts: &[Value], param: &str) -> Result<String> {
    let mut content = String::new();
    for part in parts {
        match (part["type"].as_str(), part["text"].as_str()) {
            (Some("text"), Some(text)) => content.push_str(text),
            (Some("image_url" | "input_image"), _) => {
                let message = "this model reads text only, and this box fetches nothing from the network";
                return Err(unsupported(param, message));
            }
            _ => {
                return Err(unsupported(
                    param,
                    "a part of a content is {\"type\": \"text\", \"text\": \"…\"}",
                ));
            }
        }
    }
    Ok(content)
}

/// Switches and words for the template: nothing nested, and not many.
fn checked_kwargs(kwargs: Option<Map<String, Value>>) -> Result<Map<String, Value>> {
    let kwargs = kwargs.unwrap_or_default();
    if kwargs.len() > TEMPLATE_KWARGS_MAX {
        let message = format!("at most {TEMPLATE_KWARGS_MAX} variables are possible");
        return Err(invalid("chat_template_kwargs", message));
    }
    if kwargs.values().any(|value| value.is_array() || value.is_object()) {
        let message = "its values are booleans, numbers, texts or null";
        return Err(invalid("chat_template_kwargs", message));
    }
    Ok(kwargs)
}

fn checked_stops(stop: Option<OneOrMany>) -> Result<Vec<String>> {
    let stops = match stop {
        None => Vec::new(),
        Some(OneOrMany::One(stop)) => vec![stop],
        Some(OneOrMany::Many(stops)) => stops,
    };
    if stops.len() > STOPS_MAX || stops.iter().any(|stop| stop.is_empty() || stop.len() > STOP_BYTES_MAX) {
        let message = format!("at most {STOPS_MAX} stop strings of 1 to {STOP_BYTES_MAX} bytes are possible");
        return Err(invalid("stop", message));
    }
    Ok(stops)
}

fn within(param: &str, value: Option<f32>, min: f32, max: f32) -> Result<Option<f32>> {
    match value {
        Some(value) if !(min..=max).contains(&value) => {
            Err(invalid(param, format!("{value} is outside {min} to {max}")))
        }
        _ => Ok(value),
    }
}

fn invalid(param: &str, message: impl Into<String>) -> Problem {
    Problem::invalid("invalid_value", format!("{param}: {}", message.into())).param(param.to_owned())
}

fn unsupported(param: &str, message: &str) -> Problem {
    Problem::invalid("unsupported", format!("{param}: {message}")).param(param.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn order(mut fields: Value) -> Result<Order> {
        if fields.get("messages").is_none() {
            fields["messages"] = json!([{ "role": "user", "content": "Hi" }]);
        }
        let request: ChatRequest = serde_json::from_value(fields).expect("fits");
        request.into_order(1, &GenerationDefaults::default())
    }

    #[test]
    fn absent_and_null_fields_take_the_models_defaults() {
        let order = order(json!({ "temperature": null, "stop": null, "tools": [], "tool_choice": "auto",
            "response_format": { "type": "text" }, "unheard_of": 1, "top_k": -1 }))
        .unwrap();
        assert_eq!((order.sampling.temperature, order.sampling.top_p, order.sampling.top_k), (0.6, 0.95, 0));
        assert_eq!((order.max_tokens, order.logprobs, order.stops.len()), (None, None, 0));
    }

    #[test]
    fn every_field_arrives() {
        let order = order(json!({ "temperature": 0, "top_p": 0.5, "top_k": 7, "min_p": 0.1, "seed": -1,
            "presence_penalty": 1, "frequency_penalty": -1, "repeat_penalty": 1.5, "stop": ["a", "b"],
            "logit_bias": { "5": -100 }, "logprobs": true, "top_logprobs": 3, "max_tokens": 1,
            "max_completion_tokens": 9, "ignore_eos": true, "chat_template_kwargs": { "thinking": true },
            "messages": [{ "role": "developer", "content": "Be brief." },
                { "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] },
                { "role": "assistant", "content": null, "reasoning_content": "hm" }] }))
        .unwrap();
        let sampling = Sampling {
            temperature: 0.0,
            top_p: 0.5,
            top_k: 7,
            min_p: 0.1,
            seed: u64::MAX,
            presence_penalty: 1.0,
            frequency_penalty: -1.0,
            repetition_penalty: 1.5,
            logit_bias: vec![(5, -100.0)],
            ..Sampling::default()
        };
        assert_eq!(order.sampling, sampling);
        assert_eq!((order.max_tokens, order.logprobs, order.ignore_eos), (Some(9), Some(3), true));
        assert_eq!(order.template_kwargs["thinking"], true);
        assert_eq!(order.messages[0].role, Role::System);
        assert_eq!(order.messages[1].content.as_deref(), Some("ab"));
        assert_eq!(order.messages[2].reasoning_content.as_deref(), Some("hm"));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let image = json!([{ "role": "user", "content": [{ "type": "image_url",
            "image_url": { "url": "http://evil.example/x.png" } }] }]);
        let cases = [
            (json!({ "tools": [{ "type": "function" }] }), "tools"),
            (json!({ "functions": [{}] }), "functions"),
            (json!({ "tool_choice": "required" }), "tool_choice"),
            (json!({ "response_format": { "type": "json_object" } }), "response_format"),
            (json!({ "n": 2 }), "n"),
            (json!({ "messages": image }), "messages[0].content"),
            (json!({ "messages": [{ "role": "tool", "content": "x" }] }), "messages[0].role"),
            (json!({ "messages": [{ "role": "owl", "content": "x" }] }), "messages[0].role"),
            (json!({ "messages": [{ "role": "user" }] }), "messages[0].content"),
            (json!({ "messages": [] }), "messages"),
            (json!({ "temperature": 2.5 }), "temperature"),
            (json!({ "top_p": -0.1 }), "top_p"),
            (json!({ "max_tokens": 0 }), "max_tokens"),
            (json!({ "logprobs": true, "top_logprobs": 21 }), "top_logprobs"),
            (json!({ "top_logprobs": 2 }), "top_logprobs"),
            (json!({ "logit_bias": { "x": 1 } }), "logit_bias"),
            (json!({ "stop": [""] }), "stop"),
            (json!({ "chat_template_kwargs": { "thinking": [true] } }), "chat_template_kwargs"),
        ];
        for (fields, param) in cases {
            let problem = order(fields).unwrap_err();
            assert_eq!((problem.status.as_u16(), problem.param.as_deref()), (400, Some(param)));
        }
    }
}
