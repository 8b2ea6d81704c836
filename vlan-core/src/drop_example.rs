//! The last frame that was dropped for each reason, without its payload: what an administrator looks at first.

use alloc::vec::Vec;

use crate::capture::Headers;
use crate::drop_reason::DropReason;
use crate::time::Instant;

/// Examples that are kept at one node or control node: each reason at two or three interfaces; further ones are not noted.
pub const EXAMPLES_MAX: usize = 64;
/// Octets of headers that are kept of a frame: Ethernet with two tags, IPv6, and TCP with all its options.
pub const EXAMPLE_HEADERS_MAX: usize = 122;

/// A frame that was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropExample {
    /// Where: number of an interface at a node, place of a LAN at a control node.
    pub place: u16,
    /// Why.
    pub reason: DropReason,
    /// When.
    pub at: Instant,
    /// Octets that the frame had.
    pub frame_len: usize,
    /// Its headers.
    pub headers: Vec<u8>,
}

/// The last example for each place and reason.
#[derive(Debug, Default)]
pub struct DropExamples(Vec<DropExample>);

impl DropExamples {
    /// Notes a dropped frame of `frame_len` octets that begins with `head`.
    //= spec/driver.md#examples-of-drops
    //# An example of a dropped frame MUST hold its headers only, and no octet of what they carry.
    #[cold]
    pub fn note(&mut self, at: Instant, place: u16, reason: DropReason, head: &[u8], frame_len: usize) {
        let len = Headers::parse(head, frame_len).map_or(0, |headers| headers.headers_len);
        let headers = &head[..len.min(EXAMPLE_HEADERS_MAX)];
        let is_it = |known: &DropExample| (known.place, known.reason) == (place, reason);
        let known = self.0.iter().position(is_it);
        if known.is_none() && self.0.len() < EXAMPLES_MAX {
            self.0.push(DropExample { place, reason, at, frame_len, headers: headers.to_vec() });
        } else if let Some(known) = known.map(|known| &mut self.0[known]) {
            (known.at, known.frame_len) = (at, frame_len);
            known.headers.clear();
            known.headers.extend_from_slice(headers);
        }
    }

    /// Every example.
    pub fn iter(&self) -> impl Iterator<Item = &DropExample> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn udp(payload: &[u8]) -> Vec<u8> {
        let mut frame = [[2; 12].as_slice(), &[8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]].concat();
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2, 0, 53, 0, 80, 0, 8, 0, 0]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn an_example_ends_where_the_payload_begins() {
        //= spec/driver.md#examples-of-drops
        //= type=test
        //# An example of a dropped frame MUST hold its headers only, and no octet of what they carry.
        let secret = [0x5a; 40];
        let mut tcp = udp(&[]);
        (tcp[23], tcp[46 - 12]) = (6, 0);
        tcp.truncate(34);
        tcp.extend([0, 53, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x60, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]);
        let other = [[2; 12].as_slice(), &[0x88, 0xb6]].concat();
        let mut ipv6 = [[2; 12].as_slice(), &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 58, 64], &[1; 32]].concat();
        ipv6.extend([128, 0, 0, 0, 0, 1, 0, 1]);
        for (headers, len) in [(udp(&[]), 42), (tcp, 58), (other, 14), (ipv6, 62)] {
            let mut examples = DropExamples::default();
            let frame = [&headers[..], &secret].concat();
            examples.note(Instant::ZERO, 1, DropReason::TooLong, &frame, frame.len());
            let example = examples.iter().next().unwrap();
            assert_eq!((example.headers.len(), example.headers == headers), (len, true));
        }
        let mut examples = DropExamples::default();
        examples.note(Instant::ZERO, 1, DropReason::TooShort, &secret[..13], 13);
        assert_eq!(examples.iter().next().unwrap().headers, vec![]);
    }

    #[test]
    fn the_last_frame_stands_for_its_place_and_reason_and_there_are_so_many() {
        let mut examples = DropExamples::default();
        for place in 0..EXAMPLES_MAX as u16 + 5 {
            for (at, len) in [(1, 100), (2, 200)] {
                examples.note(Instant::from_nanos(at), place, DropReason::TooLong, &udp(&[1; 9]), len);
            }
        }
        assert_eq!(examples.iter().count(), EXAMPLES_MAX);
        assert!(
            examples.iter().all(|example| example.frame_len == 200 && example.at == Instant::from_nanos(2))
        );
    }
}
