//! What QEMU is started with.

use super::{Machine, shell};

const MEMORY_MIB: &str = "3072";
/// Where the firmware lies in the tools tree.
const FIRMWARE: &str = "usr/share/OVMF/OVMF_CODE_4M.fd";
/// The box starts slowly here; a person's would not.
const KERNEL_WORDS: &str = "systemd.default_device_timeout_sec=900";
/// No NVMe: a box with such a drive can't be snapshot. The id is what the box makes its second name from.
const DEVICES: &str = "-device virtio-blk-pci,drive=disk,bootindex=0 -device qemu-xhci,id=usb \
    -device virtio-net-pci,netdev=office,romfile= -device virtio-net-pci,netdev=lan,romfile= \
    -device i6300esb -action watchdog=reset -device virtio-rng-pci -uuid 5f1b3f0e-7f0c-4c3b-9a53-57454c530001";

/// The log of the units that matter, on the console as it is written. It comes with the virtual machine, not with the image.
const LOG: (&str, &str) = (
    "wels-log",
    "[Unit]\nDefaultDependencies=no\nAfter=systemd-journald.service\n[Service]\nRestart=always\nStandardOutput=tty\nTTYPath=/dev/ttyS0\n\
    ExecStart=/usr/bin/journalctl --no-pager --follow --output=cat --unit=wels*\n",
);

pub(super) fn of(machine: &Machine) -> Vec<String> {
    let share = |name: &str| machine.tools.path(&format!("usr/share/{name}")).display().to_string();
    let mut all = words(
        "-machine q35 -accel tcg,thread=multi -cpu max -smp 2 -display none -no-user-config -nodefaults",
    );
    let mut option = |name: &str, value: String| all.extend([name.to_owned(), value]);
    option("-L", share("qemu"));
    option("-L", share("seabios"));
    option("-m", MEMORY_MIB.to_owned());
    option("-serial", format!("file:{}", machine.file("console")));
    option("-serial", format!("unix:{},server=on,wait=off", machine.file("shell")));
    option("-qmp", format!("unix:{},server=on,wait=off", machine.file("qmp")));
    let firmware = machine.tools.path(FIRMWARE).display().to_string();
    option("-drive", format!("if=pflash,format=raw,unit=0,readonly=on,file={firmware}"));
    option("-drive", format!("if=pflash,format=qcow2,unit=1,file={}", machine.file("vars.qcow2")));
    option(
        "-drive",
        format!("if=none,id=disk,format=qcow2,file={},discard=unmap", machine.file("disk.qcow2")),
    );
    option("-netdev", format!("user,id=office,restrict=on,hostfwd=tcp:127.0.0.1:{}-:80", machine.port));
    let (ours, theirs) = (machine.file("lan.test"), machine.file("lan.box"));
    option(
        "-netdev",
        format!("dgram,id=lan,local.type=unix,local.path={theirs},remote.type=unix,remote.path={ours}"),
    );
    let mut kernel = KERNEL_WORDS.to_owned();
    for (name, unit) in [LOG, shell::UNIT] {
        kernel += &format!(" systemd.wants={name}.service");
        let credential = format!("io.systemd.credential.binary:systemd.extra-unit.{name}.service");
        option("-smbios", format!("type=11,value={credential}={}", base64(unit.as_bytes())));
    }
    option("-smbios", format!("type=11,value=io.systemd.stub.kernel-cmdline-extra={kernel}"));
    all.extend(words(DEVICES));
    all
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Base64 of a few hundred bytes.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |six: u32| char::from(LETTERS[(six & 63) as usize]);
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let three =
            chunk.iter().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for idx in 0..4 {
            text.push(if idx <= chunk.len() { letter(three >> (18 - 6 * idx)) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_what_everybody_writes() {
        let known = [("", ""), ("f", "Zg=="), ("foo", "Zm9v"), ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy")];
        for (text, want) in known {
            assert_eq!(base64(text.as_bytes()), want);
        }
    }
}
