//! The name that the box falls back to where another device has its own.

use std::fs;

use sha2::{Digest, Sha256};

/// `wels-3fa0`: the same after every start, and as good as never the same as another box's. `os-image` makes the same one
/// (`keep-name`). `None` where the machine has no id.
pub(crate) fn unique(own: &str) -> Option<String> {
    let id = fs::read_to_string("/etc/machine-id").ok()?;
    of_machine(own, id.trim_end())
}

/// The id's hash, not its beginning: makers of mainboards give many the same one.
fn of_machine(own: &str, machine_id: &str) -> Option<String> {
    if machine_id.is_empty() {
        return None;
    }
    let hash = Sha256::digest(machine_id.as_bytes());
    Some(format!("{own}-{:02x}{:02x}", hash[0], hash[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_the_shell_makes_of_the_id() {
        // printf 4c4c4544000000000000000000000001 | sha256sum | cut -c1-4
        assert_eq!(of_machine("wels", "4c4c4544000000000000000000000001").as_deref(), Some("wels-4129"));
        assert_eq!(of_machine("wels", ""), None);
    }
}
