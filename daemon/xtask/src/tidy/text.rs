//! Rules of every text file: no package index by its host, no path of somebody's own machine.

use super::{Finding, Source};

/// Package managers know where their packages come from; a name here would go round a machine's mirror.
/// Cut in two, so that this file keeps its own rule.
const INDEX_HOSTS: &[&str] = &[
    concat!("registry.", "npmjs.org"),
    concat!("files.", "pythonhosted.org"),
    concat!("pypi.", "org"),
    concat!("static.", "crates.io"),
    concat!("index.", "crates.io"),
    concat!("deb.", "debian.org"),
];
/// The beginnings of paths that exist on one machine only.
const OWN_PATHS: &[&str] =
    &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];
/// Data made elsewhere: what is in it is not ours to write.
const DATA: &str = "daemon/fixtures";

pub(super) fn check(source: &Source) -> Vec<Finding> {
    if source.path.starts_with(DATA) {
        return Vec::new();
    }
    let lines = source.text.lines().zip(1..);
    let found = lines.flat_map(|(line, number)| {
        check_line(line).map(move |what| Finding::error(&source.path, number, what))
    });
    found.collect()
}

fn check_line(line: &str) -> impl Iterator<Item = String> {
    let hosts = INDEX_HOSTS.iter().filter(|host| line.contains(*host));
    let hosts = hosts
        .map(|host| format!("names the package index {host}: leave that to the package manager's settings"));
    let paths = OWN_PATHS.iter().filter(|path| holds_path(line, path));
    let paths = paths.map(|path| format!("names a path below {path}, which exists on one machine only"));
    hosts.chain(paths)
}

/// Whether an absolute path begins with `path`: what stands before it does not belong to a longer path.
fn holds_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|char| char.is_alphanumeric() || "._-/}>$*".contains(char))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_one_machine_are_found() {
        assert_eq!(check_line(concat!("cd /ho", "me/ada/wels")).count(), 1);
        assert_eq!(check_line(concat!("see \"/wo", "rk/notes\"")).count(), 1);
    }

    #[test]
    fn the_same_words_inside_another_path_are_not() {
        assert_eq!(check_line(concat!("https://example.com/ho", "me/ada")).count(), 0);
        assert_eq!(check_line(concat!("$DIR/wo", "rk/notes")).count(), 0);
    }

    #[test]
    fn hosts_are_found_anywhere() {
        assert_eq!(check_line(concat!("https://pypi.", "org/simple")).count(), 1);
    }
}
