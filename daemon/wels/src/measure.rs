//! `wels measure`, and the same on the page's wish: what this machine can do, and whether it can for long.
//!
//! ```text
//! limits of processor and memory -> drive -> card -> load, sampled (series) -> limits and drive again -> models that fit
//!                                                     └ work: answers of a model, or products; sensors: sysfs
//! ```
//!
//! Whoever looks on has a [`Watch`]: how far it is, and how to stop it. What was measured until then is kept.

mod drive;
mod fit;
mod processor;
mod report;
mod sensors;
mod series;
mod watch;
mod work;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gpu::{Device, DeviceOptions};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub(crate) use self::report::Report;
use self::report::{Card, CardSpeeds, Drive, Load, Memory};
use self::sensors::Sensors;
use self::series::{Hands, series};
pub(crate) use self::watch::{Progress, Step, Watch};
pub(crate) use self::work::Served;
use self::work::Work;
use crate::bench::Limits;
use crate::cli::{Compute, Measure};
use crate::{card, load, machine, serve};

/// Weights that a card is measured with: more than its caches hold.
const CARD_BYTES: u64 = 256 << 20;
/// Longest conversation of a model that is opened to be measured.
const CONTEXT_TOKENS: usize = 2048;
/// The least that a thread can ask of the system.
const PATIENT: i32 = 19;

/// What is measured.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) compute: Compute,
    /// The model that answers meanwhile.
    pub(crate) served: Option<Served>,
    /// Its files.
    pub(crate) pack: Option<PathBuf>,
    /// A folder on the drive in question, where there is no model.
    pub(crate) place: PathBuf,
}

pub(crate) fn run(args: &Measure) -> Result<ExitCode> {
    let subject = Subject::open(args)?;
    let is_told = !args.json;
    let watch = Arc::new(Watch::new(args.minutes, move |progress| {
        if is_told {
            tell(progress);
        }
    }));
    stop_on_signals(&watch)?;
    let report = measure(&subject, &watch);
    // It is over: the model goes before the last word.
    drop(subject);
    print(&if args.json { serde_json::to_string(&report)? } else { report.words() });
    Ok(ExitCode::SUCCESS)
}

impl Subject {
    fn open(args: &Measure) -> Result<Self> {
        let (compute, pack) = (args.compute.clone(), args.model.clone());
        let served = pack.as_deref().map(|pack| open(pack, &compute)).transpose()?;
        let place = std::env::current_dir().context("the current folder")?;
        Ok(Self { compute, served, pack, place })
    }
}

/// A model with room for an answer, as the daemon would have it, but without guesses.
fn open(pack: &Path, compute: &Compute) -> Result<Served> {
    let weights = load::weights_within(pack, compute)?;
    let codec = load::codec(&weights)?;
    let context = CONTEXT_TOKENS.min(weights.hyper().context);
    let options = model::Options { context, kv_tokens: 2 * context, ..model::Options::default() };
    let mut model = load::model(&weights, compute, options)?;
    card::or_without(&mut model, compute)?;
    let options = engine::Options { speculation: engine::Speculation::Off, ..engine::Options::default() };
    Served::new(&load::display_name(&weights, pack), engine::start(Box::new(model), options), &codec)
}

fn stop_on_signals(watch: &Arc<Watch>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let watch = Arc::clone(watch);
    std::thread::spawn(move || {
        runtime.block_on(serve::interrupted(CancellationToken::new()));
        watch.stop();
    });
    Ok(())
}

/// Makes this thread, and those that it will start, wait for all others.
pub(crate) fn be_patient() {
    if let Err(error) = rustix::process::setpriority_process(None, PATIENT) {
        warn!(%error, "the measurement takes its part of the processor as all others do");
    }
}

/// Measures; what can't be is unknown, and the notes say why.
pub(crate) fn measure(subject: &Subject, watch: &Watch) -> Report {
    let root = Path::new("/");
    let found = drive::Drive::of(root, subject.pack.as_deref().unwrap_or(&subject.place));
    let mut report = Report::new(watch.progress().minutes);
    let limits =
        if watch.begins(Step::Limits) { report.noted(Limits::probe(&subject.compute)) } else { None };
    if let Some(limits) = &limits {
        let bytes = machine::memory().0;
        report.processor = Some(processor::processor(root, limits));
        report.memory = Some(Memory { bytes, read_bytes_s: limits.read_bytes_s, read_bytes_s_after: None });
    }
    if watch.begins(Step::Drive) {
        let reads = report.reads(subject);
        report.drive = Some(Drive { found: found.clone(), reads, bytes_s_after: None });
    }
    if watch.begins(Step::Card) {
        report.card = report.card(subject);
    }
    if watch.begins(Step::Load) {
        let sensors = Sensors::find(root, found.folder.as_deref());
        report.load = Some(report.load(subject, watch, &sensors));
    }
    if watch.begins(Step::Again) {
        report.again(subject);
        report.complete = !watch.is_stopped();
    }
    if let (Some(limits), Some(processor), Some(memory), Some(drive)) =
        (&limits, &report.processor, &report.memory, &report.drive)
    {
        let machine = fit::machine(limits, (processor, memory), drive, report.card.as_ref());
        let models = fit::models(&machine, drive.found.bytes);
        report.models = report.noted(models).unwrap_or_default();
    }
    report
}

