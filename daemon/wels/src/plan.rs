//! `wels plan`: what goes where on a machine, this one or any other, and how fast that will be.

mod found;
mod report;
mod stages;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use model::Tensors;
use model::placement::{Bits, ModelShape, Placement, Workload, advice, derive, evaluate};
use weights::Weights;

use crate::cli::Plan as Args;
use crate::{catalogue, load, serve};
pub(crate) use found::{GPU_OPS_S, LINK_BYTES_S, NVME_BYTES_S, VRAM_BYTES_S, measure_card};
use report::Report;

/// Bytes of a file of rules that are read.
const RULES_BYTES_MAX: u64 = 1 << 20;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let subject = Subject::open(args)?;
    if args.stages {
        print(&stages::report(&subject.name, &subject.tensors(), args.json)?);
        return Ok(ExitCode::SUCCESS);
    }
    let shape = &subject.shape;
    let rules = args.rules.as_deref().map(read).transpose()?;
    let machine = found::machine(args, subject.weights.as_ref())?;
    let context = args.context.unwrap_or(serve::CONTEXT_DEFAULT).min(shape.hyper.context);
    if context == 0 {
        bail!("--context starts at 1");
    }
    let workload = Workload::of(context);
    let plan = match &rules {
        Some(rules) => evaluate(rules, shape, &machine, &workload),
        None => derive(shape, &machine, &workload),
    };
    let plan = plan.with_context(|| format!("{} cannot be placed like this", subject.name))?;
    if let Some(path) = &args.write {
        write(path, &plan.placement.to_toml())?;
    }
    let advice = advice(shape, &machine, &workload, plan.decode_tok_s);
    let report =
        Report { name: &subject.name, shape, machine: &machine, workload, plan: &plan, advice: &advice };
    print(&if args.json { report.json()?.to_string() } else { report.words() });
    Ok(ExitCode::SUCCESS)
}

/// What is planned for.
struct Subject {
    name: String,
    shape: ModelShape,
    /// Its headers, where it is here.
    weights: Option<Weights>,
}

impl Subject {
    /// Its tensors, or those of a file in Q4_K_M.
    fn tensors(&self) -> Tensors<'_> {
        self.weights.as_ref().map_or_else(|| Tensors::assumed(&self.shape.hyper), Tensors::of)
    }

    fn open(args: &Args) -> Result<Self> {
        if !args.model.exists() {
            return Self::of_catalogue(args);
        }
        if args.bits.is_some() {
            bail!(
                "--bits goes with a model of the catalogue: of one that is here the files say what its weights take"
            );
        }
        let weights = load::headers(&args.model)?;
        let (name, shape) = (load::display_name(&weights, &args.model), ModelShape::of(&weights));
        Ok(Self { name, shape, weights: Some(weights) })
    }

    fn of_catalogue(args: &Args) -> Result<Self> {
        let given = args.model.to_string_lossy();
        let entry = catalogue::find(&given)
            .with_context(|| format!("{given}: no such file or folder, and no model of the catalogue"))?;
        let bits = args.bits.map_or(Bits::Q4KM, Bits::Of);
        let shape = ModelShape::assumed(catalogue::hyperparameters(&entry.id)?, bits);
        Ok(Self { name: entry.name, shape, weights: None })
    }
}

/// Reads rules.
pub(crate) fn read(path: &Path) -> Result<Placement> {
    let mut text = String::new();
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let read = file.take(RULES_BYTES_MAX).read_to_string(&mut text);
    read.with_context(|| format!("cannot read {}", path.display()))?;
    Placement::parse(&text).with_context(|| path.display().to_string())
}

/// Writes a file that isn't there yet: rules that somebody has changed are not lost.
fn write(path: &Path, text: &str) -> Result<()> {
    let file = fs::OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| {
        format!("cannot write {}; --write takes a file that isn't there yet", path.display())
    })
}

#[expect(clippy::print_stdout, reason = "a command's result")]
fn print(text: &str) {
    println!("{text}");
}
