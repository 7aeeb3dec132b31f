//! A stick, looked at: whether there is a bundle on it, whose, and whether it may be installed.

use std::sync::Arc;

use api::Refusal;
use serde::Serialize;
use update::{Bundle, Error, Failure, Options, Preview, PublicKeyFile, Trust};

use super::{Places, backups, install, refuse};
use crate::appliance::sticks::Stick;
use crate::bundle;

/// What is on a stick.
#[derive(Debug, Default, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(super) enum Content {
    /// It is being looked at.
    #[default]
    Reading,
    /// No bundle.
    Nothing,
    /// One that somebody signed whom this box believes.
    Bundle { preview: Box<Preview> },
    /// One that can't be used.
    Refused { problem: Failure },
}

impl Content {
    /// For the console, which has no room.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Reading => "is being looked at".into(),
            Self::Nothing => "has nothing to install".into(),
            Self::Bundle { preview } if preview.refusal.is_some() => {
                format!("{}: can't be installed", preview.title)
            }
            Self::Bundle { preview } => preview.title.clone(),
            Self::Refused { problem } => problem.message.clone(),
        }
    }
}

/// A bundle that is believed, and whom the box believes from its installation on.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) bundle: Bundle,
    pub(super) trust: Trust,
}

/// What a look at a stick brought. A stick that hangs holds up whoever looks, and nobody else.
#[derive(Debug, Default)]
pub(super) struct Looked {
    pub(super) content: Content,
    /// What may be installed from it.
    found: Option<Arc<Found>>,
    /// The newest first.
    pub(super) backups: Vec<backup::Found>,
}

impl Looked {
    /// Another look begins: what was found may be so no longer.
    pub(super) fn begins(&mut self) {
        (self.content, self.found) = (Content::Reading, None);
    }

    /// The bundle, and what is shown of it.
    pub(super) fn bundle(&self) -> Option<(&Preview, &Arc<Found>)> {
        let Content::Bundle { preview } = &self.content else { return None };
        Some((preview, self.found.as_ref()?))
    }
}

/// Looks at a stick.
pub(super) fn look(places: &Places, stick: &Stick) -> Looked {
    let (content, found) = match try_look(places, stick) {
        Ok((preview, found)) => (Content::Bundle { preview: Box::new(preview) }, Some(Arc::new(found))),
        Err(Error::NoBundle { .. }) => (Content::Nothing, None),
        Err(error) => (Content::Refused { problem: Failure::from(&error) }, None),
    };
    Looked { content, found, backups: backups::on(stick) }
}

fn try_look(places: &Places, stick: &Stick) -> Result<(Preview, Found), Error> {
    let carrier = stick.carrier()?;
    let no_models = || Error::NoBundle { path: stick.hello.device.clone().into() };
    let models = places.models.as_ref().ok_or_else(no_models)?;
    let (bundle, trust) = carrier.check(&bundle::trust(&places.state)?)?;
    let preview = install::installer(models)?.preview(&bundle, &Options::default())?;
    Ok((preview, Found { bundle, trust }))
}

/// Whether what was shown may be installed.
///
/// # Errors
/// Why not.
pub(super) fn may_install(preview: &Preview, allow_older: bool) -> Result<(), Refusal> {
    match &preview.refusal {
        Some(failure) if !(allow_older && failure.code == OLDER) => {
            Err(Refusal { code: "refused", message: failure.message.clone() })
        }
        _ => Ok(()),
    }
}

/// The code of the one refusal that an administrator may overrule.
const OLDER: &str = "older";

/// Believes the key in the text of its file.
///
/// # Errors
/// It is no public key.
pub(super) fn add_key(trust: &mut Trust, text: &str) -> Result<(), Refusal> {
    let no_key =
        |_| refuse("wrong_key", "that is no public key; take the .pub file that `wels bundle keygen` made");
    let file = PublicKeyFile::parse(text.as_bytes()).map_err(no_key)?;
    trust.add(&file);
    Ok(())
}
