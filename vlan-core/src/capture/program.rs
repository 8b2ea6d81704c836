//! A filter as it travels and runs: tests and their connectives, in postfix order.
//!
//! One octet says what stands there, its operand follows, little-endian but for addresses. A program is checked once;
//! after that it cannot fail on any frame.

use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::MacAddress;
use crate::capture::headers::Headers;

/// Octets of a program at most: some 50 addresses.
pub const FILTER_OCTETS_MAX: usize = 1024;
/// Results that may wait for their connective: one bit each.
pub const FILTER_STACK_MAX: usize = 32;

/// Which end of a frame a test is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Side {
    /// Its source.
    Source = 1,
    /// Its destination.
    Destination = 2,
    /// Either.
    Either = 3,
}

/// One question about a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// Is this the EtherType, behind 802.1Q tags?
    EtherType(u16),
    /// Is this an Ethernet address of it?
    Mac(Side, MacAddress),
    /// Does an IP address of it, or of its ARP message, begin with so many bits of this one?
    Host(Side, IpAddr, u8),
    /// Is this the protocol of its IP packet?
    Protocol(u8),
    /// Is this a port of its TCP, UDP or SCTP?
    Port(Side, u16),
    /// Does it go to a group, broadcast included?
    Group,
    /// Does it go to everybody?
    Broadcast,
    /// Has it so many octets at most?
    Less(u32),
    /// Has it so many octets at least?
    Greater(u32),
    /// Is it no frame at all, but a control message of an RVI?
    Control,
}

/// A step of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Ask(Test),
    Not,
    And,
    Or,
}

/// Why octets are no program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FilterError {
    /// It is longer than [`FILTER_OCTETS_MAX`].
    TooLong {
        /// Its octets.
        len: usize,
    },
    /// It needs more than [`FILTER_STACK_MAX`] results at once.
    TooDeep,
    /// A step that is none, or whose operand is not there.
    BadStep {
        /// Where it stands.
        at: usize,
    },
    /// A connective without enough results, or results without one.
    Unbalanced,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len } => {
                write!(f, "a filter of {len} octets; {FILTER_OCTETS_MAX} are the most")
            }
            Self::TooDeep => write!(f, "a filter with more than {FILTER_STACK_MAX} open terms"),
            Self::BadStep { at } => write!(f, "octet {at} of a filter is no step"),
            Self::Unbalanced => f.write_str("a filter whose terms are not all joined"),
        }
    }
}

impl core::error::Error for FilterError {}

/// A checked program; without steps it keeps everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    steps: Vec<Step>,
}

impl Filter {
    /// Reads and checks a program.
    ///
    /// # Errors
    /// When the octets are none.
    //= spec/capture.md#filter-programs
    //# A node MUST check a filter program before it runs it: its length, each step and its operand, and that as many as 32
    //# results and at least one are there at each step and exactly one at the end.
    pub fn parse(program: &[u8]) -> Result<Self, FilterError> {
        if program.len() > FILTER_OCTETS_MAX {
            return Err(FilterError::TooLong { len: program.len() });
        }
        let (mut steps, mut rest) = (Vec::new(), program);
        while !rest.is_empty() {
            let at = program.len() - rest.len();
            let (step, len) = parse_step(rest).ok_or(FilterError::BadStep { at })?;
            steps.push(step);
            rest = &rest[len..];
        }
        Self::from_steps(steps)
    }

    pub(super) fn from_steps(steps: Vec<Step>) -> Result<Self, FilterError> {
        let mut depth = 0_usize;
        for step in &steps {
            let (takes, leaves) = match step {
                Step::Ask(_) => (0, 1),
                Step::Not => (1, 1),
                Step::And | Step::Or => (2, 1),
            };
            depth = depth.checked_sub(takes).ok_or(FilterError::Unbalanced)? + leaves;
            if depth > FILTER_STACK_MAX {
                return Err(FilterError::TooDeep);
            }
        }
        if steps.is_empty() || depth == 1 { Ok(Self { steps }) } else { Err(FilterError::Unbalanced) }
    }

