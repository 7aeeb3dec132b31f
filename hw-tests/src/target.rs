//! The two boxes that the suite can test, and what can be done with them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::Args;
use crate::lan::Lan;
use crate::page::Page;
use crate::qemu::{Machine, Vm};

/// How long a person is willing to look at a box that starts. The virtual one computes every instruction in software.
pub(crate) const BOOT_TIME_MAX: Duration = Duration::from_secs(1500);

/// A box.
pub(crate) enum Target {
    /// In QEMU.
    Virtual(Box<Virtual>),
    /// On the bench.
    Real { page: SocketAddr, code: Option<String> },
}

/// A virtual box: its machine, and the machine while it runs.
pub(crate) struct Virtual {
    pub(crate) machine: Machine,
    pub(crate) running: Option<Vm>,
}

impl Target {
    pub(crate) fn new(args: &Args) -> Result<Self> {
        if let Some(page) = args.address {
            return Ok(Self::Real { page, code: args.code.clone() });
        }
        Ok(Self::Virtual(Box::new(Virtual { machine: Machine::new(args)?, running: None })))
    }

    /// Switches it on, or wakes it as an earlier run remembered it.
    pub(crate) fn boot(&mut self, remembered: Option<&str>) -> Result<()> {
        match self {
            Self::Virtual(virtual_box) => {
                virtual_box.running = Some(virtual_box.machine.start(remembered)?);
                Ok(())
            }
            Self::Real { .. } => Ok(()),
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
        let text = self.console("Code that makes it yours")?;
        claim_code(&text).context("the console shows no code")
    }

    /// Its page.
    pub(crate) fn page(&self) -> Result<Page> {
        match self {
            Self::Virtual(virtual_box) => Ok(Page::new(virtual_box.machine.page())),
            Self::Real { page, .. } => Ok(Page::new(*page)),
        }
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
