//! A conversation as chat templates see it: the shape of an OpenAI request, with content already plain text.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Who speaks.
///
/// A closed set, because templates write the role into the prompt next to special tokens: a role from the outside
/// must never be able to spell one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions; OpenAI's newer name `developer` is read as this.
    #[serde(alias = "developer")]
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text; `None` (JSON `null`) in an assistant's message that only calls tools.
    #[serde(default)]
    pub content: Option<String>,
    /// The assistant's thoughts, for templates that want them apart from the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// Calls the assistant made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Which call a tool's message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Name of the speaker or of the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Message {
    /// A message that is only text.
    pub fn text(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: Some(content.into()),
            reasoning_content: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
        }
    }
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The call's id, which the tool's answer repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Always `function` today.
    #[serde(rename = "type", default = "function")]
    pub kind: String,
    /// What is called.
    pub function: FunctionCall,
}

fn function() -> String {
    "function".to_owned()
}

/// Name and arguments of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionCall {
    /// The function's name.
    pub name: String,
    /// A string of JSON as OpenAI's API has it, or the object itself where a template wants that.
    pub arguments: Value,
}

/// Everything a chat template is rendered with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// Tool definitions (JSON schema), as in OpenAI's API; empty for none.
    #[serde(default)]
    pub tools: Vec<Value>,
    /// Whether the text ends where the assistant's next message begins.
    #[serde(default)]
    pub add_generation_prompt: bool,
    /// Further variables for the template, such as `thinking` or `enable_thinking`. They cannot replace the fields
    /// above nor `bos_token` and `eos_token`.
    #[serde(default)]
    pub extra: Map<String, Value>,
}

impl Conversation {
    /// One question, to be answered.
    pub fn question(text: impl Into<String>) -> Self {
        Self {
            messages: vec![Message::text(Role::User, text)],
            add_generation_prompt: true,
            ..Self::default()
        }
    }
}
