//! What the page shows, as JSON.

use std::path::Path;

use backup::Found;
use serde::Serialize;
use update::system::BootState;
use update::{Abandoned, Agreed, Because, Installed, Kind, Progress, Version};

use super::look::Content;
use super::{Places, Seen, system};
use crate::appliance::{FellBack, door, fell_back, version};
use crate::bundle;

/// What changes only when something was installed.
#[derive(Debug, Default)]
pub(super) struct Lines {
    installed: Installed,
    model: Line,
    system: Line,
    /// Versions at their places that neither serve nor would after a rollback.
    others: Vec<Named>,
    trust: Trusted,
    fell_back: Option<FellBack>,
    system_version: String,
}

#[derive(Debug, Default, Serialize)]
struct Line {
    current: Option<Named>,
    previous: Option<Named>,
}

/// A version with what people call it.
#[derive(Debug, Serialize)]
struct Named {
    name: String,
    title: String,
    version: u64,
    bytes: u64,
}

#[derive(Debug, Default, Serialize)]
struct Trusted {
    root: Option<String>,
    keys: Vec<Key>,
}

#[derive(Debug, Serialize)]
struct Key {
    name: String,
    fingerprint: String,
    because: Because,
}

#[derive(Serialize)]
struct Shown<'a> {
    model: &'a Line,
    system: &'a Line,
    others: &'a [Named],
    system_version: &'a str,
    restart_wanted: bool,
    fell_back: &'a Option<FellBack>,
    abandoned: Option<GivenUp<'a>>,
    stick: Option<ShownStick<'a>>,
    progress: Option<&'a Progress>,
    trust: &'a Trusted,
    appliance: bool,
}

#[derive(Serialize)]
struct GivenUp<'a> {
    name: &'a str,
    version: u64,
    reason: &'a str,
}

#[derive(Serialize)]
struct ShownStick<'a> {
    id: &'a str,
    device: &'a str,
    label: &'a str,
    size_bytes: u64,
    writable: bool,
    content: &'a Content,
    backups: &'a [Found],
}

impl Lines {
    /// What is installed and believed; what can't be read is shown as nothing, and said where it is used.
    pub(super) fn read(places: &Places) -> Self {
        let trust = bundle::trust(&places.state).ok();
        let lines = Self {
            trust: trust.as_ref().map(trusted).unwrap_or_default(),
            fell_back: fell_back(&places.state),
            system_version: version(),
            ..Self::default()
        };
        let Some(models) = &places.models else { return lines };
        let installed = Installed::read(models).unwrap_or_default();
        let named = |version: &Option<Version>| {
            version.as_ref().map(|version| Named::of(&version.folder(models), &version.name, version.version))
        };
        let line = |kind| {
            let line: &update::Line = installed.line(kind);
            Line { current: named(&line.current), previous: named(&line.previous) }
        };
        let others = update::installed_versions(models).unwrap_or_default().into_iter();
        let others = others.filter(|((name, version), _)| !installed.is_kept(name, *version));
        let others = others.map(|((name, version), path)| Named::of(&path, &name, version)).collect();
        Self { model: line(Kind::Model), system: line(Kind::System), others, installed, ..lines }
    }

    /// What goes on by itself when its stick is there: agreed to, and not in its slot already, where it waits for a restart.
    pub(super) fn agreed(&self) -> Option<Agreed> {
        self.installed.agreed.filter(|agreed| self.installed.put != Some(agreed.id))
    }

    pub(super) fn previous_model(&self) -> Option<Version> {
        self.installed.model.previous.clone()
    }
}

fn trusted(trust: &update::Trust) -> Trusted {
    let released = trust.list().map_or(&[][..], |list| &list.release);
    let key = |(named, because): (&update::NamedKey, Because)| Key {
        name: named.name.clone(),
        fingerprint: named.key.fingerprint(),
        because,
    };
    let released = released.iter().map(|key| (key, Because::Release));
    let added = trust.added().iter().map(|key| (key, Because::Added));
    Trusted {
        root: trust.root().map(|root| root.fingerprint()),
        keys: released.chain(added).map(key).collect(),
    }
}

impl Named {
    fn of(folder: &Path, name: &str, version: u64) -> Self {
        let manifest = update::installed_manifest(folder);
        let title = manifest.as_ref().map_or(name, |manifest| manifest.title.as_str()).to_owned();
        let bytes = manifest.map_or(0, |manifest| manifest.bytes());
        Self { name: name.to_owned(), title, version, bytes }
    }
}

/// What people call the version in `folder`.
pub(super) fn title(folder: &Path, name: &str) -> String {
    update::installed_manifest(folder).map_or_else(|| name.to_owned(), |manifest| manifest.title)
}

/// The whole state.
pub(super) fn json(
    places: &Places,
    lines: &Lines,
    seen: Option<&Seen>,
    progress: Option<&Progress>,
    boots: Option<&BootState>,
) -> String {
    let abandoned = lines.installed.abandoned.as_ref().map(|Abandoned { version, reason }| GivenUp {
        name: &version.name,
        version: version.version,
        reason,
    });
    let shown = Shown {
        model: &lines.model,
        system: &lines.system,
        others: &lines.others,
        system_version: &lines.system_version,
        restart_wanted: system::waits(boots),
        fell_back: &lines.fell_back,
        abandoned,
        stick: seen.map(|Seen { stick, looked, .. }| ShownStick {
            id: &stick.id,
            device: &stick.hello.device,
            label: &stick.hello.label,
            size_bytes: stick.hello.bytes,
            writable: stick.hello.kind == door::Kind::Folder,
            content: &looked.content,
            backups: &looked.backups,
        }),
        progress,
        trust: &lines.trust,
        appliance: places.runtime.is_some(),
    };
    serde_json::to_string(&shown).expect("names and numbers become JSON")
}