    /// The program's octets.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut program = Vec::new();
        for step in &self.steps {
            emit_step(step, &mut program);
        }
        program
    }

    /// True when it keeps everything without a look.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// True when it keeps what has these headers; a control message has none.
    #[must_use]
    pub fn keeps(&self, headers: Option<&Headers>) -> bool {
        // The lowest bit is the last result; no more than 32 are ever there, as was checked.
        let mut stack = 1_u32;
        for step in &self.steps {
            stack = match step {
                Step::Ask(test) => stack << 1 | u32::from(test.is_true_of(headers)),
                Step::Not => stack ^ 1,
                Step::And => stack >> 1 & !(u32::from(stack & 1 == 0)),
                Step::Or => stack >> 1 | stack & 1,
            };
        }
        stack & 1 == 1
    }
}

impl Test {
    fn is_true_of(&self, headers: Option<&Headers>) -> bool {
        let Some(h) = headers else { return *self == Self::Control };
        match *self {
            Self::EtherType(ethertype) => h.ethertype == ethertype,
            Self::Mac(side, mac) => h.has_mac(side.is_source(), side.is_destination(), mac),
            Self::Host(side, address, prefix) => h.addresses.is_some_and(|(source, destination)| {
                (side.is_source() && is_within(source, address, prefix))
                    || (side.is_destination() && is_within(destination, address, prefix))
            }),
            Self::Protocol(protocol) => h.protocol == Some(protocol),
            Self::Port(side, port) => h.ports.is_some_and(|(source, destination)| {
                (side.is_source() && source == port) || (side.is_destination() && destination == port)
            }),
            Self::Group => h.ethernet.destination.0[0] & 1 == 1,
            Self::Broadcast => h.ethernet.destination.0 == [0xff; 6],
            Self::Less(len) => h.frame_len <= len as usize,
            Self::Greater(len) => h.frame_len >= len as usize,
            Self::Control => false,
        }
    }
}

impl Side {
    const fn is_source(self) -> bool {
        self as u8 & 1 != 0
    }

    const fn is_destination(self) -> bool {
        self as u8 & 2 != 0
    }

    const fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            1 => Some(Self::Source),
            2 => Some(Self::Destination),
            3 => Some(Self::Either),
            _ => None,
        }
    }
}

/// True when the first `prefix` bits of both are equal.
fn is_within(address: IpAddr, net: IpAddr, prefix: u8) -> bool {
    let differs = match (address, net) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            u128::from(one.to_bits() ^ other.to_bits()) << 96 | u128::from(u32::MAX)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits() ^ other.to_bits(),
        _ => return false,
    };
    differs.leading_zeros() >= u32::from(prefix)
}

/// What stands for each step.
mod code {
    pub const AND: u8 = 0x01;
    pub const OR: u8 = 0x02;
    pub const NOT: u8 = 0x03;
    pub const ETHERTYPE: u8 = 0x10;
    pub const MAC: u8 = 0x11;
    pub const HOST4: u8 = 0x12;
    pub const HOST6: u8 = 0x13;
    pub const PROTOCOL: u8 = 0x14;
    pub const PORT: u8 = 0x15;
    pub const GROUP: u8 = 0x16;
    pub const BROADCAST: u8 = 0x17;
    pub const LESS: u8 = 0x18;
    pub const GREATER: u8 = 0x19;
    pub const CONTROL: u8 = 0x1a;
}

fn emit_step(step: &Step, out: &mut Vec<u8>) {
    let test = match step {
        Step::And => return out.push(code::AND),
        Step::Or => return out.push(code::OR),
        Step::Not => return out.push(code::NOT),
        Step::Ask(test) => test,
    };
    match *test {
        Test::EtherType(ethertype) => put(out, code::ETHERTYPE, &[&ethertype.to_le_bytes()]),
        Test::Mac(side, mac) => put(out, code::MAC, &[&[side as u8], &mac.0]),
        Test::Host(side, IpAddr::V4(net), prefix) => {
            put(out, code::HOST4, &[&[side as u8], &net.octets(), &[prefix]]);
        }
        Test::Host(side, IpAddr::V6(net), prefix) => {
            put(out, code::HOST6, &[&[side as u8], &net.octets(), &[prefix]]);
        }
        Test::Protocol(protocol) => put(out, code::PROTOCOL, &[&[protocol]]),
        Test::Port(side, port) => put(out, code::PORT, &[&[side as u8], &port.to_le_bytes()]),
        Test::Group => out.push(code::GROUP),
        Test::Broadcast => out.push(code::BROADCAST),
        Test::Less(len) => put(out, code::LESS, &[&len.to_le_bytes()]),
        Test::Greater(len) => put(out, code::GREATER, &[&len.to_le_bytes()]),
        Test::Control => out.push(code::CONTROL),
    }
}

