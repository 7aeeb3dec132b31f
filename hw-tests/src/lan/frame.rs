//! Frames, written and read byte by byte: Ethernet, ARP, IPv4, UDP, TCP, and a question for a name.
//!
//! ```text
//! Ethernet: to 6 | from 6 | type 2     IPv4 at 14, without options: 20 bytes     UDP 8, TCP 20, ARP 28
//! ```
//!
//! What comes from the box is untrusted: every read may find nothing there.

use std::net::Ipv4Addr;

use anyhow::{Result, bail};

pub(super) type Mac = [u8; 6];
/// An address and a port.
pub(super) type End = (Ipv4Addr, u16);

pub(super) const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;
const ETHERNET: usize = 14;
const IP: usize = ETHERNET + 20;
const TYPE_IP: u16 = 0x0800;
const TYPE_ARP: u16 = 0x0806;
const UDP: u8 = 17;
const TCP: u8 = 6;
const SYN: u8 = 2;
const SYN_ACK: u8 = 0x12;
/// A DNS record that holds an IPv4 address.
const RECORD_A: u16 = 1;
const DNS_HEADER: usize = 12;
/// Longest name of a host.
const LABEL_MAX: usize = 63;

fn ethernet(from: Mac, to: Mac, kind: u16, content: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), content].concat()
}

fn ip(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, content: &[u8]) -> Vec<u8> {
    let length = (20 + content.len()) as u16;
    let mut head = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 255, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    head[2..4].copy_from_slice(&length.to_be_bytes());
    head[12..16].copy_from_slice(&from.octets());
    head[16..20].copy_from_slice(&to.octets());
    let sum = checksum(&head);
    head[10..12].copy_from_slice(&sum.to_be_bytes());
    [&head[..], content].concat()
}

/// The internet checksum: words summed with their carries, inverted.
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The checksum of TCP and UDP covers the addresses, too.
fn with_addresses(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, content: &[u8]) -> u16 {
    let length = (content.len() as u16).to_be_bytes();
    checksum(&[&from.octets()[..], &to.octets(), &[0, protocol], &length, content].concat())
}

/// A datagram.
pub(super) fn udp(mac: Mac, to_mac: Mac, from: End, to: End, content: &[u8]) -> Vec<u8> {
    let length = (8 + content.len()) as u16;
    let mut all =
        [&from.1.to_be_bytes()[..], &to.1.to_be_bytes(), &length.to_be_bytes(), &[0, 0], content].concat();
    let sum = with_addresses(from.0, to.0, UDP, &all);
    all[6..8].copy_from_slice(&sum.to_be_bytes());
    ethernet(mac, to_mac, TYPE_IP, &ip(from.0, to.0, UDP, &all))
}

/// A knock at a port.
pub(super) fn syn(mac: Mac, to_mac: Mac, from: End, to: End) -> Vec<u8> {
    let mut all = [0u8; 20];
    all[0..2].copy_from_slice(&from.1.to_be_bytes());
    all[2..4].copy_from_slice(&to.1.to_be_bytes());
    all[4..8].copy_from_slice(&u32::from(to.1).to_be_bytes());
    all[12..16].copy_from_slice(&[5 << 4, SYN, 0x40, 0]);
    let sum = with_addresses(from.0, to.0, TCP, &all);
    all[16..18].copy_from_slice(&sum.to_be_bytes());
    ethernet(mac, to_mac, TYPE_IP, &ip(from.0, to.0, TCP, &all))
}

/// The port of `from` that let our knock in.
pub(super) fn syn_ack(frame: &[u8], from: Ipv4Addr, to_port: u16) -> Option<u16> {
    let content = ip_content(frame, TCP)?;
    let is_ours = address(frame, 26)? == from && u16_at(content, 2)? == to_port;
    (is_ours && content.get(13)? & SYN_ACK == SYN_ACK).then(|| u16_at(content, 0))?
}

/// Operation, who asks, and whom for.
pub(super) fn arp(frame: &[u8]) -> Option<(u16, (Mac, Ipv4Addr), Ipv4Addr)> {
    if u16_at(frame, 12)? != TYPE_ARP {
        return None;
    }
    let mac = frame.get(22..28)?.try_into().ok()?;
    Some((u16_at(frame, 20)?, (mac, address(frame, 28)?), address(frame, 38)?))
}

