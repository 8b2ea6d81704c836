//! A transport whose peer has the keys and says what it likes: any records, ranges, credit and acks.
//!
//! Checked: no panic; an ack of what was never sent is refused; nothing is delivered twice or in excess of what a
//! message may be; memory stays within its bounds; packets end at some time; what is not acknowledged comes back as it
//! was, once and in order.

use std::collections::BTreeMap;

use rvi::packet::wire::{
    ACK_SECTION_LEN_MAX, AckBlock, AckRanges, AckSectionWriter, MESSAGE_RANGES_MAX, PACKET_HEADER_LEN,
    PacketError, PacketFlags, PacketHeader, PacketKind, PacketLeg, RECORD_HEADER_LEN, RecordHeader,
    RecordKind, emit_credit, emit_message_ack,
};
use vlan_core::limits::MESSAGE_LEN_MAX;
use vlan_core::{Channel, Instant};

use crate::packet_end::{CHANNELS, PacketEnd};
use crate::script::Script;

/// Octets of a payload that is put together here.
const PAYLOAD_LEN_MAX: usize = 4096;

struct Run {
    end: PacketEnd,
    /// How many packets were sent by each leg.
    sent: BTreeMap<u8, u64>,
    /// The peer's next packet number on each leg.
    numbers: [u64; PacketLeg::COUNT],
    lends: usize,
    now: Instant,
}

/// Runs the operations in `data`.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let Some(options) = script.octet() else { return };
    let now = Instant::from_nanos(1_000_000_000);
    let end = PacketEnd::new(options & 3);
    let mut run = Run { end, sent: BTreeMap::new(), numbers: [0; PacketLeg::COUNT], lends: 0, now };
    for leg in [0, 1, 14].into_iter().filter_map(PacketLeg::new) {
        run.end.leg_up(now, leg);
    }
    // A peer that breaks a rule ends the session.
    while let Some(Ok(())) = run.step(&mut script) {}
    run.end.poll_messages(0, &mut |_, _, _, _| {});
    run.end.end();
}

impl Run {
    fn step(&mut self, script: &mut Script<'_>) -> Option<Result<(), PacketError>> {
        match script.below(12)? {
            0..2 => self.end.send(script, self.now)?,
            2 => self.transmit(),
            3 => {
                script.advance(&mut self.now)?;
                self.end.handle_timeout(self.now);
            }
            4 => self.lends = usize::from(script.below(8)?),
            5 => self.end.settles ^= true,
            6 => {
                let leg = leg(script)?;
                if script.flag()? {
                    self.end.leg_up(self.now, leg);
                } else {
                    self.end.transport.leg_down(self.now, leg);
                }
            }
            7 => {
                let has_ack = script.flag()?;
                let payload = script.block()?.to_vec();
                return self.arrive(script, has_ack, &payload);
            }
            8 => {
                let payload = self.acks(script)?;
                return self.arrive_acks(script, &payload);
            }
            _ => {
                let payload = records(script)?;
                return self.arrive(script, false, &payload);
            }
        }
        Some(Ok(()))
    }

    fn transmit(&mut self) {
        let sent = &mut self.sent;
        self.end.transmit(self.now, &mut |leg, packet| {
            let header = PacketHeader::parse(packet).expect("our own packet");
            let count = sent.entry(leg.number()).or_default();
            assert_eq!(header.number, *count, "packet numbers follow one another");
            *count += 1;
        });
    }

    /// A packet of the peer's, with a number that is mostly the next one.
    fn header(&mut self, script: &mut Script<'_>, has_ack: bool, len: usize) -> Option<PacketHeader> {
        let (leg, choice) = (leg(script)?, script.octet()?);
        let next = &mut self.numbers[leg.index()];
        let number = if choice < 0xe0 { *next + u64::from(choice & 3) } else { u64::from(choice) };
        *next = (*next).max(number + 1);
        Some(PacketHeader {
            kind: if choice & 0x10 == 0 { PacketKind::Data } else { PacketKind::Probe },
            leg,
            flags: PacketFlags { has_ack, ack_now: choice & 0x08 != 0 },
            dst_cid: 0,
            session: 0,
            number,
            ts_us: u32::from(choice),
            payload_len: len as u16,
            fabric_key: 0,
        })
    }

    fn arrive(
        &mut self,
        script: &mut Script<'_>,
        has_ack: bool,
        payload: &[u8],
    ) -> Option<Result<(), PacketError>> {
        let header = self.header(script, has_ack, payload.len())?;
        assert!(header.packet_len() >= PACKET_HEADER_LEN + payload.len());
        let (end, lends) = (&mut self.end, self.lends);
        let handled = end.transport.handle_packet(self.now, &header, payload, &end.windows);
        end.poll_messages(lends, &mut |channel, mseq, lane, octets| {
            assert!(channel.0 < CHANNELS && lane < 1024 && octets.len() <= MESSAGE_LEN_MAX, "message {mseq}");
        });
        Some(handled)
    }

    fn arrive_acks(&mut self, script: &mut Script<'_>, payload: &[u8]) -> Option<Result<(), PacketError>> {
        let exceeds = self.exceeds(payload);
        let handled = self.arrive(script, true, payload)?;
        assert!(!exceeds || handled.is_err(), "an ack of what was never sent is taken");
        Some(handled)
    }

    /// True when the first block is of a packet that was never sent.
    fn exceeds(&self, payload: &[u8]) -> bool {
        // Behind the section's eight octets and the block's first eight stands the highest number.
        let (Some(&leg), Some(largest)) = (payload.get(8), payload.get(16..24)) else { return false };
        let largest = u64::from_le_bytes(largest.try_into().expect("eight octets"));
        largest >= self.sent.get(&leg).copied().unwrap_or(0)
    }