fn put(out: &mut Vec<u8>, code: u8, operands: &[&[u8]]) {
    out.push(code);
    operands.iter().for_each(|operand| out.extend_from_slice(operand));
}

/// Takes one step from the front; gives it and its octets.
fn parse_step(octets: &[u8]) -> Option<(Step, usize)> {
    let (&code, operand) = octets.split_first()?;
    let u16_at = |at: usize| operand.get(at..)?.first_chunk::<2>().map(|o| u16::from_le_bytes(*o));
    let u32_at = |at: usize| operand.get(at..)?.first_chunk::<4>().map(|o| u32::from_le_bytes(*o));
    let side = || operand.first().copied().and_then(Side::from_octet);
    let prefix = |at: usize, bits: u8| operand.get(at).copied().filter(|prefix| *prefix <= bits);
    let (test, len) = match code {
        code::AND => return Some((Step::And, 1)),
        code::OR => return Some((Step::Or, 1)),
        code::NOT => return Some((Step::Not, 1)),
        code::ETHERTYPE => (Test::EtherType(u16_at(0)?), 2),
        code::MAC => (Test::Mac(side()?, MacAddress(*operand.get(1..)?.first_chunk()?)), 7),
        code::HOST4 => {
            let net: [u8; 4] = *operand.get(1..)?.first_chunk()?;
            (Test::Host(side()?, Ipv4Addr::from(net).into(), prefix(5, 32)?), 6)
        }
        code::HOST6 => {
            let net: [u8; 16] = *operand.get(1..)?.first_chunk()?;
            (Test::Host(side()?, Ipv6Addr::from(net).into(), prefix(17, 128)?), 18)
        }
        code::PROTOCOL => (Test::Protocol(*operand.first()?), 1),
        code::PORT => (Test::Port(side()?, u16_at(1)?), 3),
        code::GROUP => (Test::Group, 0),
        code::BROADCAST => (Test::Broadcast, 0),
        code::LESS => (Test::Less(u32_at(0)?), 4),
        code::GREATER => (Test::Greater(u32_at(0)?), 4),
        code::CONTROL => (Test::Control, 0),
        _ => return None,
    };
    Some((Step::Ask(test), 1 + len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ethernet::EthernetHeader;
    use alloc::vec;

    const MAC: MacAddress = MacAddress([2, 0, 1, 0, 0, 7]);

    fn headers() -> Headers {
        Headers {
            frame_len: 100,
            ethernet: EthernetHeader { destination: MacAddress([0xff; 6]), source: MAC, ethertype: 0x0800 },
            ethertype: 0x0800,
            addresses: Some(([10, 1, 0, 1].into(), [10, 1, 0, 200].into())),
            protocol: Some(17),
            headers_len: 42,
            ports: Some((53, 4000)),
        }
    }

    fn keeps(test: Test) -> bool {
        Filter::from_steps(vec![Step::Ask(test)]).unwrap().keeps(Some(&headers()))
    }

    #[test]
    fn each_test_asks_for_one_thing_on_one_side() {
        use Side::{Destination, Either, Source};
        assert!(keeps(Test::EtherType(0x0800)) && !keeps(Test::EtherType(0x0806)));
        assert!(keeps(Test::Mac(Source, MAC)) && !keeps(Test::Mac(Destination, MAC)));
        let host = |side, last, prefix| keeps(Test::Host(side, [10, 1, 0, last].into(), prefix));
        assert!(host(Either, 200, 32) && !host(Source, 200, 32) && host(Source, 0, 24));
        assert!(!host(Source, 2, 31) && host(Source, 0, 31) && host(Source, 77, 0));
        assert!(!keeps(Test::Host(Either, "::1".parse().unwrap(), 0)), "another family");
        assert!(keeps(Test::Port(Source, 53)) && !keeps(Test::Port(Destination, 53)));
        assert!(keeps(Test::Protocol(17)) && !keeps(Test::Protocol(6)));
        assert!(keeps(Test::Group) && keeps(Test::Broadcast) && !keeps(Test::Control));
        assert!(keeps(Test::Less(100)) && !keeps(Test::Less(99)));
        assert!(keeps(Test::Greater(100)) && !keeps(Test::Greater(101)));
    }

    #[test]
    fn a_control_message_has_nothing_but_that_it_is_one() {
        let filter = |steps| Filter::from_steps(steps).unwrap();
        assert!(filter(vec![Step::Ask(Test::Control)]).keeps(None));
        assert!(!filter(vec![Step::Ask(Test::Less(9999))]).keeps(None));
        assert!(Filter::default().keeps(None) && Filter::default().keeps(Some(&headers())));
    }

    #[test]
    fn connectives_join_the_last_results() {
        let (yes, no) = (Step::Ask(Test::Less(100)), Step::Ask(Test::Less(99)));
        for (one, a) in [(yes, true), (no, false)] {
            for (other, b) in [(yes, true), (no, false)] {
                let join = |step| Filter::from_steps(vec![one, other, step]).unwrap().keeps(Some(&headers()));
                assert_eq!((join(Step::And), join(Step::Or)), (a && b, a || b), "{a} {b}");
            }
            let not = Filter::from_steps(vec![one, Step::Not]).unwrap();
            assert_eq!(not.keeps(Some(&headers())), !a);
        }
    }

    #[test]
    fn programs_read_back_and_what_is_none_is_refused() {
        //= spec/capture.md#filter-programs
        //= type=test
        //# A node MUST check a filter program before it runs it: its length, each step and its operand, and that as many as 32
        //# results and at least one are there at each step and exactly one at the end.
        let tests = [
            Test::EtherType(0x88b5),
            Test::Mac(Side::Either, MAC),
            Test::Host(Side::Source, [10, 0, 0, 0].into(), 8),
            Test::Host(Side::Destination, "fd00::".parse().unwrap(), 128),
            Test::Protocol(58),
            Test::Port(Side::Either, 65_535),
            Test::Group,
            Test::Broadcast,
            Test::Less(1),
            Test::Greater(2),
            Test::Control,
        ];
        let mut steps: Vec<_> = tests.into_iter().map(Step::Ask).collect();
        steps.extend([Step::And; 10]);
        steps.push(Step::Not);
        let filter = Filter::from_steps(steps).unwrap();
        let program = filter.emit();
        assert_eq!(Filter::parse(&program), Ok(filter));
        for len in 1..program.len() - 1 {
            assert!(Filter::parse(&program[..len]).is_err() || len == 3, "{len} octets");
        }
        assert_eq!(Filter::parse(&[0x77]), Err(FilterError::BadStep { at: 0 }));
        assert_eq!(Filter::parse(&[0x16, 0x15, 4, 0, 0]), Err(FilterError::BadStep { at: 1 }));
        assert_eq!(Filter::parse(&[0x12, 3, 10, 0, 0, 0, 33]), Err(FilterError::BadStep { at: 0 }));
        assert_eq!(Filter::parse(&[0x16, 0x01]), Err(FilterError::Unbalanced));
        assert_eq!(Filter::parse(&[0x03]), Err(FilterError::Unbalanced));
        assert_eq!(Filter::parse(&[0x16; 2]), Err(FilterError::Unbalanced));
        assert_eq!(Filter::parse(&[0x16; 33]), Err(FilterError::TooDeep));
        assert_eq!(Filter::parse(&[0x03; 1025]), Err(FilterError::TooLong { len: 1025 }));
        let deepest = [[0x16; 32].as_slice(), &[0x01; 31]].concat();
        assert!(Filter::parse(&deepest).unwrap().keeps(Some(&headers())));
    }
}
