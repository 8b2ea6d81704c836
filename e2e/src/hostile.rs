//! Frames that no stack sends: truncated, with lengths that lie, tagged, from stations that are elsewhere. Made from a seed, so
//! that each run sends the same.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::forged::{self, BROADCAST, Mac};
use crate::raw::RawSocket;

/// Frames sent in a row.
const BURST: u32 = 32;
/// Frames a second: several times what honest hosts of such a lab send, and less than fills the queue of a device.
const RATE: u32 = 8_000;

/// Whoever sends them, on a network outside.
pub struct Hostile {
    socket: RawSocket,
    random: Random,
    own: Mac,
    own_address: Ipv4Addr,
    /// The MAC that the frames are for: the uplink's, or a member's.
    target: Mac,
    /// An address of a member, and its MAC.
    member: (Ipv4Addr, Mac),
}

impl Hostile {
    /// One that sends by a socket, whose own addresses are these; `member` is the address of a member inside, and its MAC.
    #[must_use]
    pub fn new(
        socket: RawSocket,
        own: (Ipv4Addr, Mac),
        target: Mac,
        member: (Ipv4Addr, Mac),
        seed: u64,
    ) -> Self {
        Self { socket, random: Random(seed), own: own.1, own_address: own.0, target, member }
    }

    /// Sends `count` frames which spoil nothing at the switches of the network outside: their sources are its own MAC or
    /// nobody's.
    ///
    /// # Errors
    /// When the interface takes none.
    pub fn send(&mut self, count: u32) -> Result<()> {
        self.send_paced(count, Self::odd)
    }

    /// Sends `count` frames that pretend to come from the uplink itself or from a member, as a loop would bring them. They draw
    /// what is for those to the sender, for a moment, which no uplink can help.
    ///
    /// # Errors
    /// When the interface takes none.
    pub fn send_looped(&mut self, count: u32) -> Result<()> {
        self.send_paced(count, |hostile| {
            let from = if hostile.random.below(2) == 0 { hostile.target } else { hostile.member.1 };
            let to = if hostile.random.below(2) == 0 { BROADCAST } else { hostile.target };
            let payload = hostile.random.octets(60);
            let addresses = (hostile.own_address.into(), hostile.member.0.into());
            forged::datagram(to, from, addresses, (5, 5), &payload)
        })
    }

    fn send_paced(&mut self, count: u32, frame: impl Fn(&mut Self) -> Vec<u8>) -> Result<()> {
        let start = Instant::now();
        for sent in 0..count {
            if sent % BURST == 0 {
                let due = Duration::from_secs(1) * sent / RATE;
                while let Some(early) = due.checked_sub(start.elapsed()).filter(|early| !early.is_zero()) {
                    std::thread::park_timeout(early);
                }
            }
            let frame = frame(self);
            self.socket.send(&frame)?;
        }
        Ok(())
    }

    fn odd(&mut self) -> Vec<u8> {
        let member = self.member.0;
        match self.random.below(16) {
            // A header and noise.
            0 => self.noise(&[0x08, 0x00]),
            1 => self.noise(&[0x86, 0xdd]),
            2 => self.noise(&[0x08, 0x06]),
            3 => {
                let kind = self.random.octets(2);
                self.noise(&kind)
            }
            // A tag, or two, and noise.
            4 => self.noise(&[0x81, 0x00, 0x00, 0x64, 0x08, 0x00]),
            5 => self.noise(&[0x88, 0xa8, 0x00, 0x01, 0x81, 0x00, 0x00, 0x64, 0x08, 0x06]),
            // What is sound, cut off anywhere behind the Ethernet header.
            6 => self.cut(|hostile| hostile.resolution()),
            7 => self.cut(|hostile| hostile.datagram()),
            // Lengths that lie.
            8 => {
                let mut frame = self.datagram();
                let lie = self.random.octets(2);
                let at = if frame[12] == 0x08 { 16 } else { 18 };
                frame[at..at + 2].copy_from_slice(&lie);
                frame
            }
            // Addresses of a member, as if they were outside; for the uplink alone, or neighbours would believe it.
            9 => forged::arp_reply(self.target, self.own, self.own, member, member),
            10 => {
                let addresses = (member.into(), member.into());
                let payload = self.random.octets(20);
                forged::datagram(self.target, self.own, addresses, (7, 7), &payload)
            }
            // Sound questions, more than anybody has.
            _ => self.resolution(),
        }
    }

    /// Noise behind an Ethernet header that ends like this.
    fn noise(&mut self, kind: &[u8]) -> Vec<u8> {
        let len = self.random.below(200) as usize;
        let noise = self.random.octets(len);
        let source = self.source();
        [&self.target[..], &source, kind, &noise].concat()
    }

    /// Its own MAC, or one that nobody has.
    fn source(&mut self) -> Mac {
        let mut mac = self.own;
        if self.random.below(8) == 0 {
            mac.copy_from_slice(&self.random.octets(6));
            mac[0] = 0x06;
        }
        mac
    }

    fn resolution(&mut self) -> Vec<u8> {
        let [_, _, _, last] = self.member.0.octets();
        let target = Ipv4Addr::new(10, 1, 0, last.wrapping_add(self.random.below(4) as u8));
        forged::arp_request(self.own, self.own_address, target)
    }

    fn datagram(&mut self) -> Vec<u8> {
        let payload = self.random.octets(100);
        let addresses = (self.own_address.into(), self.member.0.into());
        forged::datagram(self.target, self.own, addresses, (9, 9), &payload)
    }

    fn cut(&mut self, frame: impl Fn(&mut Self) -> Vec<u8>) -> Vec<u8> {
        let mut frame = frame(self);
        let len = 14 + self.random.below(frame.len() as u32 - 14) as usize;
        frame.truncate(len);
        frame
    }
}

/// xorshift64* (Marsaglia 2003; Vigna 2016, 10.1145/2845077).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u32) -> u32 {
        (self.next() >> 32) as u32 % end
    }

    fn octets(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 56) as u8).collect()
    }
}
