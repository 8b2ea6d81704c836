//! The orderly end of a node: direct legs first, then what came back of them by relay, then the control legs. No peer
//! loses anything by it, and none takes it for a death.

use alloc::vec::Vec;

use vlan_core::{DropReason, Instant, NodeNumber};

use crate::node::{LEAVE_WAIT, Node, Output};

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The direct legs are left; their peers hang up in turn.
    Direct,
    /// What the peers had not taken goes to a control node.
    Relay,
    /// The control legs are left; the control nodes hang up in turn.
    Control,
    /// The host has been told.
    Over,
}

/// A node on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    stage: Stage,
    /// When it ends whatever its peers do.
    until: Instant,
}

impl Leaving {
    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.stage != Stage::Over).then_some(self.until)
    }
}

impl Node {
    /// Ends this node in order: no more frames are taken from its stacks, and all legs are left. When that is done,
    /// after a second at the latest, [`Output::Left`] says so; until then the host goes on as before.
    //= spec/driver.md#the-orderly-end-of-a-node
    //# A node that is asked to end MUST take no more frames from its stacks, leave its direct legs, send what its peers
    //# did not take by relay, and leave its control legs only then.
    pub fn leave(&mut self, now: Instant) {
        if self.leaving.is_some() {
            return;
        }
        self.leaving = Some(Leaving { stage: Stage::Direct, until: now + LEAVE_WAIT });
        for link in &mut self.control {
            link.connects = false;
        }
        let peers: Vec<NodeNumber> = self.direct.iter().flatten().map(|link| link.node).collect();
        for peer in peers {
            self.close_direct(now, peer);
        }
        self.go_on_leaving(now);
    }

    /// True from [`Self::leave`] on.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Takes the next steps that are possible now.
    //= spec/driver.md#the-orderly-end-of-a-node
    //# It MUST end within a second, whatever its peers do.
    pub(super) fn go_on_leaving(&mut self, now: Instant) {
        while let Some(leaving) = self.leaving {
            let is_late = leaving.until <= now;
            if leaving.stage == Stage::Control {
                self.leave_control_packets(now, is_late);
            }
            let (is_done, next) = match leaving.stage {
                Stage::Direct => (self.direct.iter().all(Option::is_none), Stage::Relay),
                Stage::Relay => (self.attached().is_none() || !self.has_frames_to_relay(), Stage::Control),
                Stage::Control => (self.control.iter().all(|link| !link.has_leg()), Stage::Over),
                Stage::Over => return,
            };
            if !is_done && !is_late {
                return;
            }
            self.leaving = Some(Leaving { stage: next, ..leaving });
            match next {
                Stage::Control => {
                    self.drop_held();
                    self.leave_control_legs(now);
                }
                Stage::Over => self.outputs.push_back(Output::Left),
                Stage::Direct | Stage::Relay => {}
            }
        }
    }

    fn has_frames_to_relay(&self) -> bool {
        self.interfaces
            .iter()
            .flatten()
            .any(|interface| !interface.held.is_empty() || !interface.copies.is_empty())
            || self.control.iter().any(|link| !link.resend.is_empty())
    }

    /// What no control node is there for, or takes in time.
    fn drop_held(&mut self) {
        for interface in self.interfaces.iter_mut().flatten() {
            let held = interface.held.take().len() as u64;
            interface.driver.count_drop(DropReason::Expired, held);
            let copies = interface.copies.take().len() as u64;
            interface.driver.count_drop(DropReason::ListenerFull, copies);
        }
    }

    fn leave_control_legs(&mut self, now: Instant) {
        for (index, link) in self.control.iter_mut().enumerate() {
            self.outputs.extend(link.leave(now, index as u8));
        }
    }
}
