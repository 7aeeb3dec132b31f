//! What this machine is.

use std::fs;

use sysinfo::System;

use crate::card;

/// The processor's own name.
pub(crate) fn cpu_name() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// Bytes of memory that this process has now; 0 where the system doesn't say.
pub(crate) fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
    pages * page as u64
}

/// Bytes of the graphics card's memory; `None` without a card that computes faster than the processor.
pub(crate) fn vram() -> Option<u64> {
    card::chosen(card::Choice::Auto)?.memory_bytes()
}

/// Bytes of memory: all of it, and what could be had now; a cgroup's limit counts. Zeroes where the system doesn't say.
pub(crate) fn memory() -> (u64, u64) {
    let Ok(mut system) = System::new() else { return (0, 0) };
    system.refresh_memory();
    match system.cgroup_limits() {
        Some(limits) if limits.total_memory > 0 => (limits.total_memory, limits.free_memory),
        _ => (system.total_memory(), system.available_memory()),
    }
}
