//! The two boxes that the suite can test, and what can be done with them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::Args;
use crate::lan::Lan;
use crate::page::Page;
use crate::qemu::{Machine, Stick, Vm};
use crate::stick::Maker;

/// How long a person is willing to look at a box that starts. The virtual one computes every instruction in software.
pub(crate) const BOOT_TIME_MAX: Duration = Duration::from_secs(1500);

/// How often a box that was woken has to answer before it counts as awake, and what lies between.
const CALM_ANSWERS: usize = 5;
const CALM_TIME: Duration = Duration::from_secs(1);

/// Minutes for which a box is kept busy whose measurement is for people, and where it only has to work.
const REPORT_MINUTES: u32 = 60;
const TRIAL_MINUTES: u32 = 1;

/// How a box is to measure itself.
pub(crate) struct Measure {
    pub(crate) minutes: u32,
    /// Where the page for people goes.
    pub(crate) report: Option<PathBuf>,
}

impl Measure {
    fn new(args: &Args) -> Self {
        let minutes = if args.report.is_some() { REPORT_MINUTES } else { TRIAL_MINUTES };
        Self { minutes: args.minutes.unwrap_or(minutes), report: args.report.clone() }
    }
}

/// A box.
pub(crate) enum Target {
    /// In QEMU.
    Virtual(Box<Virtual>),
    /// On the bench.
    Real { page: SocketAddr, code: Option<String>, measure: Measure },
}

/// A virtual box: its machine, and the machine while it runs.
pub(crate) struct Virtual {
    machine: Machine,
    running: Option<Vm>,
    bench: Bench,
    /// The administrator's session.
    cookie: Option<String>,
    measure: Measure,
}

/// What lies beside a virtual box.
pub(crate) struct Bench {
    pub(crate) maker: Maker,
    /// A second model, as a pack.
    pub(crate) second: PathBuf,
    /// The files of a newer system.
    pub(crate) system: PathBuf,
    /// Where the faults of this run come from.
    pub(crate) seed: u64,
}

impl Target {
    pub(crate) fn new(args: &Args) -> Result<Self> {
        let measure = Measure::new(args);
        if let Some(page) = args.address {
            return Ok(Self::Real { page, code: args.code.clone(), measure });
        }
        let machine = Machine::new(args)?;
        let given =
            |path: &Option<PathBuf>| path.clone().context("--wels, --second, --system and --root are needed");
        let maker = Maker::new(
            &given(&args.wels)?,
            &given(&args.root)?,
            &machine.tools,
            &machine.scratch("sticks"),
            !machine.is_remembered(),
        )?;
        let bench =
            Bench { maker, second: given(&args.second)?, system: given(&args.system)?, seed: args.seed };
        Ok(Self::Virtual(Box::new(Virtual { machine, running: None, bench, cookie: None, measure })))
    }

    /// Switches it on, with a stick in it or without.
    pub(crate) fn boot(&mut self, stick: Option<&Stick>) -> Result<()> {
        let Self::Virtual(virtual_box) = self else { return Ok(()) };
        let vm = virtual_box.running.insert(virtual_box.machine.start(None)?);
        stick.map_or(Ok(()), |stick| vm.plug(stick))
    }

    /// Remembers the box as it is now, whoever is signed in.
    pub(crate) fn remember(&mut self, name: &str) -> Result<()> {
        self.vm()?.snapshot(name)?;
        let Self::Virtual(virtual_box) = self else { return Ok(()) };
        virtual_box.machine.remember(name, virtual_box.cookie.as_deref().unwrap_or_default())
    }

    /// Whether it is remembered like that.
    pub(crate) fn remembers(&self, name: &str) -> bool {
        matches!(self, Self::Virtual(virtual_box) if virtual_box.machine.remembered(name).is_some())
    }

    /// The box as it was then.
    pub(crate) fn restore(&mut self, name: &str) -> Result<()> {
        let Self::Virtual(virtual_box) = self else { bail!("only a virtual box can do that") };
        let cookie = virtual_box
            .machine
            .remembered(name)
            .with_context(|| format!("no box is remembered as {name}"))?;
        virtual_box.cookie = Some(cookie).filter(|cookie| !cookie.is_empty());
        match &mut virtual_box.running {
            Some(vm) => vm.restore(name)?,
            None => virtual_box.running = Some(virtual_box.machine.start(Some(name))?),
        }
        // Its clock leaps a little later, to now: what is asked right then waits too long by it, and is cut off.
        for _ in 0..CALM_ANSWERS {
            self.page()?.wait(BOOT_TIME_MAX)?;
            std::thread::sleep(CALM_TIME);
        }
        Ok(())
    }

