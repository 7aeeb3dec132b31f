//! `wels console`: the box's own screen. It shows where to go, and what to type there.

mod page;
mod qr;

use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use self::page::Facts;
use crate::appliance::{BoxState, FellBack, fell_back};
use crate::cli::Console;
use crate::serve;

/// Between two looks.
const REST: Duration = Duration::from_secs(2);
/// Drawn anew even if nothing has changed: the kernel may have written across it.
const REDRAW: Duration = Duration::from_secs(60);
/// Addresses shown.
const ADDRESSES_MAX: usize = 3;

#[expect(clippy::print_stdout, reason = "this is the screen")]
pub(crate) fn run(args: &Console) -> Result<ExitCode> {
    let state = serve::state_dir(args.state.as_deref());
    if args.json {
        println!("{}", serde_json::to_string(&look(args, &state))?);
        return Ok(ExitCode::SUCCESS);
    }
    // The kernel's own screen has no Chinese letters; terminals have.
    let chinese = std::env::var("TERM").is_ok_and(|term| term != "linux");
    let mut drawn: Option<(Facts, Instant)> = None;
    loop {
        let facts = look(args, &state);
        let is_fresh = |(old, at): &(Facts, Instant)| *old == facts && at.elapsed() < REDRAW;
        if !drawn.as_ref().is_some_and(is_fresh) {
            draw(&page::page(&facts, chinese), args.once)?;
            drawn = Some((facts, Instant::now()));
        }
        if args.once {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(REST);
    }
}

/// From the top of an empty screen, unless it is drawn but once.
fn draw(text: &str, once: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let clear = if once { "" } else { "\x1b[2J\x1b[H" };
    write!(out, "{clear}{text}")?;
    Ok(out.flush()?)
}

fn look(args: &Console, state: &Path) -> Facts {
    Facts {
        daemon: BoxState::read(&args.runtime).ok(),
        // What the box calls itself now: another device may have had its name.
        host: nix::unistd::gethostname()
            .map_or_else(|_| "wels".into(), |name| name.to_string_lossy().into_owned()),
        addresses: addresses(),
        fell_back: fell_back(state)
            .map(|FellBack { version, reason }| format!("version {version} was not well: {reason}")),
    }
}

/// The box's addresses, those that people can type first.
fn addresses() -> Vec<IpAddr> {
    let Ok(all) = getifaddrs() else { return Vec::new() };
    let up = all.filter(|one| {
        one.flags.contains(InterfaceFlags::IFF_UP) && !one.flags.contains(InterfaceFlags::IFF_LOOPBACK)
    });
    let mut found: Vec<IpAddr> = up.filter_map(|one| address(&one.address?)).collect();
    found.sort_by_key(|address| (rank(address), *address));
    found.dedup();
    found.truncate(ADDRESSES_MAX);
    found
}

fn address(storage: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    let v6 = || storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()));
    // A link-local IPv6 address needs a zone, which browsers don't take.
    v4.or_else(v6).filter(|address| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()))
}

fn rank(address: &IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) if !v4.is_link_local() => 0,
        IpAddr::V4(_) => 1,
        IpAddr::V6(_) => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_addresses_come_first() {
        let mut all: Vec<IpAddr> =
            ["fd00::1", "169.254.3.4", "10.0.0.7"].map(|text| text.parse().unwrap()).into();
        all.sort_by_key(rank);
        assert_eq!(all[0].to_string(), "10.0.0.7");
        assert_eq!(all[2].to_string(), "fd00::1");
    }
}
