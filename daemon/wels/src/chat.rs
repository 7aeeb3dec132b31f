//! `wels chat`: a conversation in the terminal.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use engine::{Event, Handle, Request, Sampling};
use model::Options;
use text::{Codec, Conversation, Delta, Message, Role, ThinkSplitter};

use crate::cli::Chat;
use crate::{card, load, serve};

/// Escape codes that make a thought look like one.
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

pub(crate) fn run(args: &Chat) -> Result<ExitCode> {
    let engine_options = args.speculate.options()?;
    let weights = load::weights_within(&args.run.model, &args.run.compute)?;
    let codec = load::codec(&weights)?;
    let context = weights.hyper().context.min(serve::CONTEXT_DEFAULT);
    let draft = load::wants_draft_layer(&weights, engine_options.speculation);
    let options = Options { kv_tokens: context, context, draft, ..Options::default() };
    let mut model = load::model(&weights, &args.run.compute, options)?;
    card::or_without(&mut model, &args.run.compute)?;
    load::bring_in_meanwhile(&model, &weights);
    let handle = engine::start(Box::new(model), engine_options);
    let name = load::display_name(&weights, &args.run.model);
    let mut session = Session { args, handle, codec, name, messages: Vec::new() };
    session.messages.extend(args.system.as_deref().map(|text| Message::text(Role::System, text)));
    if let Some(question) = &args.once {
        session.ask(question)?;
        return Ok(ExitCode::SUCCESS);
    }
    session.converse()
}

struct Session<'a> {
    args: &'a Chat,
    handle: Handle,
    codec: Codec,
    name: String,
    messages: Vec<Message>,
}

impl Session<'_> {
    fn converse(&mut self) -> Result<ExitCode> {
        eprintln!("{}. An empty line or Ctrl-D ends the conversation; /new starts another.", self.name);
        let mut lines = std::io::stdin().lock().lines();
        loop {
            eprint!("\n> ");
            std::io::stderr().flush()?;
            let Some(line) = lines.next() else { return Ok(ExitCode::SUCCESS) };
            match line?.trim() {
                "" => return Ok(ExitCode::SUCCESS),
                "/new" => self.messages.truncate(usize::from(self.args.system.is_some())),
                question => self.ask(question)?,
            }
        }
    }

    /// Asks, prints the answer as it comes, and remembers both.
    fn ask(&mut self, question: &str) -> Result<()> {
        self.messages.push(Message::text(Role::User, question));
        let conversation = Conversation {
            messages: self.messages.clone(),
            add_generation_prompt: true,
            ..Conversation::default()
        };
        let prompt = self.codec.prompt(&conversation)?;
        let request = Request {
            prompt: prompt.ids,
            max_tokens: self.args.max_tokens,
            stop_ids: self.codec.tokenizer().eos_ids().iter().copied().collect(),
            sampling: Sampling {
                temperature: self.args.temperature,
                top_p: self.args.top_p,
                seed: self.args.seed.unwrap_or_else(serve::random_seed),
                ..Sampling::default()
            },
            logprobs: None,
            owner: 0,
        };
        let mut generation =
            self.handle.submit(request).context("the conversation has grown too long; type /new")?;
        let mut decoder = self.codec.stream_decoder();
        let mut splitter = ThinkSplitter::new(prompt.opens_thought).expecting(prompt.expects_thought);
        let mut printer = Printer::new();
        let stats = loop {
            match generation.blocking_next().context("the engine stopped")? {
                Event::Token { id, .. } => printer.print(splitter.push(&decoder.push(id)))?,
                Event::Finished { timings, .. } => break timings,
                Event::Failed { message } => bail!("the answer broke off: {message}"),
                Event::Queued { .. } | Event::Prefill { .. } => {}
            }
        };
        printer.print(splitter.push(&decoder.finish()))?;
        printer.print(splitter.finish())?;
        let answer = printer.end()?;
        self.messages.push(Message::text(Role::Assistant, answer));
        let tok_s = stats.n_generated as f64 / stats.decode.as_secs_f64().max(1e-9);
        if std::io::stderr().is_terminal() {
            eprintln!("{DIM}{} tokens, {tok_s:.1} tok/s{PLAIN}", stats.n_generated);
        }
        Ok(())
    }
}

/// Prints thoughts dimmed and keeps the answer.
struct Printer {
    answer: String,
    dim: bool,
    colour: bool,
}

impl Printer {
    fn new() -> Self {
        Self { answer: String::new(), dim: false, colour: std::io::stdout().is_terminal() }
    }

    fn print(&mut self, deltas: Vec<Delta>) -> Result<()> {
        let mut out = std::io::stdout().lock();
        for delta in deltas {
            let (text, thought) = match &delta {
                Delta::Reasoning(text) => (text, true),
                Delta::Content(text) => (text, false),
                Delta::WasThought => {
                    self.answer.clear();
                    continue;
                }
            };
            if thought != self.dim && self.colour {
                write!(out, "{}", if thought { DIM } else { PLAIN })?;
            }
            if self.dim && !thought {
                writeln!(out, "\n")?;
            }
            self.dim = thought;
            if !thought {
                self.answer.push_str(text);
            }
            write!(out, "{text}")?;
        }
        Ok(out.flush()?)
    }

    fn end(self) -> Result<String> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", if self.dim && self.colour { PLAIN } else { "" })?;
        Ok(self.answer)
    }
}
