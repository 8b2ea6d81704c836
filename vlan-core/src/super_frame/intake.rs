//! Step 1 of the walk: frames come in here, each with its vnet header, from a stack or from outside. Datagrams of a flow that were
//! sent one by one become one super-frame, as far as they are there already.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::UdpCoalescer;
use super::sums::{FinishedSum, reopen};
use crate::wire::frame::Vnet;

/// Frames put together at the same time, each of another flow.
const FLOWS_MAX: usize = 8;

/// Room for one frame of [`crate::limits::FRAME_LEN_MAX`], used again for every frame.
pub trait FrameRoom: Default {
    /// The first `len` octets of the frame.
    fn octets(&self, len: usize) -> &[u8];

    /// The same, to be changed.
    fn octets_mut(&mut self, len: usize) -> &mut [u8];

    /// Puts `octets` at place `at` of the frame.
    fn put(&mut self, at: usize, octets: &[u8]);
}

/// A frame that goes on, perhaps put together from several.
#[derive(Debug)]
struct Parcel<R> {
    buffer: R,
    vnet: Vnet,
    /// Octets, the vnet header not counted.
    len: usize,
    /// Frames that were sent, in it.
    frames: usize,
    /// While more may be joined.
    coalescer: Option<UdpCoalescer>,
    /// What the first frame gets back if it stays alone.
    finished: Option<FinishedSum>,
}

/// Where a frame goes that was read.
enum Place {
    /// Into the parcel with this number.
    Joined,
    /// Others may be joined with it.
    First(UdpCoalescer),
    /// It goes by itself, behind all before it and before all behind it.
    Alone,
}

/// What was read of a device and has not gone.
#[derive(Debug, Default)]
pub struct Intake<R> {
    /// In the order in which they began.
    parcels: VecDeque<Parcel<R>>,
    /// Room for frames; the last was used last, and is warm.
    spares: Vec<R>,
    /// The device may have a frame.
    is_readable: bool,
    /// Sums may be finished.
    is_outside: bool,
}

impl<R: FrameRoom> Intake<R> {
    /// One for what comes from outside: sums may be finished already.
    #[must_use]
    pub fn from_outside() -> Self {
        Self { is_outside: true, ..Self::default() }
    }

    /// The device may have a frame.
    #[inline]
    pub fn handle_readable(&mut self) {
        self.is_readable = true;
    }

