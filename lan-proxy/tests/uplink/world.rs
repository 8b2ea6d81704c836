//! A LAN of three members for tests, and the frames of stacks.

#![allow(dead_code, reason = "each test program uses its part of it")]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use lan_proxy::{Device, Holder, Inside, Inward, LanProxy, Mode, Outward, UplinkConfig, Vid};
use vlan_core::checksum::{pseudo_header, set_word, sum, sum_from, sum_ipv4_header};
use vlan_core::security::Limits;
use vlan_core::server::MemberSlot;
use vlan_core::wire::Vnet;
use vlan_core::{Instant, MacAddress};

pub const SYSTEM: MacAddress = MacAddress([2, 0, 1, 0, 0xff, 1]);
pub const STRANGER: MacAddress = MacAddress([0x52, 0x54, 0, 1, 2, 3]);
pub const MTU: u16 = 1500;
pub const LAN_MTU: u16 = 16_896;
pub const MEMBERS: u16 = 3;

/// What became of a frame from inside: it was sent, or dropped, maybe with an error for its sender.
pub type Verdict = Result<(), Option<Vec<u8>>>;
/// What goes to the device.
pub type Sent = Vec<(Vnet, Vec<u8>)>;

/// Members 1 to 3: 10.1.0.n and fd00:1::n, and one MAC of another LAN of the platform.
pub struct Lan;

pub fn mac(member: u16) -> MacAddress {
    MacAddress([2, 0, 1, 0, 0, member as u8])
}

pub fn other_lan() -> MacAddress {
    MacAddress([2, 0, 1, 0, 7, 1])
}

pub fn v4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, number)
}

pub fn v6(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, number)
}

impl Inside for Lan {
    fn owner_of(&self, address: MacAddress) -> Option<MemberSlot> {
        (1..=MEMBERS).find(|member| mac(*member) == address).map(MemberSlot)
    }

    fn holder_of(&self, address: IpAddr) -> Option<Holder> {
        let number = match address {
            IpAddr::V4(a) => (1..=MEMBERS).find(|n| v4(*n as u8) == a),
            IpAddr::V6(a) => (1..=MEMBERS).find(|n| v6(*n) == a),
        };
        number.map(|number| Holder { slot: MemberSlot(number), mac: mac(number) })
    }

    fn is_own(&self, address: MacAddress) -> bool {
        address == SYSTEM || address == other_lan() || self.owner_of(address).is_some()
    }
}

pub fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(1000) + Duration::from_millis(millis)
}

pub fn config(mode: Mode, vid: Option<u16>) -> UplinkConfig {
    UplinkConfig {
        mode,
        vid: vid.and_then(Vid::new),
        device: Device { mtu: MTU, offloads: false },
        lan_mtu: LAN_MTU,
        limits: Limits::default(),
        seed: 11,
    }
}

pub fn filtered() -> LanProxy {
    LanProxy::new(&config(Mode::Filtered { system: SYSTEM }, None)).unwrap()
}

pub fn unfiltered() -> LanProxy {
    LanProxy::new(&config(Mode::Unfiltered, None)).unwrap()
}

/// What goes outside for a frame, and the verdict; a frame for its sender comes with it.
pub fn out(proxy: &mut LanProxy, vnet: &Vnet, frame: &[u8]) -> (Verdict, Sent) {
    out_at(proxy, at(0), vnet, frame)
}

pub fn out_at(proxy: &mut LanProxy, now: Instant, vnet: &Vnet, frame: &[u8]) -> (Verdict, Sent) {
    let mut sent = Vec::new();
    let verdict =
        match proxy.outward(now, vnet, frame, &Lan, |vnet, frame| sent.push((*vnet, frame.to_vec()))) {
            Outward::Sent => Ok(()),
            Outward::Dropped(_) => Err(None),
            Outward::TooBig(error) => Err(Some(error.to_vec())),
        };
    (verdict, sent)
}

/// The frames that a plain one becomes, which must go outside.
pub fn sent(proxy: &mut LanProxy, frame: &[u8]) -> Vec<u8> {
    let (verdict, mut sent) = out(proxy, &Vnet::default(), frame);
    assert_eq!((verdict, sent.len()), (Ok(()), 1));
    sent.remove(0).1
}

/// What becomes of a plain frame from outside, and the frame as it goes inside.
pub fn take(proxy: &mut LanProxy, frame: &[u8]) -> (Inward, Vec<u8>) {
    let mut octets = frame.to_vec();
    (proxy.inward(at(0), &Vnet::default(), &mut octets, &Lan), octets)
}

