//! What the machine says of its heat: temperatures, clocks, how often it throttled. Sensors that aren't there are unknown.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::tree::{entries, is_numbered, number, text, words};

/// Drivers of processors' thermometers.
const PROCESSOR_DRIVERS: [&str; 5] = ["coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal"];
/// Thermal zones that are a processor, where no driver is.
const PROCESSOR_ZONES: [&str; 5] =
    ["x86_pkg_temp", "cpu-thermal", "cpu_thermal", "soc-thermal", "soc_thermal"];
/// What a thermometer in a computer can show, in thousandths of a degree; beyond, it is broken.
const MILLIDEGREES: std::ops::RangeInclusive<i64> = -50_000..=200_000;

/// Where the sensors are; found once, read often.
#[derive(Debug)]
pub(super) struct Sensors {
    processor: Vec<PathBuf>,
    drive: Vec<PathBuf>,
    card: Vec<PathBuf>,
    /// Thousands a second, a file a processor.
    clocks: Vec<PathBuf>,
    /// Where these aren't.
    cpuinfo: PathBuf,
    card_clocks: Vec<PathBuf>,
    throttles: Vec<PathBuf>,
}

/// What they show at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Reading {
    /// Of the hottest part, degrees Celsius.
    pub(super) processor_c: Option<f64>,
    pub(super) drive_c: Option<f64>,
    pub(super) card_c: Option<f64>,
    /// The mean of all processors.
    pub(super) clock_hz: Option<f64>,
    pub(super) card_clock_hz: Option<f64>,
    /// How often cores and package have slowed down against heat, since the machine was switched on.
    pub(super) throttled: Option<i64>,
}

impl Sensors {
    /// Those below `root` (`/`); `drive` is the folder of the block device.
    pub(super) fn find(root: &Path, drive: Option<&Path>) -> Self {
        let cpus = entries(&root.join("sys/devices/system/cpu"), |name| is_numbered(name, "cpu"));
        let below = |below: &str| -> Vec<PathBuf> { cpus.iter().map(|cpu| cpu.join(below)).collect() };
        let cards = entries(&root.join("sys/class/drm"), |name| is_numbered(name, "card"));
        let of_cards = |is_wanted: fn(&str) -> bool| -> Vec<PathBuf> {
            let folders = cards.iter().flat_map(|card| hwmons(&card.join("device")));
            folders.flat_map(|folder| entries(&folder, is_wanted)).collect()
        };
        let counters = ["thermal_throttle/core_throttle_count", "thermal_throttle/package_throttle_count"];
        Self {
            processor: processor(root),
            drive: drive.map(drive_thermometers).unwrap_or_default(),
            card: of_cards(is_thermometer),
            clocks: below("cpufreq/scaling_cur_freq"),
            cpuinfo: root.join("proc/cpuinfo"),
            card_clocks: of_cards(|name| name == "freq1_input"),
            throttles: counters
                .iter()
                .flat_map(|counter| below(counter))
                .filter(|path| path.exists())
                .collect(),
        }
    }

    pub(super) fn read(&self) -> Reading {
        Reading {
            processor_c: hottest(&self.processor),
            drive_c: hottest(&self.drive),
            card_c: hottest(&self.card),
            clock_hz: self.clock_hz(),
            card_clock_hz: numbers(&self.card_clocks).into_iter().max().map(|hz| hz as f64),
            throttled: numbers(&self.throttles).into_iter().reduce(i64::saturating_add),
        }
    }

    fn clock_hz(&self) -> Option<f64> {
        let from_kilo = |khz: i64| khz as f64 * 1e3;
        mean(numbers(&self.clocks).into_iter().map(from_kilo)).or_else(|| {
            let info = text(&self.cpuinfo)?;
            let clocks = info.lines().filter_map(|line| line.strip_prefix("cpu MHz")?.split_once(':'));
            mean(clocks.filter_map(|(_, mhz)| Some(mhz.trim().parse::<f64>().ok()? * 1e6)))
        })
    }
}

fn is_thermometer(name: &str) -> bool {
    name.strip_prefix("temp").and_then(|rest| rest.strip_suffix("_input")).is_some()
}

/// A driver's folders of sensors below a device: newer kernels have a folder of them all.
fn hwmons(device: &Path) -> Vec<PathBuf> {
    let is_hwmon = |name: &str| is_numbered(name, "hwmon");
    let mut folders = entries(&device.join("hwmon"), is_hwmon);
    folders.extend(entries(device, is_hwmon));
    folders
}

