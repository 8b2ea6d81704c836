//! A leg in use, and the watch on its peer's progress.

use alloc::vec::Vec;

use vlan_core::limits::HEAD_STALL;
use vlan_core::{Instant, LegNumber};

use crate::association::moving::Source;
use crate::association::types::{LegState, LegStatus};
use crate::ring::RingFault;
use crate::shm_leg::ShmLeg;

/// When to look whether the peer still takes messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    pub(super) deadline: Instant,
    data_head: u32,
    control_head: u32,
}

/// What a look at the peer's heads says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing is pending.
    Idle,
    /// Something is pending, and something was taken.
    Moving,
    /// Something is pending, and nothing was taken from that ring since the last look.
    Stuck,
}

#[derive(Debug)]
pub(super) struct Leg {
    pub(super) number: LegNumber,
    pub(super) state: LegState,
    pub(super) shm: ShmLeg,
    pub(super) watch: Option<Watch>,
    /// The last look found it stuck.
    pub(super) stuck: bool,
    /// It stalled: another leg answers for everything in it.
    pub(super) is_moved: bool,
    /// Positions in the data and control ring before which other legs answer for everything.
    pub(super) copied: (u32, u32),
    /// What was in it when it stalled: control ring or not, position, channel and number.
    pub(super) originals: Vec<(bool, u32, (u8, u32))>,
    /// Which of the association's stalls it was that ended its use.
    pub(super) stalled_order: u64,
    /// It has published since doorbells were looked at.
    pub(super) fresh: bool,
    pub(super) tx_messages: u64,
    pub(super) tx_octets: u64,
    pub(super) rx_messages: u64,
    pub(super) rx_octets: u64,
    pub(super) resends: u64,
    pub(super) duplicates: u64,
    pub(super) refused: u64,
}

impl Leg {
    pub(super) fn new(number: LegNumber, shm: ShmLeg) -> Self {
        Self {
            number,
            state: LegState::Up,
            shm,
            watch: None,
            stuck: false,
            is_moved: false,
            copied: (0, 0),
            originals: Vec::new(),
            stalled_order: 0,
            fresh: false,
            tx_messages: 0,
            tx_octets: 0,
            rx_messages: 0,
            rx_octets: 0,
            resends: 0,
            duplicates: 0,
            refused: 0,
        }
    }

    pub(super) fn status(&self) -> LegStatus {
        LegStatus {
            number: self.number,
            state: self.state,
            tx_messages: self.tx_messages,
            tx_octets: self.tx_octets,
            rx_messages: self.rx_messages,
            rx_octets: self.rx_octets,
            resends: self.resends,
            duplicates: self.duplicates,
            refused: self.refused,
        }
    }

    /// Makes what was sent visible. True when there was something.
    #[inline]
    pub(super) fn publish(&mut self, now: Instant) -> bool {
        let data = self.shm.data_tx.publish();
        let control = self.shm.control_tx.publish();
        if !(data || control) {
            return false;
        }
        self.fresh = true;
        if self.watch.is_none() && self.state != LegState::Leaving {
            self.watch(now);
        }
        true
    }

    /// Starts a watch over the heads as they were read last.
    pub(super) fn watch(&mut self, now: Instant) {
        let (data_head, control_head) = (self.shm.data_tx.head(), self.shm.control_tx.head());
        self.watch = Some(Watch { deadline: now + HEAD_STALL, data_head, control_head });
    }

    /// Reads the peer's heads and compares them with those of the watch.
    pub(super) fn look(&mut self) -> Result<Progress, RingFault> {
        self.refresh()?;
        let Some(watch) = self.watch else { return Ok(Progress::Idle) };
        let (data, control) = (&self.shm.data_tx, &self.shm.control_tx);
        let data_pending = data.head() != data.published();
        let control_pending = control.head() != control.published();
        if data_pending && data.head() == watch.data_head
            || control_pending && control.head() == watch.control_head
        {
            return Ok(Progress::Stuck);
        }
        Ok(if data_pending || control_pending { Progress::Moving } else { Progress::Idle })
    }

    /// Notes what `source`, of this leg, has.
    pub(super) fn list_originals(&mut self, mut source: Source, session: u16) {
        let mut octets = Vec::new();
        while let Some((control, position)) = source.next() {
            let ring = if control { &self.shm.control_tx } else { &self.shm.data_tx };
            let Ok(fields) = ring.read_back(position, session, &mut octets) else {
                source.give_up(control);
                continue;
            };
            self.originals.push((control, position, (fields.meta.channel.0, fields.meta.mseq)));
            source.skip(control, fields.slots);
        }
    }

    pub(super) fn refresh(&mut self) -> Result<(), RingFault> {
        self.shm.data_tx.refresh()?;
        self.shm.control_tx.refresh()
    }

    /// Gives back what an idle leg does not need.
    pub(super) fn trim(&mut self) {
        self.shm.data_tx.trim();
        self.shm.control_tx.trim();
        self.originals.shrink_to_fit();
    }

    /// True when something can be received; data only if it is taken.
    pub(super) fn is_ready(&self, takes_data: bool) -> bool {
        let is_ready = self.shm.control_rx.is_ready() || takes_data && self.shm.data_rx.is_ready();
        self.state != LegState::Leaving && is_ready
    }

    /// True when the peer has taken something since its words were read last.
    pub(super) fn has_moved(&self) -> bool {
        self.shm.data_tx.has_moved() || self.shm.control_tx.has_moved()
    }

    /// True when the peer has settled all that was sent.
    pub(super) fn is_settled(&self) -> bool {
        self.shm.data_tx.is_settled() && self.shm.control_tx.is_settled()
    }
}
