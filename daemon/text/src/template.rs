//! [`ChatTemplate`]: a model's Jinja template, rendered as `transformers` renders it.

mod json;
mod python;
mod strftime;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Conversation, Error, MAX_ENCODE_BYTES, Message};

/// Longest template source; the longest published one is below 20 kB.
pub const MAX_TEMPLATE_BYTES: usize = 128 << 10;

/// Work a render may do whatever the conversation: about as many instructions, or 64 bytes of text each.
const FUEL_BASE: u64 = 1_000_000;
/// Further work for each byte of the conversation; 1 lets a template copy every byte 64 times.
const FUEL_PER_BYTE: u64 = 1;
/// Nested includes, macros and calls.
const RECURSION_MAX: usize = 64;
/// Stack of the thread that compiles and renders: a hostile template can nest an expression as deep as it is long, and
/// values as deep as its fuel lets it, about 5 for each level. Only pages that are touched cost memory.
const STACK_BYTES: usize = 256 << 20;

const NAME: &str = "chat_template";

/// A compiled template. Rendering is pure: the same conversation gives the same text (on the same day, for templates
/// that write the date).
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
}

/// The variables a template sees, as `apply_chat_template` of `transformers` passes them.
#[derive(Serialize)]
struct Variables<'a> {
    #[serde(flatten)]
    extra: Map<String, Value>,
    messages: &'a [Message],
    tools: Option<&'a [Value]>,
    documents: (),
    add_generation_prompt: bool,
    bos_token: &'a str,
    eos_token: &'a str,
}

/// Names in [`Variables`] that `extra` cannot replace.
const RESERVED: [&str; 6] =
    ["messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"];

impl ChatTemplate {
    /// Compiles a template. `bos` and `eos` are the spellings it writes for `bos_token` and `eos_token`.
    ///
    /// # Errors
    /// The source is too long or not valid Jinja.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, Error> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(Error::TemplateTooLong { bytes: source.len(), max_bytes: MAX_TEMPLATE_BYTES });
        }
        let environment = on_large_stack(|| {
            let mut environment = environment();
            let added = environment.add_template_owned(NAME, source.to_owned());
            added.map(|()| environment).map_err(|e| Error::TemplateSyntax { detail: describe(&e) })
        })?;
        Ok(Self { environment, bos_token: bos.to_owned(), eos_token: eos.to_owned() })
    }

    /// The prompt's text.
    ///
    /// Some templates ask whether a message has content, others fail on one that has none: these get an empty text.
    ///
    /// # Errors
    /// The conversation is longer than a prompt may be; the template refuses it, fails on it, or does more work than
    /// the budget for its size allows.
    pub fn render(&self, conversation: &Conversation) -> Result<String, Error> {
        let bytes = n_bytes(conversation);
        if bytes > MAX_ENCODE_BYTES {
            return Err(Error::TextTooLong { bytes, max_bytes: MAX_ENCODE_BYTES });
        }
        let fuel = FUEL_BASE + FUEL_PER_BYTE * bytes as u64;
        let rendered = on_large_stack(|| self.render_here(conversation, fuel));
        match (&rendered, with_text(conversation)) {
            (Err(Error::TemplateFailed { .. }), Some(with_text)) => {
                on_large_stack(|| self.render_here(&with_text, fuel))
            }
            _ => rendered,
        }
    }

    fn render_here(&self, conversation: &Conversation, fuel: u64) -> Result<String, Error> {
        let mut extra = conversation.extra.clone();
        extra.retain(|name, _| !RESERVED.contains(&name.as_str()));
        let variables = minijinja::Value::from(Serde(Variables {
            extra,
            messages: &conversation.messages,
            tools: (!conversation.tools.is_empty()).then_some(&conversation.tools),
            documents: (),
            add_generation_prompt: conversation.add_generation_prompt,
            bos_token: &self.bos_token,
            eos_token: &self.eos_token,
        }));
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel));
        let template = environment.get_template(NAME).expect("added when compiled");
        template.render(variables).map_err(|e| render_error(&e, fuel))
    }
}

/// Jinja as `transformers` sets it up, with the Python that templates rely on.
fn environment() -> Environment<'static> {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    let syntax = syntax.expect("the default delimiters are valid");
    let mut environment = Environment::new();
    environment.set_syntax(syntax);
    environment.set_recursion_limit(RECURSION_MAX);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(python::print);
    environment.add_filter("tojson", json::tojson);
    environment.add_test("iterable", python::is_iterable);
    environment.add_function("raise_exception", python::raise_exception);
    environment.add_function("strftime_now", strftime::strftime_now);
    environment
}

/// Runs the template engine where deep recursion, when values are dropped among others, does not end the process.
fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    let failed = |detail: String| Error::TemplateFailed { detail };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(NAME.to_owned()).stack_size(STACK_BYTES);
        let working =
            thread.spawn_scoped(scope, work).map_err(|e| failed(format!("starting a thread: {e}")))?;
        working.join().unwrap_or_else(|_| Err(failed("the engine panicked".to_owned())))
    })
}

fn render_error(error: &minijinja::Error, fuel: u64) -> Error {
    match error.kind() {
        ErrorKind::OutOfFuel => Error::TemplateFuel { fuel },
        _ => match python::refusal(error) {
            Some(reason) => Error::TemplateRefused { reason },
            None => Error::TemplateFailed { detail: describe(error) },
        },
    }
}