/// The thermometers of processors, or the zones that stand for them.
fn processor(root: &Path) -> Vec<PathBuf> {
    let chips = entries(&root.join("sys/class/hwmon"), |name| is_numbered(name, "hwmon"));
    let is_processor = |chip: &PathBuf| {
        words(&chip.join("name")).is_some_and(|name| PROCESSOR_DRIVERS.contains(&name.as_str()))
    };
    let of_chips = chips.into_iter().filter(is_processor).flat_map(|chip| entries(&chip, is_thermometer));
    let found: Vec<_> = of_chips.collect();
    if !found.is_empty() {
        return found;
    }
    let zones = entries(&root.join("sys/class/thermal"), |name| is_numbered(name, "thermal_zone"));
    let is_processor = |zone: &PathBuf| {
        words(&zone.join("type")).is_some_and(|kind| PROCESSOR_ZONES.contains(&kind.as_str()))
    };
    zones.into_iter().filter(is_processor).map(|zone| zone.join("temp")).collect()
}

/// A drive's own: the first one is the whole drive's.
fn drive_thermometers(block: &Path) -> Vec<PathBuf> {
    // Of NVMe the controller has it, which a name space's device is, or has as its own.
    let places = [block.join("device"), block.join("device/device")];
    let folders = places.iter().flat_map(|place| hwmons(place));
    folders.map(|folder| folder.join("temp1_input")).filter(|path| path.exists()).collect()
}

fn numbers(paths: &[PathBuf]) -> Vec<i64> {
    paths.iter().filter_map(|path| number(path)).collect()
}

fn hottest(paths: &[PathBuf]) -> Option<f64> {
    let sane = numbers(paths).into_iter().filter(|millidegrees| MILLIDEGREES.contains(millidegrees));
    sane.max().map(|millidegrees| millidegrees as f64 / 1e3)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0), |(sum, n), value| (sum + value, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::*;

    /// Files of a tree.
    pub(in crate::measure) fn plant(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn what_is_not_there_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let sensors = Sensors::find(dir.path(), Some(&dir.path().join("sys/class/block/sda")));
        assert_eq!(sensors.read(), Reading::default());
    }

    #[test]
    fn a_machine_with_everything_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        plant(
            root,
            &[
                ("sys/class/hwmon/hwmon0/name", "acpitz\n"),
                ("sys/class/hwmon/hwmon0/temp1_input", "99000\n"),
                ("sys/class/hwmon/hwmon1/name", "coretemp\n"),
                ("sys/class/hwmon/hwmon1/temp1_input", "61000\n"),
                ("sys/class/hwmon/hwmon1/temp2_input", "64500\n"),
                ("sys/class/hwmon/hwmon1/temp2_max", "100000\n"),
                ("sys/class/block/nvme0n1/device/hwmon2/temp1_input", "47850\n"),
                ("sys/class/block/nvme0n1/device/hwmon2/temp2_input", "70000\n"),
                ("sys/class/drm/card1/device/hwmon/hwmon3/temp1_input", "55000\n"),
                ("sys/class/drm/card1/device/hwmon/hwmon3/temp2_input", "71000\n"),
                ("sys/class/drm/card1/device/hwmon/hwmon3/freq1_input", "2450000000\n"),
                ("sys/class/drm/card1-DP-1/device/hwmon/hwmon9/temp1_input", "99000\n"),
                ("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "3000000\n"),
                ("sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "4000000\n"),
                ("sys/devices/system/cpu/cpufreq/boost", "1\n"),
                ("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "3\n"),
                ("sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count", "4\n"),
            ],
        );
        let sensors = Sensors::find(root, Some(&root.join("sys/class/block/nvme0n1")));
        let wanted = Reading {
            processor_c: Some(64.5),
            drive_c: Some(47.85),
            card_c: Some(71.0),
            clock_hz: Some(3.5e9),
            card_clock_hz: Some(2.45e9),
            throttled: Some(7),
        };
        assert_eq!(sensors.read(), wanted);
        // One breaks, another is taken out while it runs.
        plant(
            root,
            &[
                ("sys/class/hwmon/hwmon1/temp2_input", "-274000"),
                ("sys/class/drm/card1/device/hwmon/hwmon3/temp2_input", "hot"),
            ],
        );
        fs::remove_dir_all(root.join("sys/class/block")).unwrap();
        let broken = sensors.read();
        assert_eq!((broken.processor_c, broken.card_c, broken.drive_c), (Some(61.0), Some(55.0), None));
    }

    #[test]
    fn zones_and_cpuinfo_stand_in() {
        let dir = tempfile::tempdir().unwrap();
        let zone = "sys/class/thermal/thermal_zone1";
        plant(
            dir.path(),
            &[
                ("sys/class/thermal/thermal_zone0/type", "acpitz"),
                ("sys/class/thermal/thermal_zone0/temp", "27800"),
                (&format!("{zone}/type"), "x86_pkg_temp"),
                (&format!("{zone}/temp"), "58000"),
                ("proc/cpuinfo", "cpu MHz\t\t: 2000.0\nflags: x\n\ncpu MHz\t\t: 2200.5\n"),
            ],
        );
        let reading = Sensors::find(dir.path(), None).read();
        assert_eq!((reading.processor_c, reading.clock_hz), (Some(58.0), Some(2.100_25e9)));
    }
}
