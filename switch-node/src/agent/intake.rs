//! Step 1 of the walk: frames of a stack are read here, each with its vnet header. Datagrams of one flow that it sent one
//! by one become one super-frame, as far as they are there already.

use std::io;

use vlan_core::super_frame::UdpCoalescer;
use vlan_core::wire::frame::Vnet;

use crate::agent::tap::{Tap, TapBuffer};

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
    /// The length of one that could not be joined, as [`Tap::read`] said it.
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

    /// Has the next frame ready, put together from up to `frames_max` of the stack's, if there is one now.
    ///
    /// # Errors
    /// As [`Tap::read`].
    //= spec/super-frames.md#joining-waits-for-nothing
    //# A node MUST NOT keep a datagram back for others that its stack has not sent yet, and MUST NOT let a frame of its interface
    //# overtake it.
    #[inline]
    pub fn fill(&mut self, tap: &Tap, frames_max: usize) -> io::Result<()> {
        if self.next.is_some() {
            return Ok(());
        }
        let len = match self.behind.take() {
            Some(len) => len,
            None => match self.read(tap)? {
                Some(len) => len,
                None => return Ok(()),
            },
        };
        std::mem::swap(&mut self.current, &mut self.following);
        let (vnet, frame) = self.current.frame(len);
        self.next = Some(Next { vnet, len: frame.len(), frames: 1 });
        match UdpCoalescer::begin(&vnet, frame) {
            Some(coalescer) => self.join(coalescer, tap, frames_max),
            None => Ok(()),
        }
    }

    /// Joins what is there with the frame that is next.
    fn join(&mut self, mut coalescer: UdpCoalescer, tap: &Tap, frames_max: usize) -> io::Result<()> {
        let mut ended = Ok(());
        while !coalescer.is_closed() && coalescer.count() < frames_max {
            let len = match self.read(tap) {
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
    fn read(&mut self, tap: &Tap) -> io::Result<Option<usize>> {
        if !self.is_readable {
            return Ok(None);
        }
        let read = tap.read(&mut self.following);
        self.is_readable = matches!(read, Ok(Some(_)));
        read
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
