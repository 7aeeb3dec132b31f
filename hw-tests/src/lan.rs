//! The network that a virtual box is in: the test is everybody else on it. Frames go over a socket, so it needs no rights.
//!
//! Nobody hands out addresses here, so the box takes one of its own choice, as on a cable between two machines.

mod frame;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::frame::{ARP_REQUEST, Mac};

/// Ourselves.
const MAC: Mac = [2, 0, 0, 0x57, 0x45, 0x4c];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 77);
/// Where everybody on the network hears a question for a name.
const MDNS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const MDNS_MAC: Mac = [1, 0, 0x5e, 0, 0, 251];
const MDNS_PORT: u16 = 5353;
/// The port from which we knock.
const SCAN_PORT: u16 = 40_000;
/// Knocks between two looks for answers.
const SCAN_BATCH: u16 = 128;
const FRAME_MAX: usize = 64 << 10;

/// Frames kept until somebody looks; those that come later are lost, as on any network.
const FRAMES_MAX: usize = 4096;

/// Our end of the cable.
pub(crate) struct Lan {
    socket: UnixDatagram,
    /// Where the box listens.
    to: PathBuf,
    /// What it has sent. A thread takes it off the cable at once: a box that can't send thinks that its adapter hangs.
    frames: Receiver<Vec<u8>>,
}

/// A box that answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neighbour {
    pub(crate) address: Ipv4Addr,
    mac: Mac,
}

impl Lan {
    pub(crate) fn new(socket: UnixDatagram, to: PathBuf) -> Result<Self> {
        let (sender, frames) = sync_channel(FRAMES_MAX);
        let listener = socket.try_clone().context("cannot listen to the network")?;
        listener.set_read_timeout(Some(Duration::from_secs(1)))?;
        std::thread::spawn(move || listen(&listener, &sender));
        Ok(Self { socket, to, frames })
    }

    /// Asks the network who has a name.
    pub(crate) fn who_is(&self, name: &str, limit: Duration) -> Result<Neighbour> {
        let start = Instant::now();
        let question = frame::mdns_question(name)?;
        while start.elapsed() < limit {
            self.send(&frame::udp(MAC, MDNS_MAC, (ADDRESS, MDNS_PORT), (MDNS, MDNS_PORT), &question))?;
            let until = Instant::now() + Duration::from_secs(3);
            while let Some(frame) = self.receive(until)? {
                if let Some(address) = frame::mdns_answer(&frame, name) {
                    let mac = frame::source(&frame).context("a frame has a sender")?;
                    return Ok(Neighbour { address, mac });
                }
            }
        }
        bail!("nobody on the network is {name}; asked for {} s", limit.as_secs())
    }

    /// Knocks at every TCP port.
    pub(crate) fn open_ports(&self, of: Neighbour) -> Result<BTreeSet<u16>> {
        let mut open = BTreeSet::new();
        // Twice: a frame may be lost.
        for _ in 0..2 {
            for port in 1..=u16::MAX {
                self.send(&frame::syn(MAC, of.mac, (ADDRESS, SCAN_PORT), (of.address, port)))?;
                if port % SCAN_BATCH == 0 {
                    self.collect(Instant::now() + Duration::from_millis(1), of, &mut open)?;
                }
            }
            self.collect(Instant::now() + Duration::from_secs(5), of, &mut open)?;
        }
        Ok(open)
    }

    fn collect(&self, until: Instant, of: Neighbour, open: &mut BTreeSet<u16>) -> Result<()> {
        while let Some(frame) = self.receive(until)? {
            open.extend(frame::syn_ack(&frame, of.address, SCAN_PORT));
        }
        Ok(())
    }

    /// The next frame until then; a question for our own address is answered on the way.
    fn receive(&self, until: Instant) -> Result<Option<Vec<u8>>> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let bytes = match self.frames.recv_timeout(left) {
                Ok(bytes) => bytes,
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => bail!("the network is gone"),
            };
            match frame::arp(&bytes) {
                Some((ARP_REQUEST, asker, target)) if target == ADDRESS => {
                    self.send(&frame::arp_reply(MAC, ADDRESS, asker))?;
                }
                _ => return Ok(Some(bytes)),
            }
        }
    }

    fn send(&self, frame: &[u8]) -> Result<()> {
        self.socket.send_to(frame, &self.to).context("the box's end of the cable is gone")?;
        Ok(())
    }
}

/// Takes frames off the cable until nobody wants them.
fn listen(socket: &UnixDatagram, frames: &SyncSender<Vec<u8>>) {
    let mut bytes = vec![0; FRAME_MAX];
    loop {
        let frame = match socket.recv(&mut bytes) {
            Ok(n) => bytes[..n].to_vec(),
            // Nothing came: look whether anybody is there.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Vec::new(),
            Err(_) => return,
        };
        if let Err(TrySendError::Disconnected(_)) = frames.try_send(frame) {
            return;
        }
    }
}
