//! What must be so of a box, in the order of a box's life.

mod boot;
mod browser;
mod faults;
mod keeping;
mod measure;
mod sticks;
mod system;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::say;
use crate::target::Target;

/// The box once it was ready, and once somebody had claimed it, as virtual boxes are remembered.
const READY: &str = "ready";
const CLAIMED: &str = "claimed";

/// Where a case begins.
#[derive(Clone, Copy)]
enum Begin {
    /// With a box that was never on.
    Off,
    /// Where the case before left the box.
    After,
    /// The same; alone, with the box as it is remembered.
    As(&'static str),
    /// With the box as it is remembered, always.
    Anew(&'static str),
}

/// One thing that must be so.
struct Case {
    name: &'static str,
    /// Whether a real box can show it without a person's hands.
    real: bool,
    begin: Begin,
    /// As what it leaves the box remembered.
    leaves: Option<&'static str>,
    run: fn(&mut Target) -> Result<()>,
}

const fn case(name: &'static str, begin: Begin, run: fn(&mut Target) -> Result<()>) -> Case {
    Case { name, real: false, begin, leaves: None, run }
}

const CASES: &[Case] = &[
    case("boots from the image, and the console shows address and code", Begin::Off, boot::boots),
    Case {
        name: "the box is well: its gate has passed, its units run, its drive is used",
        real: false,
        begin: Begin::After,
        leaves: Some(READY),
        run: boot::is_well,
    },
    case("units are closed: systemd-analyze security of wels <= 2.0", Begin::As(READY), boot::is_closed),
    case("wels.local answers, without anybody who hands out addresses", Begin::As(READY), boot::has_its_name),
    case("a scan finds only what the design names", Begin::As(READY), boot::opens_only_its_doors),
    case("a real browser claims the page and gets an answer", Begin::Anew(READY), browser::claims),
    Case {
        name: "the page is claimed with the console's code, and a question answered",
        real: true,
        begin: Begin::Anew(READY),
        leaves: Some(CLAIMED),
        run: boot::is_claimed,
    },
    case("a claimed box shows no code any more", Begin::After, boot::hides_the_code),
    Case {
        name: "it measures itself, and says what it would serve",
        real: true,
        begin: Begin::Anew(CLAIMED),
        leaves: None,
        run: measure::measures_itself,
    },
    case("a stranger's stick is shown and refused", Begin::Anew(CLAIMED), sticks::refuses_strangers),
    case("a stick's model is shown, installed, and answers", Begin::Anew(CLAIMED), sticks::installs),
    case("the same stick again does nothing", Begin::After, sticks::does_nothing_twice),
    case("an older version is refused", Begin::After, sticks::refuses_older),
    case("rolled back, the model before answers", Begin::After, sticks::rolls_back),
    case(
        "a backup on an exFAT stick survives a factory reset, and comes home",
        Begin::Anew(CLAIMED),
        keeping::comes_home,
    ),
    case("who lost the password gets in with a stick", Begin::Anew(CLAIMED), keeping::lets_in),
    case("faults on the way leave a whole model, every chat and a daemon", Begin::Anew(CLAIMED), faults::all),
    case("a system from a stick starts, and a broken one falls back", Begin::Anew(CLAIMED), system::updates),
    case(
        "after a cut cord and a bad update it comes back by itself, and is still claimed",
        Begin::Anew(CLAIMED),
        boot::falls_back,
    ),
];

/// Runs all cases, or those whose names hold `only` and what they need. Where one fails, those that would go on from there are
/// left out; the others have a box of their own.
pub(crate) fn run(mut target: Target, only: Option<&str>) -> Result<()> {
    let wanted = |case: &Case| {
        (case.real || target.is_virtual()) && only.is_none_or(|words| case.name.contains(words))
    };
    let wanted: Vec<_> = (0..CASES.len()).filter(|idx| wanted(&CASES[*idx])).collect();
    let cases: BTreeSet<_> = wanted.into_iter().flat_map(|idx| chain(&target, idx)).collect();
    let mut failed = BTreeSet::new();
    for idx in &cases {
        let case = &CASES[*idx];
        let before = idx.checked_sub(1).filter(|before| cases.contains(before));
        let broken = before.is_some_and(|before| failed.contains(&before));
        if broken && matches!(case.begin, Begin::After) {
            say::note(&format!("left out, for it goes on from the one before: {}", case.name));
            failed.insert(*idx);
            continue;
        }
        let since = say::begins(case.name);
        let begun = begin(&mut target, case.begin, before.is_some() && !broken);
        let outcome = begun.and_then(|()| (case.run)(&mut target));
        say::ended(case.name, since, if outcome.is_ok() { "ok" } else { "FAIL" });
        if let Err(error) = outcome {
            say::note("the console's last lines:");
            say::lines(&target.console_tail());
            say::note("why:");
            say::lines(&format!("{error:#}"));
            failed.insert(*idx);
        }
    }
    say::note(&format!("{} of {} cases, {} of them not well", cases.len(), CASES.len(), failed.len()));
    let names: Vec<_> = failed.iter().map(|idx| CASES[*idx].name).collect();
    ensure!(names.is_empty(), "not well: {}", names.join("; "));
    Ok(())
}

/// A case, and those before it that it cannot do without.
fn chain(target: &Target, idx: usize) -> Vec<usize> {
    if !target.is_virtual() {
        return vec![idx];
    }
    let before = match CASES[idx].begin {
        Begin::Off => None,
        Begin::After => Some(idx - 1),
        Begin::As(name) | Begin::Anew(name) if target.remembers(name) => None,
        Begin::As(name) | Begin::Anew(name) => CASES.iter().position(|case| case.leaves == Some(name)),
    };
    let mut all = before.map(|before| chain(target, before)).unwrap_or_default();
    all.push(idx);
    all
}

/// Brings the box to where a case begins.
fn begin(target: &mut Target, begin: Begin, goes_on: bool) -> Result<()> {
    match begin {
        _ if !target.is_virtual() => Ok(()),
        Begin::Off => target.machine()?.renew(),
        Begin::After => Ok(()),
        Begin::As(_) if goes_on => Ok(()),
        Begin::As(name) | Begin::Anew(name) => target.restore(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_case_begins_at_an_earlier_one_leaves() {
        for (idx, case) in CASES.iter().enumerate() {
            match case.begin {
                Begin::Off => assert_eq!(idx, 0),
                Begin::After => assert!(idx > 0),
                Begin::As(name) | Begin::Anew(name) => {
                    let leaves = |case: &Case| case.leaves == Some(name);
                    assert!(CASES[..idx].iter().any(leaves), "{}: {name}", case.name);
                }
            }
        }
    }
}