/// "It is me."
pub(super) fn arp_reply(mac: Mac, own: Ipv4Addr, (to_mac, to): (Mac, Ipv4Addr)) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4];
    let all = [&head[..], &ARP_REPLY.to_be_bytes(), &mac, &own.octets(), &to_mac, &to.octets()].concat();
    ethernet(mac, to_mac, TYPE_ARP, &all)
}

/// Who sent it.
pub(super) fn source(frame: &[u8]) -> Option<Mac> {
    frame.get(6..12)?.try_into().ok()
}

/// Who has `name`?
pub(super) fn mdns_question(name: &str) -> Result<Vec<u8>> {
    let mut question = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    question.extend(encoded(name)?);
    question.extend([0, RECORD_A as u8, 0, 1]);
    Ok(question)
}

/// `wels.local` as DNS writes it: each label after its length, then nothing.
fn encoded(name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        if label.is_empty() || label.len() > LABEL_MAX {
            bail!("{name} is no name of a host");
        }
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    Ok(bytes)
}

/// The address that an answer gives `name`. The box writes names in full where it first uses them, which is all that is looked for.
pub(super) fn mdns_answer(frame: &[u8], name: &str) -> Option<Ipv4Addr> {
    let dns = ip_content(frame, UDP)?.get(8..)?;
    let is_answer = dns.get(2)? & 0x80 != 0;
    let head = [&encoded(name).ok()?[..], &RECORD_A.to_be_bytes()].concat();
    let at =
        dns.get(DNS_HEADER..)?.windows(head.len()).position(|bytes| bytes.eq_ignore_ascii_case(&head))?;
    // Class, time to live, length; then the address.
    is_answer.then(|| address(dns, DNS_HEADER + at + head.len() + 8))?
}

fn ip_content(frame: &[u8], protocol: u8) -> Option<&[u8]> {
    let is_wanted = u16_at(frame, 12)? == TYPE_IP && *frame.get(14)? == 0x45 && *frame.get(23)? == protocol;
    is_wanted.then(|| frame.get(IP..))?
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(Ipv4Addr::from(four))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = [2, 0, 0, 0, 0, 1];
    const B: Mac = [2, 0, 0, 0, 0, 2];
    const TEN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const ELEVEN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // The example of RFC 1071, section 3.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        let frame = syn(A, B, (TEN, 4000), (ELEVEN, 80));
        assert_eq!(checksum(&frame[ETHERNET..IP]), 0, "a header with its checksum sums to nothing");
    }

    #[test]
    fn a_door_that_opens_is_seen_and_a_closed_one_is_not() {
        let mut answer = syn(B, A, (ELEVEN, 80), (TEN, 4000));
        assert_eq!(syn_ack(&answer, ELEVEN, 4000), None);
        answer[IP + 13] = SYN_ACK;
        assert_eq!(syn_ack(&answer, ELEVEN, 4000), Some(80));
        assert_eq!(syn_ack(&answer, ELEVEN, 4001), None);
        answer[IP + 13] = 0x14;
        assert_eq!(syn_ack(&answer, ELEVEN, 4000), None, "reset");
    }

    #[test]
    fn an_answer_gives_the_address_of_the_name_asked_for() {
        let mut dns = mdns_question("wels.local").unwrap();
        dns[2] = 0x84;
        dns.truncate(dns.len() - 4);
        dns.extend([0, 1, 0x80, 1, 0, 0, 0, 120, 0, 4, 169, 254, 3, 4]);
        let frame = udp(B, A, (ELEVEN, 5353), (TEN, 5353), &dns);
        assert_eq!(mdns_answer(&frame, "Wels.local"), Some(Ipv4Addr::new(169, 254, 3, 4)));
        assert_eq!(mdns_answer(&frame, "other.local"), None);
        for cut in 0..frame.len() {
            assert_eq!(mdns_answer(&frame[..cut], "wels.local"), None, "cut at {cut}");
        }
    }

    #[test]
    fn who_asks_for_us_is_answered() {
        let mut question = arp_reply(A, TEN, (B, ELEVEN));
        question[21] = 1;
        assert_eq!(arp(&question), Some((ARP_REQUEST, (A, TEN), ELEVEN)));
        let answer = arp_reply(B, ELEVEN, (A, TEN));
        assert_eq!(arp(&answer), Some((ARP_REPLY, (B, ELEVEN), TEN)));
        assert_eq!(arp(&answer[..40]), None);
    }
}