    /// False once it was asked and had none.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.is_readable
    }

    /// Has frames ready, put together from up to `frames_max` of those that were sent, if there are any now. `read` takes the next one
    /// from the device into a room, and says its state and its octets; nothing when none is there now.
    ///
    /// # Errors
    /// As `read`; what was read before goes all the same.
    //= spec/super-frames.md#joining-waits-for-nothing
    //# A node MUST NOT keep a datagram back for others that its stack has not sent yet, and MUST NOT let a frame of its flow, or one
    //# that is not joined, overtake it.
    #[inline]
    pub fn fill<E>(
        &mut self,
        mut read: impl FnMut(&mut R) -> Result<Option<(Vnet, usize)>, E>,
        frames_max: usize,
    ) -> Result<(), E> {
        if !self.parcels.is_empty() {
            return Ok(());
        }
        let ended = self.collect(&mut read, frames_max);
        for parcel in &mut self.parcels {
            let Some(coalescer) = parcel.coalescer.take() else { continue };
            let frame = parcel.buffer.octets_mut(parcel.len);
            parcel.vnet = match parcel.finished.take() {
                Some(finished) if parcel.frames == 1 => finished.restore(frame),
                _ => coalescer.finish(frame),
            };
        }
        ended
    }

    /// Reads what is there, up to a frame that goes by itself.
    fn collect<E>(
        &mut self,
        read: &mut impl FnMut(&mut R) -> Result<Option<(Vnet, usize)>, E>,
        frames_max: usize,
    ) -> Result<(), E> {
        let mut frames = 0;
        while self.is_readable && frames < frames_max && self.parcels.len() < FLOWS_MAX {
            let mut buffer = self.spares.pop().unwrap_or_default();
            let result = read(&mut buffer);
            let Ok(Some((vnet, len))) = result else {
                self.spares.push(buffer);
                self.is_readable = false;
                return result.map(drop);
            };
            frames += 1;
            let reopened = if self.is_outside { reopen(&vnet, buffer.octets_mut(len)) } else { None };
            let (mut vnet, finished) =
                reopened.map_or((vnet, None), |(open, finished)| (open, Some(finished)));
            let coalescer = match self.place(&vnet, buffer.octets(len)) {
                Place::Joined => {
                    self.spares.push(buffer);
                    continue;
                }
                Place::First(coalescer) => Some(coalescer),
                Place::Alone => None,
            };
            let is_alone = coalescer.is_none();
            if let Some(finished) = finished.filter(|_| is_alone) {
                vnet = finished.restore(buffer.octets_mut(len));
            }
            self.parcels.push_back(Parcel { buffer, vnet, len, frames: 1, coalescer, finished });
            if is_alone {
                break;
            }
        }
        Ok(())
    }

    /// Joins a frame with what is there of its flow, if it goes with that.
    #[inline]
    fn place(&mut self, vnet: &Vnet, frame: &[u8]) -> Place {
        if self.parcels.back_mut().is_some_and(|latest| latest.join(vnet, frame)) {
            return Place::Joined;
        }
        let Some(coalescer) = UdpCoalescer::begin(vnet, frame) else { return Place::Alone };
        let mut latest_first = self.parcels.iter_mut().rev();
        let of_flow = |parcel: &&mut Parcel<R>| coalescer.is_flow_of(frame, parcel.buffer.octets(parcel.len));
        let is_joined = latest_first.find(of_flow).is_some_and(|parcel| parcel.join(vnet, frame));
        if is_joined { Place::Joined } else { Place::First(coalescer) }
    }

    /// The frame that is next.
    #[inline]
    #[must_use]
    pub fn frame(&self) -> Option<(Vnet, &[u8])> {
        self.parcels.front().map(|parcel| (parcel.vnet, parcel.buffer.octets(parcel.len)))
    }

    /// The same, to be changed.
    #[inline]
    pub fn frame_mut(&mut self) -> Option<(Vnet, &mut [u8])> {
        self.parcels.front_mut().map(|parcel| (parcel.vnet, parcel.buffer.octets_mut(parcel.len)))
    }

    /// That frame has gone; says of how many that were sent it was put together.
    #[inline]
    pub fn take(&mut self) -> usize {
        let Some(parcel) = self.parcels.pop_front() else { return 0 };
        self.spares.push(parcel.buffer);
        parcel.frames
    }

    /// A frame waits that could not go.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.parcels.is_empty()
    }
}

impl<R: FrameRoom> Parcel<R> {
    /// Puts the payload of a frame behind what there is, if it carries that on.
    #[inline]
    fn join(&mut self, vnet: &Vnet, frame: &[u8]) -> bool {
        let Some(coalescer) = &mut self.coalescer else { return false };
        let Some(payload) = coalescer.admit(self.buffer.octets(self.len), vnet, frame) else { return false };
        self.buffer.put(self.len, payload);
        self.len = coalescer.len();
        self.frames = coalescer.count();
        true
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    /// Room for short frames.
    #[derive(Default)]
    struct Room(Vec<u8>);

    impl FrameRoom for Room {
        fn octets(&self, len: usize) -> &[u8] {
            &self.0[..len]
        }

        fn octets_mut(&mut self, len: usize) -> &mut [u8] {
            &mut self.0[..len]
        }

        fn put(&mut self, at: usize, octets: &[u8]) {
            self.0.truncate(at);
            self.0.extend_from_slice(octets);
        }
    }

    /// A datagram to a port, as a stack hands it over; its octets count.
    fn datagram(port: u8, number: u8) -> Vec<u8> {
        let mut frame = vec![0; 62 + 10];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        (frame[14], frame[19], frame[20]) = (0x60, 18, 17);
        (frame[57], frame[59], frame[61]) = (port, 18, 35);
        frame[62..].fill(number);
        frame
    }

    fn state() -> Vnet {
        Vnet { flags: Vnet::NEEDS_CSUM, csum_start: 54, csum_offset: 6, ..Vnet::default() }
    }

    /// What a TAP has: frames, or nothing more for now.
    struct Stack(VecDeque<Vec<u8>>);

    impl Stack {
        fn of(frames: &[(u8, u8)]) -> Self {
            Self(frames.iter().map(|(port, number)| datagram(*port, *number)).collect())
        }

        fn read(&mut self, room: &mut Room) -> Result<Option<(Vnet, usize)>, &'static str> {
            let Some(frame) = self.0.pop_front() else { return Ok(None) };
            room.put(0, &frame);
            match frame.get(15) {
                None => Err("the device is down"),
                Some(1) => Ok(Some((Vnet::default(), frame.len()))),
                Some(_) => Ok(Some((state(), frame.len()))),
            }
        }
    }

