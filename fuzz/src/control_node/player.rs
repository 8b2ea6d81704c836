//! A node as the fuzzer plays it: its process, its association with the control node, its session.

use rvi::{Association, AssociationConfig, Scheduler};
use vlan_core::wire::ControlMessage;
use vlan_core::{Channel, Instant, NodeNumber, PairEpoch, ProcessId};

/// A node as the fuzzer plays it.
pub(super) struct Player {
    pub(super) number: NodeNumber,
    pub(super) process: ProcessId,
    /// Processes that it has had.
    lives: u64,
    pub(super) association: Association,
    /// Its number of the session, and the control node's from the first leg on.
    pub(super) session: (u32, Option<u32>),
    pub(super) bseq: u32,
    /// Of the grant that it was given last.
    pub(super) epoch: PairEpoch,
    /// The last frame that it is to give back unless it owns its flow, and the channel it came by.
    pub(super) asked: Option<(Channel, Vec<u8>)>,
}

impl Player {
    pub(super) fn new(number: NodeNumber) -> Self {
        let mut player = Self {
            number,
            process: ProcessId(0),
            lives: 0,
            association: control_association(),
            session: (1, None),
            bseq: 0,
            epoch: PairEpoch(0),
            asked: None,
        };
        player.restart(u64::from(number.0));
        player
    }

    /// Another process takes the node's place. Its number was never another's: it is drawn from 64 bits.
    pub(super) fn restart(&mut self, process: u64) {
        self.process = ProcessId(self.lives << 16 | process);
        self.lives += 1;
        self.association = control_association();
        self.session = (1, None);
        self.bseq = 0;
    }

    pub(super) fn begin_session(&mut self) {
        self.association = control_association();
        self.session = (self.session.0 + 1, None);
    }

    pub(super) fn control(&mut self, now: Instant, message: &ControlMessage) {
        let _ = self.association.send_control(now, &message.emit());
    }
}

fn control_association() -> Association {
    let config =
        AssociationConfig { scheduler: Scheduler::Failover, seed: 4, ..AssociationConfig::default() };
    let mut association = Association::new(&config);
    (1..=4).for_each(|channel| association.open_channel(Channel(channel)));
    association.open_channel(Channel::RELAYED_PACKETS);
    association
}