    /// An ack section about packets that were sent, mostly, and a few that were not.
    fn acks(&self, script: &mut Script<'_>) -> Option<Vec<u8>> {
        let mut octets = vec![0; ACK_SECTION_LEN_MAX];
        let mut section = AckSectionWriter::new(&mut octets);
        for _ in 0..1 + script.below(2)? {
            let leg = leg(script)?;
            let sent = self.sent.get(&leg.number()).copied().unwrap_or(0);
            // One beyond the last, now and then.
            let largest = sent.saturating_sub(u64::from(script.octet()? & 31)).saturating_sub(1)
                + u64::from(script.octet()? == 255);
            let mut ranges = AckRanges::default();
            let mut next = Some(largest);
            for _ in 0..1 + script.below(4)? {
                let (len, gap) = (u64::from(script.octet()? & 7), u64::from(script.octet()? & 7));
                let Some(highest) = next else { break };
                let lowest = highest.saturating_sub(len);
                ranges.push(lowest, highest);
                next = lowest.checked_sub(gap + 2);
            }
            let block = AckBlock {
                leg,
                delay_us: script.u16()?,
                rx_count: script.octet()?.into(),
                largest,
                ts_echo: (self.now.as_nanos() / 1000) as u32 - u32::from(script.octet()?),
                ranges,
            };
            section.push(&block);
        }
        let len = section.finish();
        octets.truncate(len);
        Some(octets)
    }
}

fn leg(script: &mut Script<'_>) -> Option<PacketLeg> {
    PacketLeg::new([0, 1, 14][usize::from(script.below(3)?)])
}

/// A payload of a few records: pieces of messages, credit, message acks.
fn records(script: &mut Script<'_>) -> Option<Vec<u8>> {
    let mut payload = vec![0; PAYLOAD_LEN_MAX];
    let mut len = 0;
    for _ in 0..1 + script.below(4)? {
        let room = &mut payload[len..];
        let channel = Channel(script.below(CHANNELS + 1)?);
        len += match script.below(4)? {
            0 => {
                emit_credit(channel, script.octet()?.into(), script.u16()?.into(), script.u16()?.into(), room)
            }
            1 => {
                let (cum, mut first) = (u32::from(script.octet()?), u32::from(script.octet()?));
                let mut ranges = Vec::new();
                for _ in 0..usize::from(script.below(4)?).min(MESSAGE_RANGES_MAX) {
                    let (step, count) = (script.octet()?, script.octet()?);
                    first += u32::from(step);
                    ranges.push((first, count.into()));
                    first += u32::from(count);
                }
                emit_message_ack(channel, cum, &ranges, room)
            }
            _ => piece(script, channel, room)?,
        };
    }
    payload.truncate(len);
    Some(payload)
}

/// A message or a piece of one; the parser may find that it cannot be.
fn piece(script: &mut Script<'_>, channel: Channel, room: &mut [u8]) -> Option<usize> {
    let (mseq, marks) = (u32::from(script.octet()?), script.octet()?);
    let pieces = u32::from(script.octet()? & 15);
    let frag_len = script.octet()?;
    let header = RecordHeader {
        // Now and then a number that lies far away.
        mseq: if marks & 0x70 == 0x70 { mseq << 8 } else { mseq },
        lane: u16::from(marks & 3),
        kind: RecordKind::Data,
        is_resent: marks & 4 != 0,
        is_after_all: marks & 8 != 0,
        prev: if marks & 0x80 == 0 { 0 } else { u16::from(script.octet()? & 31) },
        frag_len: if pieces == 0 { frag_len.into() } else { 64 },
        frag_off: if pieces == 0 { 0 } else { 64 * (u32::from(frag_len) % pieces) },
        msg_len: if pieces == 0 { frag_len.into() } else { 64 * pieces },
        channel,
    };
    let len = header.record_len();
    let out = room.get_mut(..len)?;
    header.emit(out.first_chunk_mut()?);
    out[RECORD_HEADER_LEN..][..usize::from(header.frag_len)].fill(mseq as u8);
    Some(len)
}

/// Messages both ways with acks, pieces out of order, credit and message acks, acks of what was never sent, raw octets.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let send: &[u8] = &[0, 1, 0, 60, 0, 17, 0, 1, 1, 90, 0, 17, 0, 2, 2, 0, 8, 1, 2];
    let ack: &[u8] = &[8, 0, 0, 0, 0, 0, 7, 0, 10, 0, 2, 5, 0, 0];
    let never: &[u8] = &[8, 0, 0, 0, 255, 0, 7, 0, 10, 0, 2, 5, 0, 0];
    let whole: &[u8] = &[9, 0, 1, 2, 0, 17, 0, 40, 0, 0, 9, 0, 1, 2, 1, 0x91, 0, 40, 1, 0, 0];
    let pieces: &[u8] = &[9, 1, 1, 2, 2, 17, 3, 0, 1, 2, 2, 17, 3, 2, 0, 0, 9, 0, 1, 2, 2, 17, 3, 1, 1, 0];
    let control: &[u8] = &[9, 1, 1, 0, 1, 100, 0, 90, 1, 1, 1, 1, 2, 1, 0, 1, 1, 0, 0];
    let quiet: &[u8] = &[3, 200, 0, 2, 3, 200, 90, 2, 5, 4, 3, 6, 0, 0, 6, 0, 1, 2];
    let raw: &[u8] = &[7, 1, 8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    vec![
        [&[0][..], send, ack, whole, control, ack].concat(),
        [&[1][..], whole, pieces, send, quiet, ack, pieces].concat(),
        [&[3][..], send, ack, never].concat(),
        [&[2][..], send, quiet, control, whole, quiet, send, ack, raw].concat(),
    ]
}
