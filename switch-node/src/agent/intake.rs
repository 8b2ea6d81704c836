//! Step 1 of the walk: frames of a stack are read here, each with its vnet header. Datagrams of one flow that it sent one
//! by one become one super-frame, as far as they are there already.

use std::io;

use vlan_core::super_frame::UdpCoalescer;
use vlan_core::wire::frame::Vnet;

use crate::agent::tap::TapBuffer;

/// What reads a frame into a buffer.
pub(super) trait Read: FnMut(&mut TapBuffer) -> io::Result<Option<usize>> {}

impl<F: FnMut(&mut TapBuffer) -> io::Result<Option<usize>>> Read for F {}

/// The frame that is next, read and perhaps put together.
#[derive(Clone, Copy)]
struct Next {
    vnet: Vnet,
    /// Octets, the vnet header not counted.
    len: usize,
    /// Frames of the stack that it was put together from.
    frames: usize,
}

/// What was read of a stack and has not gone.
#[derive(Default)]
pub(super) struct Intake {
    current: TapBuffer,
    next: Option<Next>,
    /// Where the frame behind it is read to.
    following: TapBuffer,
    /// The length of one that could not be joined, as reading said it.
    behind: Option<usize>,
    /// The TAP may have a frame.
    is_readable: bool,
}

impl Intake {
    /// The TAP may have a frame.
    #[inline]
    pub fn handle_readable(&mut self) {
        self.is_readable = true;
    }

    /// Has the next frame ready, put together from up to `frames_max` of the stack's, if there is one now. `read` is that of
    /// the TAP ([`crate::agent::tap::Tap::read`]).
    ///
    /// # Errors
    /// As `read`.
    //= spec/super-frames.md#joining-waits-for-nothing
    //# A node MUST NOT keep a datagram back for others that its stack has not sent yet, and MUST NOT let a frame of its interface
    //# overtake it.
    #[inline]
    pub fn fill(&mut self, mut read: impl Read, frames_max: usize) -> io::Result<()> {
        if self.next.is_some() {
            return Ok(());
        }
        let len = match self.behind.take() {
            Some(len) => len,
            None => match self.read(&mut read)? {
                Some(len) => len,
                None => return Ok(()),
            },
        };
        std::mem::swap(&mut self.current, &mut self.following);
        let (vnet, frame) = self.current.frame(len);
        self.next = Some(Next { vnet, len: frame.len(), frames: 1 });
        match UdpCoalescer::begin(&vnet, frame) {
            Some(coalescer) => self.join(coalescer, read, frames_max),
            None => Ok(()),
        }
    }

    /// Joins what is there with the frame that is next.
    fn join(
        &mut self,
        mut coalescer: UdpCoalescer,
        mut read: impl Read,
        frames_max: usize,
    ) -> io::Result<()> {
        let mut ended = Ok(());
        while !coalescer.is_closed() && coalescer.count() < frames_max {
            let len = match self.read(&mut read) {
                Ok(Some(len)) => len,
                Ok(None) => break,
                Err(error) => {
                    ended = Err(error);
                    break;
                }
            };
            let (vnet, frame) = self.following.frame(len);
            let end = coalescer.len();
            let Some(payload) = coalescer.admit(self.current.octets(end), &vnet, frame) else {
                self.behind = Some(len);
                break;
            };
            self.current.put(end, payload);
        }
        let (len, frames) = (coalescer.len(), coalescer.count());
        let vnet = coalescer.finish(self.current.octets_mut(len));
        self.next = Some(Next { vnet, len, frames });
        ended
    }

    /// Reads a frame behind the one that is next.
    #[inline]
    fn read(&mut self, read: &mut impl Read) -> io::Result<Option<usize>> {
        if !self.is_readable {
            return Ok(None);
        }
        let len = read(&mut self.following);
        self.is_readable = matches!(len, Ok(Some(_)));
        len
    }

    /// The frame that [`Self::fill`] made ready.
    #[inline]
    pub fn frame(&self) -> Option<(Vnet, &[u8])> {
        self.next.map(|next| (next.vnet, self.current.octets(next.len)))
    }

    /// That frame has gone; says of how many of the stack's it was put together.
    #[inline]
    pub fn take(&mut self) -> usize {
        self.next.take().map_or(0, |next| next.frames)
    }

    /// A frame waits that could not go.
    pub fn is_waiting(&self) -> bool {
        self.next.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

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

        fn read(&mut self, buffer: &mut TapBuffer) -> io::Result<Option<usize>> {
            match self.0.pop_front() {
                Some(frame) if frame.is_empty() => Err(io::Error::other("the device is down")),
                Some(frame) => Ok(Some(buffer.store(&state(), &frame))),
                None => Ok(None),
            }
        }
    }

    /// The ports and numbers of the datagrams in each frame that comes out, in order.
    fn drain(intake: &mut Intake, stack: &mut Stack, frames_max: usize) -> Vec<(u8, Vec<u8>)> {
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
    //# A node MUST NOT keep a datagram back for others that its stack has not sent yet, and MUST NOT let a frame of its interface
    //# overtake it.
    #[test]
    fn what_is_there_is_joined_in_order_and_nothing_waits_for_more() {
        let mut intake = Intake::default();
        let mut stack = Stack::of(&[(1, 1), (1, 2), (1, 3), (2, 4), (1, 5), (2, 6), (2, 7)]);
        let frames = drain(&mut intake, &mut stack, 64);
        assert_eq!(frames, [(1, vec![1, 2, 3]), (2, vec![4]), (1, vec![5]), (2, vec![6, 7])]);
        let mut later = Stack::of(&[(2, 8)]);
        assert_eq!(drain(&mut intake, &mut later, 64), [(2, vec![8])]);
    }

    #[test]
    fn no_more_are_joined_than_the_batch_has_room_for() {
        let mut stack = Stack::of(&[(1, 1), (1, 2), (1, 3), (1, 4), (1, 5)]);
        let frames = drain(&mut Intake::default(), &mut stack, 2);
        assert_eq!(frames, [(1, vec![1, 2]), (1, vec![3, 4]), (1, vec![5])]);
    }

    #[test]
    fn a_frame_that_cannot_go_stays_as_it_is_and_nothing_more_is_read() {
        let (mut intake, mut stack) = (Intake::default(), Stack::of(&[(1, 1), (2, 2), (2, 3), (2, 4)]));
        intake.handle_readable();
        for _ in 0..3 {
            intake.fill(|buffer| stack.read(buffer), 64).unwrap();
            assert!(intake.is_waiting());
            assert_eq!(intake.frame(), Some((state(), &datagram(1, 1)[..])));
            assert_eq!(stack.0.len(), 2, "one was read to see whether it goes with the first");
        }
        assert_eq!(intake.take(), 1);
        assert!(!intake.is_waiting());
        assert_eq!(drain(&mut intake, &mut stack, 64), [(2, vec![2, 3, 4])]);
    }

    #[test]
    fn what_was_read_before_a_device_failed_goes_all_the_same() {
        let mut stack = Stack::of(&[(1, 1), (1, 2)]);
        stack.0.push_back(Vec::new());
        stack.0.push_back(datagram(1, 3));
        let frames = drain(&mut Intake::default(), &mut stack, 64);
        assert_eq!(frames, [(1, vec![1, 2]), (1, vec![3])]);
    }
}