fn describe(error: &minijinja::Error) -> String {
    let line = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{}{detail}{line}", error.kind())
}

/// The conversation with an empty text wherever there is none; `None` where there is one everywhere.
fn with_text(conversation: &Conversation) -> Option<Conversation> {
    conversation.messages.iter().any(|message| message.content.is_none()).then(|| {
        let mut conversation = conversation.clone();
        for message in &mut conversation.messages {
            message.content.get_or_insert_default();
        }
        conversation
    })
}

/// How much text a conversation brings.
fn n_bytes(conversation: &Conversation) -> usize {
    let messages = conversation.messages.iter().map(|message| {
        let texts = [&message.content, &message.reasoning_content, &message.name, &message.tool_call_id];
        let calls = message.tool_calls.iter().map(|call| call.function.arguments.to_string().len());
        texts.into_iter().flatten().map(String::len).chain(calls).sum()
    });
    let values = conversation.tools.iter().chain(conversation.extra.values());
    messages.chain(values.map(|value| value.to_string().len())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Role;

    fn render(source: &str) -> Result<String, Error> {
        let messages = vec![Message::text(Role::User, "hi"), Message::text(Role::Assistant, "yo")];
        let conversation = Conversation { messages, add_generation_prompt: true, ..Conversation::default() };
        ChatTemplate::new(source, "<s>", "</s>")?.render(&conversation)
    }

    fn check(source: &str, want: &str) {
        assert_eq!(render(source).map_err(|e| e.to_string()).as_deref(), Ok(want), "{source}");
    }

    #[test]
    fn blocks_are_trimmed_as_in_transformers() {
        check("a\n  {% if true %}\nb\n  {% endif %}\nc\n", "a\nb\nc");
    }

    #[test]
    fn loop_controls_and_namespaces_work() {
        check(
            "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
            "user",
        );
        check(
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
            "2",
        );
    }

    #[test]
    fn values_print_as_python_prints_them() {
        check("{{ true }} {{ false }} {{ none }} {{ nothing }} {{ 1.0 }}", "True False None  1.0");
    }

    #[test]
    fn python_methods_of_strings_and_maps_work() {
        check("{{ 'a</t>b</t>c'.split('</t>')[-1] }}{{ ' x '.strip() }}{{ 'ab'.startswith('a') }}", "cxTrue");
        check("{{ messages[0].get('name', 'nobody') }} {{ messages[0].items() | length }}", "nobody 2");
        check("{{ 'a.b.c'.split('.', 1)[1] }} {{ '\\nx'.lstrip('\\n') }}", "b.c x");
    }

    #[test]
    fn absent_tools_are_none_and_absent_fields_are_not_in_a_message() {
        check("{{ tools is none }} {{ 'tool_calls' in messages[1] }} {{ bos_token }}", "True False <s>");
        check("{{ tools is iterable }} {{ messages is iterable }} {{ 'a' is iterable }}", "False True True");
    }

    #[test]
    fn a_refusal_is_told_in_the_templates_words() {
        let error = render("{{ raise_exception('roles must alternate') }}").unwrap_err();
        assert!(
            matches!(&error, Error::TemplateRefused { reason } if reason == "roles must alternate"),
            "{error}"
        );
    }

    #[test]
    fn adding_none_to_text_fails_as_in_python() {
        let error = render("\n{{ 'a' + none }}").unwrap_err();
        assert!(matches!(&error, Error::TemplateFailed { detail } if detail.contains("line 2")), "{error}");
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let error = render("ok\n{% if %}").unwrap_err();
        assert!(matches!(&error, Error::TemplateSyntax { detail } if detail.contains("line 2")), "{error}");
    }

    #[test]
    fn endless_work_and_growing_text_run_out_of_fuel() {
        let loops =
            "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a * b %}{% endfor %}{% endfor %}";
        let grows = "{% set ns = namespace(s='xxxxxxxx') %}{% for a in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}";
        for source in [loops, grows, "{{ 'x' * 999999999999 }}"] {
            let error = render(source).unwrap_err();
            assert!(matches!(error, Error::TemplateFuel { .. } | Error::TemplateFailed { .. }), "{error}");
        }
    }

    #[test]
    fn deep_values_and_recursion_are_errors() {
        let start = "{% set ns = namespace(s=[]) %}";
        let nest = "{% for a in range(9999) %}{% set ns.s = [ns.s] %}{% endfor %}";
        assert!(render(&format!("{start}{nest}{{{{ ns.s | tojson }}}}")).is_err());
        let nest_on = format!("{start}{{% for b in range(9999) %}}{nest}{{% endfor %}}");
        assert!(matches!(render(&nest_on), Err(Error::TemplateFuel { .. })));
        assert!(render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}").is_err());
        for open in ["[", "(", "not ", "-", "a.", "a|a(", "1 if "] {
            let deep = open.repeat(MAX_TEMPLATE_BYTES / open.len() - 10);
            assert!(render(&format!("{{{{ {deep} }}}}")).is_err(), "{open}");
        }
    }

    #[test]
    fn extra_variables_reach_the_template_but_replace_nothing() {
        let extra = serde_json::json!({ "thinking": true, "bos_token": "x" });
        let extra = extra.as_object().expect("an object").clone();
        let conversation = Conversation { extra, ..Conversation::default() };
        let template = ChatTemplate::new("{{ thinking }}{{ bos_token }}", "<s>", "").unwrap();
        assert_eq!(template.render(&conversation).unwrap(), "True<s>");
    }
}
