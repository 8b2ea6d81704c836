//! The orderly end of a control node: nothing more is taken, frames that are on their way in packets are waited for, and
//! then every node that is reached by packets is told.
//!
//! A session of shared memory needs no word: its sockets hang up with the process, and what the nodes had published or
//! not settled lies in memory that they keep. So no leg is left with final heads here: those would say that everything
//! taken is done with, and frames that wait for a receiver are not.

use core::time::Duration;

use vlan_core::Instant;

use crate::control_node::{ControlNode, Output};

/// How long frames that are on their way in packets are waited for.
const LEAVE_WAIT: Duration = Duration::from_millis(20);

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// What went out in packets is not acknowledged.
    Waiting,
    /// Its senders are being let go; then the nodes are told.
    Settling,
    /// The nodes have been told, and the host too.
    Over,
}

/// A control node on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    stage: Stage,
    until: Instant,
}

impl Leaving {
    pub fn poll_timeout(&self) -> Instant {
        if self.stage == Stage::Waiting { self.until } else { Instant::ZERO }
    }
}

impl ControlNode {
    /// Ends this control node in order: no more messages are taken, and no sessions. When the nodes have been told,
    /// after 20 ms at the latest, [`Output::Left`] says so; until then the host goes on as before.
    //= spec/control-node.md#the-orderly-end-of-a-control-node
    //# A control node that is asked to end MUST take nothing more from its nodes, wait at most 20 ms for what receivers have
    //# not acknowledged, and tell the nodes that it reaches by packets that their sessions are over.
    pub fn leave(&mut self, now: Instant) {
        if self.leaving.is_none() {
            self.leaving = Some(Leaving { stage: Stage::Waiting, until: now + LEAVE_WAIT });
            self.publish(now);
            self.go_on_leaving(now);
        }
    }

    /// True from [`Self::leave`] on.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Takes the next step if it is possible now.
    pub(super) fn go_on_leaving(&mut self, now: Instant) {
        let Some(leaving) = self.leaving.filter(|leaving| leaving.stage == Stage::Waiting) else { return };
        let is_waiting = self.sessions.iter().flatten().any(|session| session.waits.is_any_unacknowledged());
        if is_waiting && leaving.until > now {
            return;
        }
        self.leaving = Some(Leaving { stage: Stage::Settling, ..leaving });
        if self.packets.is_none() {
            self.tell_nodes(now);
        }
    }

    /// Ends every session by packets, once the acks that let senders go have been sent. True when there is more to send.
    pub(super) fn tell_nodes(&mut self, now: Instant) -> bool {
        let Some(leaving) = self.leaving.filter(|leaving| leaving.stage == Stage::Settling) else {
            return false;
        };
        for session in self.sessions.iter_mut().flatten() {
            session.association.close_packets(now);
        }
        self.leaving = Some(Leaving { stage: Stage::Over, ..leaving });
        self.outputs.push_back(Output::Left);
        true
    }
}
