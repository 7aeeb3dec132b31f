//! The page's state of models, systems and sticks, and how it is waited for.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::page::Page;
use crate::say;

const LOOK_EVERY: Duration = Duration::from_millis(250);
const SAY_EVERY: Duration = Duration::from_secs(30);
/// Time for a stick to be seen, mounted and measured; the virtual box computes slowly.
pub(crate) const STICK_TIME_MAX: Duration = Duration::from_secs(180);
/// Time for a copy, its check, a model's first words.
pub(crate) const INSTALL_TIME_MAX: Duration = Duration::from_secs(1500);

/// The state of the page, whole.
pub(crate) fn state(page: &Page) -> Result<Value> {
    page.json("/api/admin/updates")
}

/// Waits until `found` finds something in the state.
pub(crate) fn wait<T>(
    page: &Page,
    what: &str,
    limit: Duration,
    mut found: impl FnMut(&Value) -> Result<Option<T>>,
) -> Result<T> {
    let (start, mut said) = (Instant::now(), Instant::now());
    loop {
        // Between two models, or after a cut cord, the page may be away.
        let now = state(page);
        if let Ok(now) = &now
            && let Some(thing) = found(now)?
        {
            return Ok(thing);
        }
        if start.elapsed() > limit {
            bail!("{what}: not within {} s; the page says {now:?}", limit.as_secs());
        }
        if said.elapsed() > SAY_EVERY {
            said = Instant::now();
            say::note(&format!("{what}: {}", now.map_or_else(|error| error.to_string(), |now| brief(&now))));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn brief(state: &Value) -> String {
    format!("stick {}, progress {}", state["stick"]["content"]["state"], state["progress"])
}

/// What is on the stick, once the box has looked: `nothing`, a preview, or why it is refused.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Nothing,
    Bundle { stick: String, preview: Value },
    Refused { code: String },
}

impl Content {
    /// The code of what keeps it from being installed; `None` where nothing does.
    pub(crate) fn refusal(&self) -> Option<String> {
        match self {
            Self::Nothing => Some("nothing".into()),
            Self::Refused { code } => Some(code.clone()),
            Self::Bundle { preview, .. } => preview["refusal"]["code"].as_str().map(str::to_owned),
        }
    }

    /// The preview of a bundle.
    pub(crate) fn preview(&self) -> Result<&Value> {
        match self {
            Self::Bundle { preview, .. } => Ok(preview),
            other => bail!("no bundle is shown: {other:?}"),
        }
    }
}

/// Waits until a stick was looked at.
pub(crate) fn stick(page: &Page) -> Result<Content> {
    wait(page, "the stick is shown", STICK_TIME_MAX, |state| {
        let stick = &state["stick"];
        let content = &stick["content"];
        let id = || stick["id"].as_str().map(str::to_owned).context("a stick without an id");
        Ok(match content["state"].as_str() {
            Some("nothing") => Some(Content::Nothing),
            Some("bundle") => Some(Content::Bundle { stick: id()?, preview: content["preview"].clone() }),
            Some("refused") => {
                let code = content["problem"]["code"].as_str().unwrap_or_default().to_owned();
                Some(Content::Refused { code })
            }
            _ => None,
        })
    })
}

/// Waits until no stick is shown.
pub(crate) fn no_stick(page: &Page) -> Result<()> {
    wait(page, "the stick is gone", STICK_TIME_MAX, |state| Ok(state["stick"].is_null().then_some(())))
}

/// Agrees to what is shown.
pub(crate) fn install(page: &mut Page, content: &Content) -> Result<()> {
    let Content::Bundle { stick, preview } = content else { bail!("nothing to agree to: {content:?}") };
    let agreed = json!({ "stick": stick, "bundle": preview["id"] });
    page.post("/api/admin/updates/install", &agreed, None).map(drop)
}

/// Waits until what is under way has ended; gives the code of its error, or `None` where it went well.
pub(crate) fn ended(page: &Page) -> Result<Option<String>> {
    wait(page, "it ends", INSTALL_TIME_MAX, |state| {
        let progress = &state["progress"];
        Ok(match progress["error"]["code"].as_str() {
            Some(code) => Some(Some(code.to_owned())),
            None => (progress["step"] == "done").then_some(None),
        })
    })
}

/// Waits until what is under way has ended well.
pub(crate) fn ended_well(page: &Page) -> Result<()> {
    match ended(page)? {
        None => Ok(()),
        Some(code) => bail!("it ended with {code}"),
    }
}

/// Waits until so much of the copy is done; says at which step it then is.
pub(crate) fn copied(page: &Page, share: f64) -> Result<String> {
    wait(page, "it copies", INSTALL_TIME_MAX, |state| {
        let progress = &state["progress"];
        if let Some(code) = progress["error"]["code"].as_str() {
            bail!("it ended with {code}");
        }
        let step = progress["step"].as_str().unwrap_or_default();
        let (done, total) = (progress["bytes_done"].as_f64(), progress["bytes_total"].as_f64());
        let far = step == "copy" && done.zip(total).is_some_and(|(done, total)| done >= share * total);
        Ok((far || !matches!(step, "" | "prepare" | "copy")).then(|| step.to_owned()))
    })
}

/// Waits for a step, or one behind it.
pub(crate) fn step(page: &Page, wanted: &[&str]) -> Result<String> {
    wait(page, "it gets on", INSTALL_TIME_MAX, |state| {
        let step = state["progress"]["step"].as_str().unwrap_or_default();
        Ok(wanted.contains(&step).then(|| step.to_owned()))
    })
}

/// Waits until a model serves: `second 2`.
pub(crate) fn serving(page: &Page, model: &str) -> Result<()> {
    wait(page, "another model serves", STICK_TIME_MAX, |state| {
        let current = &state["model"]["current"];
        let name = format!("{} {}", current["name"].as_str().unwrap_or("none"), current["version"]);
        Ok((name == model).then_some(()))
    })
}
