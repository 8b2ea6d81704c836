//! The numbered frames of another member that have come, for each of the processes that have served it.

use alloc::vec::Vec;

use crate::address::BootTag;
use crate::drop_reason::DropReason;
use crate::limits::BSEQ_WINDOW;
use crate::window::{Window, WindowVerdict};
use crate::wire::frame::{FrameHeader, FrameKind};

/// Processes of a member whose numbers are remembered beside those of the one whose frame came last.
const FORMER_LIVES_MAX: usize = 3;

/// How a numbered frame has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CameBy {
    /// It keeps the order of all that one origin sends.
    ControlNode,
    /// Only the frames of one flow keep theirs there.
    DirectRvi,
}

/// What has come of one process.
#[derive(Clone, Debug)]
struct Life {
    boot: BootTag,
    window: Window,
    /// The newest number that a control node has passed on of relayed frames, of group frames and of copies.
    newest: [Option<u32>; 3],
    /// Another process serves the member now.
    has_ended: bool,
}

/// What has come of all of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Lives {
    /// The one whose frame came last.
    latest: Option<Life>,
    /// Others, the one whose frame came last at the end.
    others: Vec<Life>,
    /// Processes that have ended, the last one at the end.
    ended: Vec<BootTag>,
}

impl Lives {
    /// Another process serves the member.
    pub fn replace(&mut self, former: BootTag, present: BootTag) {
        // Tags are short. Nothing that an earlier process of this tag sent says anything of this one.
        self.ended.retain(|boot| *boot != present && *boot != former);
        self.others.retain(|life| life.boot != present);
        self.latest.take_if(|life| life.boot == present);
        if former == present {
            return;
        }
        if self.ended.len() > FORMER_LIVES_MAX {
            self.ended.remove(0);
        }
        self.ended.push(former);
        for life in self.latest.iter_mut().chain(&mut self.others).filter(|life| life.boot == former) {
            life.has_ended = true;
        }
    }

    /// Takes a numbered frame, or says why not.
    //= spec/driver.md#late-frames
    //# The driver MUST discard a frame sent again that is older than the newest of its kind from the same origin that a
    //# control node has passed on.
    #[inline]
    pub fn take(&mut self, header: &FrameHeader, by: CameBy) -> Result<(), DropReason> {
        let (boot, bseq) = (header.boot, header.bseq);
        if self.latest.as_ref().is_none_or(|life| life.boot != boot || life.has_ended) {
            self.turn_to(header)?;
        }
        let Some(life) = &mut self.latest else { return Err(DropReason::StaleBoot) };
        if let Some(newest) = kind_of(header).map(|kind| &mut life.newest[kind]) {
            let is_older = newest.is_some_and(|newest| (bseq.wrapping_sub(newest) as i32) < 0);
            if is_older && header.flags & FrameHeader::RESENT != 0 {
                return Err(DropReason::Duplicate);
            }
            if !is_older && by == CameBy::ControlNode {
                *newest = Some(bseq);
            }
        }
        match life.window.insert(bseq) {
            WindowVerdict::New => Ok(()),
            WindowVerdict::Duplicate => Err(DropReason::Duplicate),
            WindowVerdict::TooOld => Err(DropReason::OutOfWindow),
        }
    }

    /// Takes a relayed frame that is newer than all that have come of the process whose frame came last. False: it is none,
    /// and nothing has been done.
    #[inline(always)]
    pub fn take_newer(&mut self, bseq: u32) -> bool {
        let is_newer = |life: &Life| !life.has_ended && bseq.wrapping_sub(life.window.next()) < 1 << 31;
        let Some(life) = self.latest.as_mut().filter(|life| is_newer(life)) else {
            return false;
        };
        life.window.insert(bseq);
        life.newest[0] = Some(bseq);
        true
    }

    /// Makes the process that `header` is of the latest one.
    //= spec/driver.md#frames-of-former-processes
    //# The driver MUST judge a numbered frame by the numbers of the process that sent it, also when another process serves the
    //# member by now.
    //= spec/driver.md#frames-of-former-processes
    //# The driver MUST discard a frame of a process that has ended when a control node has passed on a frame of its kind of a
    //# process that has not.
    #[cold]
    fn turn_to(&mut self, header: &FrameHeader) -> Result<(), DropReason> {
        let boot = header.boot;
        let has_ended = self.ended.contains(&boot);
        let is_superseded = |kind: usize| {
            let mut all = self.latest.iter().chain(&self.others);
            all.any(|life| !life.has_ended && life.newest[kind].is_some())
        };
        if has_ended && kind_of(header).is_some_and(is_superseded) {
            return Err(DropReason::StaleBoot);
        }
        let known = self.others.iter().position(|life| life.boot == boot).map(|at| self.others.remove(at));
        if known.is_none() && self.latest.as_ref().is_some_and(|life| life.boot == boot) {
            return Ok(());
        }
        let life = known.unwrap_or_else(|| Life {
            boot,
            window: Window::around(BSEQ_WINDOW, header.bseq),
            newest: [None; 3],
            has_ended,
        });
        if let Some(latest) = self.latest.replace(life) {
            if self.others.len() == FORMER_LIVES_MAX {
                self.others.remove(0);
            }
            self.others.push(latest);
        }
        Ok(())
    }
}

/// Which order a frame is part of: that of relayed frames, of group frames or of copies. ARP has none.
fn kind_of(header: &FrameHeader) -> Option<usize> {
    match header.kind {
        FrameKind::Relay => Some(0),
        FrameKind::Group => Some(1),
        FrameKind::Promiscuous => Some(2),
        FrameKind::Unicast | FrameKind::Arp => None,
    }
}
