//! What this machine can do at most: the two limits that speeds are shares of.
//!
//! Decoding one sequence reads every weight once and is bound by memory; a long prompt multiplies each weight many times and
//! is bound by arithmetic.

mod int8;
mod read;

use std::hint::black_box;
use std::time::Instant;

use crate::Cpu;

/// Passes over the memory; the fastest counts, as other programs only ever slow one.
const READ_PASSES: usize = 5;
/// Floats that a worker claims at a time: 1 MiB.
const READ_GRAIN: usize = 256 << 10;
/// Runs of the multiply-adds; the fastest counts.
const INT8_PASSES: usize = 9;
/// Pieces of a run for each worker, some tens of microseconds each.
const INT8_PIECES: usize = 96;

impl Cpu {
    /// Bytes to read for a rate that no cache flatters: the largest last-level caches are shared with others.
    pub const PROBE_BYTES: usize = 1 << 30;

    /// Bytes a second that all workers together read of `bytes` of memory, [`PROBE_BYTES`](Self::PROBE_BYTES) for the
    /// machine's limit.
    pub fn probe_read_bandwidth(&mut self, bytes: usize) -> f64 {
        let n = (bytes / size_of::<f32>()).max(1);
        let mut memory = vec![0.0_f32; n];
        // Each worker touches first what it will mostly read: on machines with several memories it lies near.
        self.pool.for_each_slice(&mut memory, READ_GRAIN, |_, part| part.fill(1.0));
        let isa = self.isa;
        let seconds = fastest_s(READ_PASSES, || {
            self.pool.for_each_chunk(n, READ_GRAIN, |_, range| {
                black_box(isa.run(read::Largest { of: &memory[range] }));
            });
        });
        (n * size_of::<f32>()) as f64 / seconds
    }

    /// Operations a second of all workers, two for each multiply-add of 8-bit integers, with operands in registers and the
    /// instructions of this level.
    pub fn probe_int8_peak(&mut self) -> f64 {
        let (isa, pieces) = (self.isa, INT8_PIECES * self.n_threads());
        let seconds = fastest_s(INT8_PASSES, || {
            self.pool.for_each_chunk(pieces, 1, |_, _| int8::multiply_adds(isa));
        });
        (pieces * int8::ops(isa)) as f64 / seconds
    }
}

/// Seconds of the fastest of `n` runs.
fn fastest_s(n: usize, mut run: impl FnMut()) -> f64 {
    let once = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..n).map(once).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CpuOptions, Level};

    fn every_level() -> impl Iterator<Item = Cpu> {
        Level::ALL.into_iter().filter(|level| *level <= Level::detect()).map(|level| {
            let options = CpuOptions { threads: Some(2), level: Some(level), ..CpuOptions::default() };
            Cpu::new(options).expect("a level of this processor")
        })
    }

    #[test]
    fn rates_are_positive_and_finite() {
        for mut cpu in every_level() {
            let (level, read, int8) = (cpu.level(), cpu.probe_read_bandwidth(3 << 20), cpu.probe_int8_peak());
            assert!(read.is_finite() && read > 0.0, "{level}: {read} bytes/s");
            assert!(int8.is_finite() && int8 > 0.0, "{level}: {int8} ops/s");
        }
    }

    #[test]
    fn every_byte_is_read() {
        for cpu in every_level() {
            for n in [0, 1, 63, 64, 65, 1000] {
                let mut memory = vec![0.0; n];
                for at in [0, n / 2, n.saturating_sub(1)].into_iter().filter(|at| *at < n) {
                    memory[at] = 2.0;
                    assert_eq!(
                        cpu.isa.run(read::Largest { of: &memory }),
                        2.0,
                        "{}: {at} of {n}",
                        cpu.level()
                    );
                    memory[at] = 0.0;
                }
            }
        }
    }
}