impl Report {
    fn new(minutes_wanted: u32) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            made_ms: store::now_ms(),
            minutes_wanted,
            complete: false,
            processor: None,
            memory: None,
            drive: None,
            card: None,
            load: None,
            models: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn noted<T>(&mut self, measured: Result<T>) -> Option<T> {
        measured.map_err(|error| self.note(format!("{error:#}"))).ok()
    }

    fn reads(&mut self, subject: &Subject) -> Option<drive::Reads> {
        let Some(pack) = &subject.pack else {
            self.note("no model is here to read, so how fast the drive is was not measured".into());
            return None;
        };
        drive::reads(pack).map_err(|why| self.note(format!("the drive's speed was not measured: {why}"))).ok()
    }

    /// The card that would compute.
    fn card(&mut self, subject: &Subject) -> Option<Card> {
        let card = card::chosen(subject.compute.device)?;
        let speed =
            Device::open(&card, DeviceOptions::default()).and_then(|device| gpu::measure(device, CARD_BYTES));
        let speeds =
            speed.map_err(|error| self.note(format!("the card's speed was not measured: {error}"))).ok();
        let speeds = speeds.map(|gpu::Speed { read_bytes_s, ops_s, link_bytes_s }| CardSpeeds {
            read_bytes_s,
            ops_s,
            link_bytes_s,
        });
        let memory_bytes = card.memory_bytes();
        Some(Card { name: card.name, driver: card.driver, memory_bytes, speeds })
    }

    fn load(&mut self, subject: &Subject, watch: &Watch, sensors: &Sensors) -> Load {
        let served = subject.served.as_ref();
        let work = served.map_or_else(|| Work::products(subject.compute.threads), Work::answers);
        debug!(model = served.map(Served::name), "the machine is kept busy");
        let start = Instant::now();
        let hands = Hands {
            now: &|| start.elapsed(),
            rest: &std::thread::sleep,
            done: &|| work.done(),
            read: &|| sensors.read(),
            is_over: &|| watch.is_stopped(),
            tell: &|sample| {
                watch.change(|progress| {
                    (progress.seconds_done, progress.last) = (sample.at_s, Some(sample));
                });
            },
        };
        let time = Duration::from_secs(60 * u64::from(watch.progress().minutes));
        let samples = series(time, &hands);
        if let Some(trouble) = work.trouble() {
            self.note(format!("not all answers could be given: {trouble}"));
        }
        Load::new(served.map(|served| served.name().to_owned()), samples)
    }

    /// What a warm machine reaches.
    fn again(&mut self, subject: &Subject) {
        let limits = self.noted(Limits::probe(&subject.compute));
        if let (Some(limits), Some(processor), Some(memory)) = (limits, &mut self.processor, &mut self.memory)
        {
            processor.int8_ops_s_after = Some(limits.int8_ops_s);
            memory.read_bytes_s_after = Some(limits.read_bytes_s);
        }
        if self.drive.as_ref().is_some_and(|drive| drive.reads.is_some()) {
            let reads = self.reads(subject);
            if let Some(drive) = &mut self.drive {
                drive.bytes_s_after = reads.map(|reads| reads.bytes_s);
            }
        }
    }
}

fn tell(progress: &Progress) {
    let Progress { step, seconds_done, seconds_total, last, .. } = progress;
    match (step, last) {
        (Step::Load, Some(sample)) => {
            let heat = sample.reading.processor_c.map_or("unknown".into(), |c| format!("{c:.0} °C"));
            eprintln!(
                "{seconds_done:.0} of {seconds_total:.0} s: {:.3e} a second, processor {heat}",
                sample.rate
            );
        }
        _ => eprintln!("{step:?}"),
    }
}

#[expect(clippy::print_stdout, reason = "a command's result")]
fn print(text: &str) {
    println!("{text}");
}
