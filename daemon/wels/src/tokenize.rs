//! `wels tokenize`: what the model sees of a text or a conversation.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use text::{Codec, Conversation, Special};

use crate::cli::Tokenize;
use crate::load;

pub(crate) fn run(args: &Tokenize) -> Result<ExitCode> {
    let weights = load::weights(&args.model)?;
    if let Some(path) = &args.messages {
        return prompt(&load::codec(&weights)?, path, args);
    }
    let path = args.strings.as_deref().expect("clap asks for one of the two");
    let strings: Vec<String> = serde_json::from_value(read_json(path)?)
        .with_context(|| format!("{}: want [\"text\", ...]", path.display()))?;
    let tokenizer = load::tokenizer(&weights)?;
    let special = if args.special { Special::Recognise } else { Special::Plain };
    let ids = strings.iter().map(|text| tokenizer.encode(text, special)).collect::<Result<Vec<_>, _>>()?;
    print(&serde_json::to_string(&ids)?);
    Ok(ExitCode::SUCCESS)
}

/// Renders a conversation, as a list of messages or as an object with `messages` (and `tools`) in it.
fn prompt(codec: &Codec, path: &Path, args: &Tokenize) -> Result<ExitCode> {
    let mut value = read_json(path)?;
    if value.is_array() {
        value = json!({ "messages": value });
    }
    if let Value::Object(fields) = &mut value {
        let open = Value::Bool(!args.no_generation_prompt);
        fields.entry("add_generation_prompt").or_insert(open);
    }
    let conversation: Conversation = serde_json::from_value(value)
        .with_context(|| format!("{}: want [{{\"role\": ..., \"content\": ...}}, ...]", path.display()))?;
    let prompt = codec.prompt(&conversation)?;
    if args.json {
        print(&json!({ "text": prompt.text, "ids": prompt.ids }).to_string());
    } else {
        print(&prompt.text);
    }
    Ok(ExitCode::SUCCESS)
}

fn read_json(path: &Path) -> Result<Value> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not JSON", path.display()))
}

#[expect(clippy::print_stdout, reason = "a command's result")]
fn print(text: &str) {
    println!("{text}");
}