/// Which segmentation, and whether the sum is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    Complete,
    Partial,
    Segments(u16),
}

/// One packet of a stack.
#[derive(Clone, Debug)]
pub struct Spec {
    pub to: MacAddress,
    pub from: MacAddress,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub tcp: bool,
    pub df: bool,
    pub sum: Sum,
    pub payload: Vec<u8>,
}

impl Spec {
    /// From member 1 to a station outside, by UDP with DF.
    pub fn new(is_v6: bool, payload_len: usize) -> Self {
        let (source, destination): (IpAddr, IpAddr) = match is_v6 {
            false => (v4(1).into(), v4(200).into()),
            true => (v6(1).into(), v6(200).into()),
        };
        let payload = (0..payload_len).map(|n| (n / 3) as u8).collect();
        Self {
            to: STRANGER,
            from: mac(1),
            source,
            destination,
            tcp: false,
            df: true,
            sum: Sum::Complete,
            payload,
        }
    }

    pub fn build(&self) -> (Vnet, Vec<u8>) {
        let upper_len = self.payload.len() + if self.tcp { 32 } else { 8 };
        let mut o = [self.to.0, self.from.0].concat();
        let protocol = if self.tcp { 6 } else { 17 };
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let [a, b] = ((20 + upper_len) as u16).to_be_bytes();
                let df = if self.df { 0x40 } else { 0 };
                o.extend_from_slice(&[8, 0, 0x45, 0, a, b, 0x12, 0x34, df, 0, 64, protocol, 0, 0]);
                o.extend_from_slice(&source.octets());
                o.extend_from_slice(&destination.octets());
                sum_ipv4_header(&mut o, 14, 20);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let [a, b] = (upper_len as u16).to_be_bytes();
                o.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, a, b, protocol, 64]);
                o.extend_from_slice(&source.octets());
                o.extend_from_slice(&destination.octets());
            }
            _ => panic!("a packet of two families"),
        }
        let upper_at = o.len();
        let addresses_at = if self.source.is_ipv4() { upper_at - 8 } else { upper_at - 32 };
        let start = pseudo_header(&o[addresses_at..], protocol, upper_len);
        o.extend_from_slice(&[0x1f, 0x90, 0x20, 0x01]);
        match self.tcp {
            // SEQ, ACK, 32 octets with a time stamp; FIN, PSH, ACK and CWR.
            true => o.extend_from_slice(&[
                0xff, 0xff, 0xff, 0, 0, 0, 0, 9, 0x80, 0x99, 1, 0, 0, 0, 0, 0, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0,
                0, 2,
            ]),
            false => o.extend_from_slice(&[(upper_len >> 8) as u8, upper_len as u8, 0, 0]),
        }
        o.extend_from_slice(&self.payload);
        let csum_offset = if self.tcp { 16 } else { 6 };
        let check_at = upper_at + csum_offset;
        if self.sum == Sum::Complete {
            let check = !sum_from(start, &o[upper_at..]);
            set_word(&mut o, check_at, check);
            return (Vnet::default(), o);
        }
        // Not complemented: what is summed up so far.
        set_word(&mut o, check_at, sum_from(start, &[]));
        let vnet = Vnet {
            flags: Vnet::NEEDS_CSUM,
            csum_start: upper_at as u16,
            csum_offset: csum_offset as u16,
            ..Vnet::default()
        };
        let Sum::Segments(gso_size) = self.sum else { return (vnet, o) };
        let gso_type = match (self.tcp, self.source.is_ipv4()) {
            (true, true) => 1,
            (true, false) => 4,
            (false, _) => 5,
        };
        let hdr_len = (o.len() - self.payload.len()) as u16;
        (Vnet { gso_type, gso_size, hdr_len, ..vnet }, o)
    }
}

/// True when the octets of a MAC stand anywhere in a frame.
pub fn contains(frame: &[u8], mac: MacAddress) -> bool {
    frame.windows(6).any(|octets| octets == mac.0)
}

/// An ICMPv6 sum that is right.
pub fn icmpv6_is_right(frame: &[u8]) -> bool {
    sum_from(pseudo_header(&frame[22..54], 58, frame.len() - 54), &frame[54..]) == 0xffff
}

/// An IPv4 header and an ICMP message that sum to nothing.
pub fn icmp_is_right(frame: &[u8]) -> bool {
    sum(&frame[14..34]) == 0xffff && sum(&frame[34..]) == 0xffff
}
