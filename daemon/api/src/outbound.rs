//! Proof for the page that nothing leaves the box: this process's own connections, as the kernel lists them.

use std::collections::HashSet;
use std::fs;

/// States of a connection in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";
const SYN_SENT: &str = "02";
const LISTEN: &str = "0A";

/// TCP connections that this process opened to somewhere else: those on no port it listens on. `None` where the kernel
/// doesn't tell.
pub(crate) fn connections() -> Option<usize> {
    let own = own_sockets()?;
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let text: String = tables.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    Some(count_outbound(&text, &own))
}

/// Inodes of this process's sockets.
fn own_sockets() -> Option<HashSet<String>> {
    let descriptors = fs::read_dir("/proc/self/fd").ok()?.flatten();
    let links = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    let inode = |link: std::path::PathBuf| {
        let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        Some(inode.to_owned())
    };
    Some(links.filter_map(inode).collect())
}

fn count_outbound(table: &str, own: &HashSet<String>) -> usize {
    let rows = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (*fields.get(1)?, *fields.get(3)?, *fields.get(9)?);
        let (_, port) = local.rsplit_once(':')?;
        own.contains(inode).then_some((port, state))
    });
    let rows: Vec<_> = rows.collect();
    let listening: HashSet<&str> =
        rows.iter().filter(|(_, state)| *state == LISTEN).map(|(port, _)| *port).collect();
    let open = rows.iter().filter(|(_, state)| [ESTABLISHED, SYN_SENT].contains(state));
    open.filter(|(port, _)| !listening.contains(port)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_connection_to_elsewhere_is_counted_and_a_guest_is_not() {
        let table = "
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 11 1
            1: 0100007F:1F90 0100007F:C000 01 00000000:00000000 00:00000000 00000000 0 0 12 1
            2: 0100007F:C001 08080808:01BB 01 00000000:00000000 00:00000000 00000000 0 0 13 1
            3: 0100007F:C002 08080808:01BB 02 00000000:00000000 00:00000000 00000000 0 0 99 1";
        let own = ["11", "12", "13"].map(str::to_owned).into();
        assert_eq!(count_outbound(table, &own), 1);
    }

    #[test]
    fn the_kernel_tells() {
        let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
        let before = connections().unwrap();
        let dialled = TcpStream::connect(elsewhere.local_addr().unwrap()).unwrap();
        assert!(connections().unwrap() > before);
        drop((dialled, elsewhere));
    }
}