    /// Its page, for whoever claimed it.
    pub(crate) fn admin(&mut self) -> Result<Page> {
        let mut page = self.page()?;
        let Self::Virtual(virtual_box) = self else { bail!("only a virtual box can do that") };
        page.cookie.clone_from(&virtual_box.cookie);
        if page.cookie.is_none() {
            page.sign_in()?;
            virtual_box.cookie.clone_from(&page.cookie);
        }
        Ok(page)
    }

    /// Keeps a session for [`Self::admin`].
    pub(crate) fn keep_session(&mut self, page: &Page) {
        if let Self::Virtual(virtual_box) = self {
            virtual_box.cookie.clone_from(&page.cookie);
        }
    }

    /// Whoever was signed in has to sign in again.
    pub(crate) fn forget_session(&mut self) -> Result<()> {
        let Self::Virtual(virtual_box) = self else { bail!("only a virtual box can do that") };
        virtual_box.cookie = None;
        Ok(())
    }

    /// What lies beside a virtual box.
    pub(crate) fn bench(&self) -> Result<&Bench> {
        match self {
            Self::Virtual(virtual_box) => Ok(&virtual_box.bench),
            Self::Real { .. } => bail!("only a virtual box can do that"),
        }
    }

    /// Where its page is.
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Virtual(virtual_box) => virtual_box.machine.page(),
            Self::Real { page, .. } => *page,
        }
    }

    /// Takes its power away, at once.
    pub(crate) fn cut_power(&mut self) -> Result<()> {
        match self {
            Self::Virtual(virtual_box) => virtual_box.running.take().context("it is off")?.cut_power(),
            Self::Real { .. } => bail!("pull the cord by hand: no switch is known"),
        }
    }

    /// Waits until the console shows `words`; gives everything since the box was switched on.
    pub(crate) fn console(&mut self, words: &str) -> Result<String> {
        self.vm()?.console().wait_for(words, BOOT_TIME_MAX)
    }

    /// What the console shows last; nothing of a real one.
    pub(crate) fn console_tail(&self) -> String {
        match self {
            Self::Virtual(virtual_box) => virtual_box.machine.console_tail(),
            Self::Real { .. } => String::new(),
        }
    }

    /// The code that claims it.
    pub(crate) fn claim_code(&mut self) -> Result<String> {
        if let Self::Real { code, .. } = self {
            return code.clone().context("give the code on its console with --code");
        }
        if let Some(code) = claim_code(&self.vm()?.console().text()) {
            return Ok(code);
        }
        // A box that was woken draws its console again when something changes; what it would draw is here.
        Ok(self.shows()?["claim_code"].as_str().context("the box has no code")?.to_owned())
    }

    /// What a virtual box's console shows now, as the daemon tells it.
    pub(crate) fn shows(&mut self) -> Result<serde_json::Value> {
        let told = self.vm()?.shell()?.run("cat /run/wels/box.json")?;
        serde_json::from_str(&told).with_context(|| told.clone())
    }

    /// How it is to measure itself.
    pub(crate) fn measure(&self) -> &Measure {
        match self {
            Self::Virtual(virtual_box) => &virtual_box.measure,
            Self::Real { measure, .. } => measure,
        }
    }

    /// Its page.
    pub(crate) fn page(&self) -> Result<Page> {
        Ok(Page::new(self.address()))
    }

    /// The network it is in, if that is ours.
    pub(crate) fn lan(&mut self) -> Result<&mut Lan> {
        Ok(self.vm()?.lan())
    }

    pub(crate) fn vm(&mut self) -> Result<&mut Vm> {
        match self {
            Self::Virtual(virtual_box) => virtual_box.running.as_mut().context("it is off"),
            Self::Real { .. } => bail!("only a virtual box can do that"),
        }
    }

    /// The machine of a virtual box.
    pub(crate) fn machine(&mut self) -> Result<&mut Machine> {
        match self {
            Self::Virtual(virtual_box) => Ok(&mut virtual_box.machine),
            Self::Real { .. } => bail!("only a virtual box can do that"),
        }
    }

    pub(crate) fn is_virtual(&self) -> bool {
        matches!(self, Self::Virtual(_))
    }
}

/// The last code on the console: `ABCD-EFGH`.
fn claim_code(console: &str) -> Option<String> {
    let after = console.rsplit("Code that makes it yours").next()?;
    let is_code = |word: &&str| {
        word.len() == 9
            && word.as_bytes()[4] == b'-'
            && word.chars().all(|c| c == '-' || c.is_ascii_uppercase() || c.is_ascii_digit())
    };
    after.split_whitespace().find(is_code).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_read_off_the_screen() {
        let screen = "Code that makes it yours: / 尚未认领\r\n█▀█  OLD1-CODE\r\n Code that makes it yours:\r\n ▄▄█  ABCD-EFGH\r\n";
        assert_eq!(claim_code(screen).as_deref(), Some("ABCD-EFGH"));
        assert_eq!(claim_code("nothing"), None);
    }
}
