//! What this machine can do at most, measured just before the rest: it changes with what others do.

use std::fmt;

use anyhow::Result;
use kernels::{Cpu, CpuOptions, Level};

use crate::cli::Compute;
use crate::machine;

/// Limits of all threads together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) level: Level,
    pub(crate) threads: usize,
    /// Bytes of memory read a second.
    pub(crate) read_bytes_s: f64,
    /// Operations on 8-bit integers a second, two for a multiply-add.
    pub(crate) int8_ops_s: f64,
}

impl Limits {
    /// Measures with an executor of its own: what it needed is free again afterwards.
    pub(crate) fn probe(compute: &Compute) -> Result<Self> {
        Ok(Self::of(&mut cpu(compute)?))
    }

    /// Share of the 8-bit peak that long prompts reach. `wels bench` on a pack of Qwen2.5-Coder-1.5B, two cores with AVX-512:
    /// 0.18 to 0.19; smaller models reach less. AMX, whose tiles wait for unpacking and scales: what its kernels aim at.
    pub(crate) fn int8_share(&self) -> f64 {
        if self.level == Level::Amx { 0.15 } else { 0.19 }
    }

    /// Where memory is short, a part of it has to do.
    pub(crate) fn of(cpu: &mut Cpu) -> Self {
        let free = usize::try_from(machine::memory().1).unwrap_or(usize::MAX);
        let bytes = Cpu::PROBE_BYTES.min(free / 4);
        let (read_bytes_s, int8_ops_s) = (cpu.probe_read_bandwidth(bytes), cpu.probe_int8_peak());
        Self { level: cpu.level(), threads: cpu.n_threads(), read_bytes_s, int8_ops_s }
    }
}

/// An executor as the model would have it.
pub(crate) fn cpu(compute: &Compute) -> Result<Cpu> {
    let Compute { threads, pin, .. } = *compute;
    Ok(Cpu::new(CpuOptions { threads, pin, ..CpuOptions::default() })?)
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, threads, read_bytes_s, int8_ops_s } = self;
        let (read, int8) = (read_bytes_s / 1e9, int8_ops_s / 1e9);
        write!(f, "{threads} threads, {level}: reads {read:.1} GB/s, multiplies {int8:.0} Gop/s at most")
    }
}
