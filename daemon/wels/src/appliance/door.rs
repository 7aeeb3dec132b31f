//! The stick's door: how `wels stick`, which may open devices and mount, hands an opened stick to the daemon, which may not.
//!
//! ```text
//! wels stick                        daemon
//!   Hello + descriptor  ──────────>
//!                       <──────────  Order: writable, read-only
//!   Answer + descriptor ──────────>
//!          (either hangs up: the stick is gone, or the daemon)
//! ```
//!
//! A message is a line of JSON, at most one descriptor beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The socket's name in the daemon's runtime folder.
pub(crate) const SOCKET: &str = "stick.sock";
/// Bytes of a message.
const MESSAGE_BYTES_MAX: usize = 4096;

/// What was plugged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The system's name of it: `sdb1`.
    pub(crate) device: String,
    /// Its own name, where it has one.
    pub(crate) label: String,
    /// Its size.
    pub(crate) bytes: u64,
    /// What the descriptor is.
    pub(crate) kind: Kind,
}

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A device or file that holds a bundle as its bytes.
    Image,
    /// The root of a file system.
    Folder,
}

/// What the daemon wants of a stick with a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Order {
    /// To write to it.
    Writable,
    /// Never mind; all is written.
    ReadOnly,
}

/// The answer to an order; where it was followed, a new descriptor comes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Why not.
    pub(crate) error: Option<String>,
}

/// Sends a message, and a descriptor beside it.
pub(crate) fn send(
    socket: &UnixStream,
    message: &impl Serialize,
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let descriptors: Vec<_> = descriptor.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        beside.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let sent = sendmsg(socket, &[IoSlice::new(&line)], &mut beside, SendFlags::NOSIGNAL)?;
    // So small a message goes as a whole.
    if sent == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives a message, and the descriptor beside it.
///
/// # Errors
/// The other end hung up, or said what is no message.
pub(crate) fn receive<T: DeserializeOwned>(socket: &UnixStream) -> io::Result<(T, Option<OwnedFd>)> {
    let (mut line, mut descriptor) = (Vec::new(), None);
    while line.last() != Some(&b'\n') {
        let mut bytes = [0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let message =
            recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
        if message.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for received in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = received {
                descriptor = descriptors.last().or(descriptor);
            }
        }
        line.extend(&bytes[..message.bytes]);
        if line.len() > MESSAGE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message without an end"));
        }
    }
    Ok((serde_json::from_slice(&line)?, descriptor))
}

/// Waits until the other end hangs up.
pub(crate) fn wait_for_hang_up(socket: &UnixStream) {
    use rustix::event::{PollFd, PollFlags, poll};
    loop {
        let mut ends = [PollFd::new(socket, PollFlags::RDHUP)];
        match poll(&mut ends, None) {
            Err(rustix::io::Errno::INTR) => {}
            // Whatever else it says, there is no more to wait for.
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;

    use super::*;

    fn hello() -> Hello {
        Hello { device: "sdb1".into(), label: "STICK".into(), bytes: 7, kind: Kind::Image }
    }

    #[test]
    fn a_message_and_its_file_arrive_together() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"bundle").unwrap();
        send(&ours, &hello(), Some(file.as_fd())).unwrap();
        let (message, descriptor) = receive::<Hello>(&theirs).unwrap();
        assert_eq!(message, hello());
        let mut received = File::from(descriptor.unwrap());
        received.rewind().unwrap();
        let mut text = String::new();
        received.read_to_string(&mut text).unwrap();
        assert_eq!(text, "bundle");
        send(&theirs, &Order::Writable, None).unwrap();
        assert!(matches!(receive::<Order>(&ours), Ok((Order::Writable, None))));
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for bytes in [&b"{}\n"[..], b"nonsense\n", b"", &[b'x'; 3 * MESSAGE_BYTES_MAX]] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(bytes).unwrap();
            drop(ours);
            assert!(receive::<Hello>(&theirs).is_err(), "{}", bytes.len());
        }
    }
}
