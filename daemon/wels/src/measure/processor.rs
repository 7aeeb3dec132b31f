//! The processor, as the system describes it.

use std::collections::BTreeSet;
use std::path::Path;

use super::report::Processor;
use crate::bench::Limits;
use crate::machine;
use crate::tree::{number, text};

/// Of the features that processors list, those that kernels could use.
const FEATURES: [&str; 9] =
    ["avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "amx_tile", "amx_int8"];

/// What the system says of the processor, and what was measured of it.
pub(super) fn processor(root: &Path, limits: &Limits) -> Processor {
    let info = text(&root.join("proc/cpuinfo")).unwrap_or_default();
    let clock_khz = number(&root.join("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"));
    Processor {
        name: machine::cpu_name(),
        cores: cores(&info),
        threads: limits.threads,
        level: limits.level.to_string(),
        features: features(&info),
        clock_hz_max: clock_khz.map(|khz| khz as f64 * 1e3),
        int8_ops_s: limits.int8_ops_s,
        int8_ops_s_after: None,
    }
}

/// Cores of all processors that `/proc/cpuinfo` tells of; `None` where it doesn't say.
fn cores(info: &str) -> Option<usize> {
    let value = |line: &str, key| Some(line.strip_prefix(key)?.split_once(':')?.1.trim().to_owned());
    let (mut cores, mut package) = (BTreeSet::new(), None);
    for line in info.lines() {
        if let Some(id) = value(line, "physical id") {
            package = Some(id);
        } else if let Some(core) = value(line, "core id") {
            cores.insert((package.clone(), core));
        }
    }
    (!cores.is_empty()).then_some(cores.len())
}

fn features(info: &str) -> Vec<String> {
    let line = info.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':'));
    let flags: BTreeSet<&str> = line.map(|(_, flags)| flags.split_whitespace().collect()).unwrap_or_default();
    FEATURES.into_iter().filter(|feature| flags.contains(feature)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpuinfo_is_counted_by_cores() {
        let one = |package, core| {
            format!(
                "processor\t: 0\nphysical id\t: {package}\ncore id\t\t: {core}\nflags\t\t: fpu avx2 fma\n\n"
            )
        };
        let info = one(0, 0) + &one(0, 1) + &one(0, 0) + &one(1, 0);
        assert_eq!(cores(&info), Some(3));
        assert_eq!(features(&info), ["avx2", "fma"]);
        assert_eq!((cores("nonsense"), features("flags")), (None, Vec::new()));
    }
}
