//! Which graphics card computes, if any.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result};
use gpu::{Adapter, CardKind, Device, DeviceOptions};
use model::{CardOptions, Model};
use tracing::{info, warn};

use crate::cli::Compute;
use crate::{plan, progress, size};

/// What `--device` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// A card with a driver of its own, where there is one and the model fits.
    Auto,
    /// The processor.
    Cpu,
    /// The best card, or that of a number; a software device, too.
    Card(Option<usize>),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "gpu" => Ok(Self::Card(None)),
            Some(("gpu", number)) => {
                number.parse().map(|n| Self::Card(Some(n))).map_err(|_| format!("gpu:{number}: not a number"))
            }
            _ => Err("auto, cpu, gpu or gpu:N; `wels doctor` lists the cards".into()),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Card(None) => f.write_str("gpu"),
            Self::Card(Some(number)) => write!(f, "gpu:{number}"),
        }
    }
}

/// Set for tests: the smallest limits that WebGPU knows.
const MINIMUM_LIMITS: &str = "WELS_GPU_MINIMUM_LIMITS";

/// Set for tests: steps after which the card is taken away.
const LOSE_AFTER: &str = "WELS_GPU_LOSE_AFTER";
/// A folder with the shaders' files, to be read instead of those in the binary: for who works on them.
const SHADERS: &str = "WELS_SHADERS";

/// Moves the model to the card that was asked for.
///
/// # Errors
/// A card was asked for by name and can't be used; the rules can't be followed.
pub(crate) fn required(model: &mut Model, compute: &Compute) -> Result<()> {
    match compute.device {
        Choice::Cpu => Ok(()),
        Choice::Auto => or_without(model, compute),
        Choice::Card(number) => match options(model, compute)? {
            Some(options) => Ok(move_to(model, compute, options, number, gpu::adapters())?),
            None => Ok(()),
        },
    }
}

/// Moves the model to a card, or leaves it on the processor and says why: an answer is worth more than a card.
///
/// # Errors
/// The rules can't be followed: whoever wrote them is there to read it.
pub(crate) fn or_without(model: &mut Model, compute: &Compute) -> Result<()> {
    let Some((number, cards)) = cards(compute.device) else { return Ok(()) };
    let Some(options) = options(model, compute)? else { return Ok(()) };
    if let Err(error) = move_to(model, compute, options, number, cards) {
        warn!(%error, "answers are computed on the processor");
        model.stay_without_card(format!("{error}. Answers are computed on the processor."));
    }
    Ok(())
}

/// The cards there are and the number of the one that is wanted; `None` where none is.
fn cards(choice: Choice) -> Option<(Option<usize>, Vec<Adapter>)> {
    match choice {
        Choice::Cpu => None,
        Choice::Auto => {
            let cards: Vec<Adapter> =
                gpu::adapters().into_iter().filter(|card| card.kind != CardKind::Software).collect();
            (!cards.is_empty()).then_some((None, cards))
        }
        Choice::Card(number) => Some((number, gpu::adapters())),
    }
}

/// The card that would be used.
pub(crate) fn chosen(choice: Choice) -> Option<Adapter> {
    cards(choice).and_then(|(number, cards)| Adapter::choose(cards, number).ok())
}

/// What is to lie on the card: by rules, or by numbers; `None` where rules leave it empty.
fn options(model: &Model, compute: &Compute) -> Result<Option<CardOptions>> {
    let Some(path) = &compute.rules else {
        return Ok(Some(CardOptions {
            experts: compute.gpu_experts,
            layers: compute.gpu_layers,
            prompt_experts: compute.gpu_prompt_experts,
            ..CardOptions::default()
        }));
    };
    let placement = plan::read(path)?;
    let options =
        model::options_of(&placement, model.weights()).with_context(|| path.display().to_string())?;
    Ok(options.map(|options| CardOptions { prompt_experts: compute.gpu_prompt_experts, ..options }))
}

fn move_to(
    model: &mut Model,
    compute: &Compute,
    options: CardOptions,
    number: Option<usize>,
    cards: Vec<Adapter>,
) -> Result<(), model::Error> {
    if let Some(folder) = std::env::var_os(SHADERS) {
        shaders::reload_from(folder.into());
    }
    let card = Adapter::choose(cards, number)?;
    let device_options = DeviceOptions {
        minimum_limits: std::env::var_os(MINIMUM_LIMITS).is_some(),
        memory: compute.gpu_memory,
        pipelines: cache_folder(),
        ..DeviceOptions::default()
    };
    let device = Device::open(&card, device_options)?;
    let bar = progress::bytes(0);
    bar.set_message("to the card");
    let result = model.move_to_card(device, options, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    result?;
    if let Some(steps) = std::env::var(LOSE_AFTER).ok().and_then(|steps| steps.parse().ok()) {
        warn!(steps, "the card will be taken away: {LOSE_AFTER} is set");
        model.lose_card_after(steps);
    }
    let (layers, brings_from) = (model.layers_on_card(), model.brings_from());
    info!(card = %card.name, layers, brings_from, driver = %card.driver, "computing on a graphics card");
    Ok(())
}

/// Where compiled pipelines are kept: the folder that systemd gives a unit, or the user's own.
fn cache_folder() -> Option<PathBuf> {
    let from =
        |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let of_user =
        || Some(from("XDG_CACHE_HOME").or_else(|| Some(from("HOME")?.join(".cache")))?.join("wels"));
    Some(from("CACHE_DIRECTORY").or_else(of_user)?.join("pipelines"))
}

/// A card in words, for `wels doctor`.
pub(crate) fn describe(number: usize, card: &Adapter) -> String {
    let memory = card.memory_bytes().map_or_else(|| "memory unknown".into(), size::format);
    let kind = match card.kind {
        CardKind::Discrete => "a card",
        CardKind::Integrated => "part of the processor",
        CardKind::Software => "software, for tests: slower than the processor's own kernels",
        CardKind::Other => "unknown kind",
    };
    format!("gpu:{number} {}, {memory}, {kind}, {}", card.name, card.driver.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_parsed_as_they_are_shown() {
        for text in ["auto", "cpu", "gpu", "gpu:3"] {
            assert_eq!(text.parse::<Choice>().map(|choice| choice.to_string()), Ok(text.to_owned()));
        }
        for wrong in ["cuda", "gpu:", "gpu:x", "gpu:-1", "cpu:1", ""] {
            assert!(wrong.parse::<Choice>().is_err(), "{wrong}");
        }
    }
}