    /// The ports and numbers of the datagrams in each frame that comes out, in order.
    fn drain(intake: &mut Intake<Room>, stack: &mut Stack, frames_max: usize) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        intake.handle_readable();
        loop {
            let filled = intake.fill(|buffer| stack.read(buffer), frames_max);
            let Some((vnet, frame)) = intake.frame() else { break };
            let numbers: Vec<u8> = frame[62..].chunks(10).map(|payload| payload[0]).collect();
            assert_eq!(vnet.gso_type != 0, numbers.len() > 1);
            assert!(numbers.len() <= frames_max && vnet.is_valid_for(frame.len()));
            frames.push((frame[57], numbers.clone()));
            assert_eq!(intake.take(), numbers.len());
            if filled.is_err() {
                intake.handle_readable();
            }
        }
        frames
    }

    //= spec/super-frames.md#joining-waits-for-nothing
    //= type=test
    //# A node MUST NOT keep a datagram back for others that its stack has not sent yet, and MUST NOT let a frame of its flow, or one
    //# that is not joined, overtake it.
    #[test]
    fn what_is_there_is_joined_flow_by_flow_and_nothing_waits_for_more() {
        let mut intake = Intake::default();
        let mut stack = Stack::of(&[(1, 1), (1, 2), (2, 3), (1, 4), (2, 5), (3, 6), (1, 7)]);
        let frames = drain(&mut intake, &mut stack, 64);
        assert_eq!(frames, [(1, vec![1, 2, 4, 7]), (2, vec![3, 5]), (3, vec![6])]);
        let mut later = Stack::of(&[(2, 8)]);
        assert_eq!(drain(&mut intake, &mut later, 64), [(2, vec![8])]);
    }

    #[test]
    fn nothing_overtakes_a_frame_that_goes_by_itself() {
        let mut stack = Stack::of(&[(1, 1), (2, 2), (1, 3), (1, 4), (2, 5), (1, 6)]);
        // A finished sum: of the same flow, but nothing to be joined.
        stack.0[2][15] = 1;
        let frames = drain(&mut Intake::default(), &mut stack, 64);
        assert_eq!(frames, [(1, vec![1]), (2, vec![2]), (1, vec![3]), (1, vec![4, 6]), (2, vec![5])]);
    }

    #[test]
    fn a_datagram_that_does_not_go_with_its_flow_begins_anew_behind_it() {
        let mut stack = Stack::of(&[(1, 1), (2, 2), (1, 3), (2, 4), (1, 5)]);
        // Another hop limit.
        stack.0[2][21] = 9;
        stack.0[4][21] = 9;
        let frames = drain(&mut Intake::default(), &mut stack, 64);
        assert_eq!(frames, [(1, vec![1]), (2, vec![2, 4]), (1, vec![3, 5])]);
        let mut stack = Stack::of(&[(1, 1), (1, 2), (2, 3), (1, 4)]);
        stack.0[1][21] = 9;
        let frames = drain(&mut Intake::default(), &mut stack, 64);
        assert_eq!(frames, [(1, vec![1]), (1, vec![2]), (2, vec![3]), (1, vec![4])]);
    }

    #[test]
    fn more_flows_than_there_is_room_for_take_turns() {
        let ports: Vec<(u8, u8)> = (0..3 * FLOWS_MAX as u8).map(|n| (n % 12, n)).collect();
        let frames = drain(&mut Intake::default(), &mut Stack::of(&ports), 64);
        let numbers: Vec<u8> = frames.iter().flat_map(|(_, numbers)| numbers).copied().collect();
        assert_eq!(numbers, (0..3 * FLOWS_MAX as u8).collect::<Vec<_>>());
    }

    #[test]
    fn no_more_are_joined_than_the_batch_has_room_for() {
        let mut stack = Stack::of(&[(1, 1), (1, 2), (1, 3), (1, 4), (1, 5)]);
        let frames = drain(&mut Intake::default(), &mut stack, 2);
        assert_eq!(frames, [(1, vec![1, 2]), (1, vec![3, 4]), (1, vec![5])]);
    }

    #[test]
    fn frames_that_cannot_go_stay_as_they_are_and_nothing_more_is_read() {
        let (mut intake, mut stack) = (Intake::default(), Stack::of(&[(1, 1), (2, 2), (2, 3), (2, 4)]));
        for _ in 0..3 {
            intake.handle_readable();
            intake.fill(|buffer| stack.read(buffer), 3).unwrap();
            assert!(intake.is_waiting());
            assert_eq!(intake.frame(), Some((state(), &datagram(1, 1)[..])));
            assert_eq!(stack.0.len(), 1);
        }
        assert_eq!(intake.take(), 1);
        assert!(intake.is_waiting());
        assert_eq!(drain(&mut intake, &mut stack, 64), [(2, vec![2, 3]), (2, vec![4])]);
        assert!(!intake.is_waiting());
    }

    #[test]
    fn what_was_read_before_a_device_failed_goes_all_the_same() {
        let mut stack = Stack::of(&[(1, 1), (1, 2)]);
        stack.0.push_back(Vec::new());
        stack.0.push_back(datagram(1, 3));
        let frames = drain(&mut Intake::default(), &mut stack, 64);
        assert_eq!(frames, [(1, vec![1, 2]), (1, vec![3])]);
    }

    #[test]
    fn a_datagram_from_outside_keeps_its_sum_while_it_is_alone() {
        let finished = |number: u8| {
            let mut frame = datagram(1, number);
            let pseudo = crate::checksum::pseudo_header(&frame[22..54], 17, 18);
            crate::checksum::set_word(&mut frame, 60, 0);
            let check = !crate::checksum::sum_from(pseudo, &frame[54..]);
            crate::checksum::set_word(&mut frame, 60, check);
            frame
        };
        let read = |frames: &mut VecDeque<Vec<u8>>, room: &mut Room| {
            let Some(frame) = frames.pop_front() else { return Ok(None) };
            room.put(0, &frame);
            Ok::<_, ()>(Some((Vnet::default(), frame.len())))
        };
        let mut intake = Intake::from_outside();
        for numbers in [&[1][..], &[1, 2, 3]] {
            let mut frames: VecDeque<_> = numbers.iter().map(|number| finished(*number)).collect();
            intake.handle_readable();
            intake.fill(|room| read(&mut frames, room), 64).unwrap();
            let (vnet, frame) = intake.frame().expect("they are there");
            match numbers {
                [only] => assert_eq!((vnet, frame), (Vnet::default(), &finished(*only)[..])),
                _ => assert_eq!((vnet.gso_type, vnet.flags, frame.len()), (5, Vnet::NEEDS_CSUM, 62 + 30)),
            }
            assert_eq!(intake.take(), numbers.len());
        }
    }
}
