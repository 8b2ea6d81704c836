//! The links to the control nodes: connecting, registering, taking configuration, and sending again what a lost
//! control node had not settled.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use rvi::{Association, LegEnd, Part, Scheduler, SendError, SessionTag, ShmLeg};
use vlan_core::limits::HEARTBEAT_INTERVAL;
use vlan_core::random::Random;
use vlan_core::wire::control::{ControlMessage, Fault, RevokeReason};
use vlan_core::wire::frame::{FrameHeader, FrameKind};
use vlan_core::wire::tlv::TlvError;
use vlan_core::{Channel, DropReason, Instant, LegNumber, ProcessId, VifNumber};

use crate::node::arenas::Arenas;
use crate::node::capture::tap_sent;
use crate::node::control_packets::ControlPackets;
use crate::node::interface::Interface;
use crate::node::packets::handle_timeout;
use crate::node::{Node, NodeEvent, Output, PeerId, association, backoff};

/// Heartbeats without an answer after which a peer counts as silent.
pub(super) const SILENT_AFTER: u32 = 3;

/// How far a link to a control node has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No leg is up.
    Down,
    /// A leg is up and REGISTER has been sent.
    Registering,
    /// Accepted; interfaces are being named.
    Configuring,
    /// The configuration is complete: frames may go.
    Attached,
}

/// One leg to a control node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LegState {
    /// To be connected at `until`.
    Waiting {
        until: Instant,
        pause: Option<Duration>,
    },
    /// The host is connecting it.
    Connecting {
        pause: Option<Duration>,
    },
    Up,
}

/// The link to one control node.
pub(super) struct ControlLink {
    pub association: Association,
    /// The control node's process, while a leg is up.
    pub process: Option<ProcessId>,
    /// How it is reached by packets; none where it is reached by shared memory.
    pub packets: Option<ControlPackets>,
    /// This node's number of the session that is there or is to be made.
    pub session: u32,
    /// The control node's number of it, while a leg is up.
    peer_session: Option<u32>,
    legs: Vec<(LegNumber, LegState)>,
    /// Cleared when the node ends: legs that are not up stay as they are.
    pub connects: bool,
    stage: Stage,
    /// Which interface a channel belongs to; 0 is none.
    vif_by_channel: [VifNumber; 256],
    /// Messages that an earlier session did not settle, in order.
    pub resend: VecDeque<Vec<u8>>,
    /// Where group frames lie that come as references.
    pub arenas: Arenas,
    /// The interfaces with flows that it is still to be told, and how many of the first of these.
    pub telling: BTreeMap<VifNumber, usize>,
    /// It does not stand by for its clusters.
    pub has_clusters: bool,
    pub heard: Instant,
    heartbeat: Heartbeat,
    /// When a registration that has not been answered is given up.
    register_until: Option<Instant>,
}

/// How the session that a leg was set up for stands to the one that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// It is the same, or the leg begins it.
    Same,
    /// It is over.
    Past,
    /// The control node has begun another, so it has given up the one that is there.
    Later,
}

/// How long a registration may take. One that is lost, because the control node still took the new legs for
/// those of the session before, is given up with its legs and begun again.
const REGISTER_WAIT: Duration = Duration::from_secs(1);

/// Heartbeats on one association (S54).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heartbeat {
    next: Option<Instant>,
    number: u32,
    unanswered: u32,
}

impl Heartbeat {
    pub fn start(&mut self, now: Instant) {
        *self = Self { next: Some(now + HEARTBEAT_INTERVAL), number: self.number, unanswered: 0 };
    }

    pub fn stop(&mut self) {
        self.next = None;
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    pub fn answered(&mut self) {
        self.unanswered = 0;
    }

    /// The heartbeat to send when nothing has been heard for an interval; the second value says that the peer
    /// has become silent just now.
    pub fn due(&mut self, now: Instant, heard: Instant) -> Option<(ControlMessage, bool)> {
        if self.next.is_none_or(|next| next > now) {
            return None;
        }
        self.next = Some(now + HEARTBEAT_INTERVAL);
        if now.since(heard) < HEARTBEAT_INTERVAL {
            self.unanswered = 0;
            return None;
        }
        self.number = self.number.wrapping_add(1);
        self.unanswered = self.unanswered.saturating_add(1);
        let silent = self.unanswered == SILENT_AFTER;
        Some((ControlMessage::Heartbeat { number: self.number }, silent))
    }
}

impl ControlLink {
    pub fn new(legs: &[LegNumber], association: Association) -> Self {
        let waiting = LegState::Waiting { until: Instant::ZERO, pause: None };
        Self {
            association,
            process: None,
            packets: None,
            session: 1,
            peer_session: None,
            legs: legs.iter().map(|&leg| (leg, waiting)).collect(),
            connects: true,
            stage: Stage::Down,
            vif_by_channel: [VifNumber(0); 256],
            resend: VecDeque::new(),
            arenas: Arenas::default(),
            telling: BTreeMap::new(),
            has_clusters: true,
            heard: Instant::ZERO,
            heartbeat: Heartbeat::default(),
            register_until: None,
        }
    }

    /// True once REGISTER has been sent.
    pub fn has_registered(&self) -> bool {
        self.stage != Stage::Down
    }

    pub fn is_attached(&self) -> bool {
        self.stage == Stage::Attached
    }

    /// The configuration is complete.
    pub fn set_attached(&mut self) {
        self.stage = Stage::Attached;
    }

    /// The interface that a data channel belongs to.
    #[inline]
    pub fn vif_of(&self, channel: Channel) -> Option<VifNumber> {
        let vif = self.vif_by_channel[usize::from(channel.0)];
        (vif.0 != 0).then_some(vif)
    }

    fn set_leg(&mut self, leg: LegNumber, state: LegState) -> bool {
        match self.legs.iter_mut().find(|(number, _)| *number == leg) {
            Some((_, place)) => {
                *place = state;
                true
            }
            None => false,
        }
    }

    fn leg_state(&self, leg: LegNumber) -> Option<LegState> {
        self.legs.iter().find(|(number, _)| *number == leg).map(|(_, state)| *state)
    }

    /// What a leg with this tag means for the session that is there.
    pub fn relation(&self, process: ProcessId, tag: SessionTag) -> Relation {
        if tag.node != self.session {
            return Relation::Past;
        }
        match (self.process, self.peer_session) {
            (Some(known), _) if known != process => Relation::Later,
            (_, Some(known)) if known < tag.control_node => Relation::Later,
            (_, Some(known)) if known > tag.control_node => Relation::Past,
            _ => Relation::Same,
        }
    }

    /// A leg or a handshake of the session with this tag has come through.
    pub fn begin_session(&mut self, now: Instant, process: ProcessId, tag: SessionTag) {
        self.process = Some(process);
        self.peer_session = Some(tag.control_node);
        self.heard = now;
    }

    pub fn connect_failed(&mut self, now: Instant, leg: LegNumber, random: &mut Random) {
        if let Some((_, state)) = self.legs.iter_mut().find(|(number, _)| *number == leg)
            && let LegState::Connecting { pause } = *state
        {
            let pause = backoff(pause, random);
            *state = LegState::Waiting { until: now + pause, pause: Some(pause) };
        }
    }

    /// Gives an interface its channels, which are open once the node knows who its LAN's members are.
    //= spec/driver.md#frames-before-the-configuration
    //# A node MUST take no frame from a control node in a session before it has heard the end of its configuration.
    pub fn assign(&mut self, vif: VifNumber, channels: [Channel; 2]) {
        for channel in channels {
            self.vif_by_channel[usize::from(channel.0)] = vif;
        }
        if self.is_attached() {
            self.open_assigned();
        }
    }

    /// The configuration is whole: its interfaces' channels are open.
    pub fn open_assigned(&mut self) {
        for (channel, _) in (0..=u8::MAX).zip(&self.vif_by_channel).filter(|(_, vif)| vif.0 != 0) {
            self.association.open_channel(Channel(channel));
        }
    }

    pub fn close_all_of(&mut self, vif: VifNumber) {
        for channel in 1..=255 {
            if self.vif_by_channel[usize::from(channel)] == vif {
                self.vif_by_channel[usize::from(channel)] = VifNumber(0);
                self.association.close_channel(Channel(channel));
            }
        }
    }

    /// True while the association has a leg, one that is being left included.
    pub fn has_leg(&self) -> bool {
        self.association.legs().next().is_some() || self.association.has_packets()
    }

    /// True while the session has no leg but may get one that is being set up.
    //= spec/leg-setup.md#legs-being-set-up
    //# A node that a control node has accepted MUST NOT take its session for over while a leg of it is being set up.
    fn awaits_leg(&self) -> bool {
        let is_accepted = matches!(self.stage, Stage::Configuring | Stage::Attached);
        let is_set_up = |(_, state): &(LegNumber, LegState)| matches!(state, LegState::Connecting { .. });
        self.connects && is_accepted && self.legs.iter().any(is_set_up)
    }

    /// True while legs may be set up: for a session to come, or one that has a leg.
    fn may_connect(&self) -> bool {
        self.connects && (self.process.is_none() || self.has_leg())
    }

    /// Leaves every leg in order; the host is told to hang up.
    pub fn leave(&mut self, now: Instant, index: u8) -> Vec<Output> {
        self.register_until = None;
        self.heartbeat.stop();
        let (peer, process) = (PeerId::ControlNode(index), self.process.unwrap_or_default());
        let legs: Vec<LegNumber> = self.association.legs().map(|leg| leg.number).collect();
        for &leg in &legs {
            self.association.leave_leg(now, leg);
        }
        legs.into_iter().map(|leg| Output::CloseLeg { peer, process, leg }).collect()
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let legs = self.legs.iter().filter(|_| self.may_connect()).filter_map(|(_, state)| state.due());
        let timers = legs.chain(self.association.poll_timeout()).chain(self.register_until);
        timers.chain(self.heartbeat.poll_timeout()).chain(self.packets_timeout()).min()
    }
}

impl Node {
    // --- legs and sessions ----------------------------------------------------------------------------------

    pub(super) fn control_timeouts(&mut self, now: Instant) {
        for index in 0..self.control.len() {
            let peer = PeerId::ControlNode(index as u8);
            self.control_packets_timeout(now, index);
            let link = &mut self.control[index];
            handle_timeout(now, &mut link.association, self.packets.as_mut());
            let may_connect = link.may_connect();
            for (leg, state) in &mut link.legs {
                if let LegState::Waiting { until, pause } = *state
                    && until <= now
                    && may_connect
                {
                    *state = LegState::Connecting { pause };
                    let (control_node, session) = (index as u8, link.session);
                    self.outputs.push_back(Output::Connect { control_node, leg: *leg, session });
                }
            }
            if link.register_until.is_some_and(|until| until <= now) {
                link.register_until = None;
                let process = link.process.unwrap_or_default();
                let up: Vec<LegNumber> = link.association.legs().map(|leg| leg.number).collect();
                for leg in up {
                    self.outputs.push_back(Output::CloseLeg { peer, process, leg });
                    self.handle_leg_gone(now, peer, process, leg);
                }
                if self.control[index].packets.is_some() {
                    self.control_session_over(now, index);
                }
            }
            let link = &mut self.control[index];
            if let Some((heartbeat, silent)) = link.heartbeat.due(now, link.heard) {
                self.send_control(now, index, &heartbeat);
                if silent {
                    self.log(NodeEvent::Silent { peer });
                }
            }
        }
    }

    //= spec/leg-setup.md#session-tags
    //# An end MUST take a leg only into the session whose tag it has: the tag of a later session ends the one that is
    //# there first, and a leg with the tag of an earlier one MUST be closed.
    pub(super) fn control_leg_up(
        &mut self,
        now: Instant,
        index: u8,
        process: ProcessId,
        leg: LegNumber,
        tag: SessionTag,
        shm: ShmLeg,
    ) -> bool {
        let place = usize::from(index);
        let Some(link) = self.control.get_mut(place) else { return false };
        if link.leg_state(leg).is_none() || !link.connects {
            return false;
        }
        let relation = link.relation(process, tag);
        if relation != Relation::Same {
            // It carries this node's number of a session that is over now: it is set up again for the next one.
            if link.leg_state(leg) != Some(LegState::Up) {
                link.set_leg(leg, LegState::Waiting { until: now, pause: None });
            }
            if relation == Relation::Later {
                self.control_session_over(now, place);
            }
            self.end_session_without_legs(now, place);
            return false;
        }
        self.forget_earlier_leg(PeerId::ControlNode(index), process, leg);
        let link = &mut self.control[place];
        link.set_leg(leg, LegState::Up);
        link.begin_session(now, process, tag);
        link.association.handle_leg_up(now, leg, shm);
        let peer = PeerId::ControlNode(index);
        self.log(NodeEvent::LegUp { peer, leg });
        self.begin_registration(now, place);
        true
    }

    /// A leg is up: with the first one of its session this node registers.
    pub(super) fn begin_registration(&mut self, now: Instant, place: usize) {
        let link = &mut self.control[place];
        if link.stage == Stage::Down {
            link.stage = Stage::Registering;
            link.association.open_channel(Channel::RELAYED_PACKETS);
            link.register_until = Some(now + REGISTER_WAIT);
            link.heartbeat.start(now);
            let register = self.register_message();
            self.send_control(now, place, &register);
            self.announce_groups(now, place);
            self.announce_listeners(now, place);
        }
    }

    //= spec/leg-udp.md#the-end-of-faults
    //# A node MUST take off every fault that it was asked for when no control node has it attached any more.
    fn end_faults(&mut self) {
        if self.attached().is_none() && core::mem::take(&mut self.is_spoiled) {
            self.outputs.push_back(Output::Fault(Fault::end()));
        }
    }

    pub(super) fn control_leg_gone(&mut self, now: Instant, index: u8, process: ProcessId, leg: LegNumber) {
        let place = usize::from(index);
        let Some(link) = self.control.get_mut(place) else { return };
        // The leg may be one of an earlier session, which is closed here already.
        if link.process != Some(process) || link.leg_state(leg) != Some(LegState::Up) {
            return;
        }
        let _: LegEnd = link.association.handle_leg_gone(now, leg);
        // At once: a control node that restarts listens again within milliseconds.
        link.set_leg(leg, LegState::Waiting { until: now, pause: None });
        self.log(NodeEvent::LegGone { peer: PeerId::ControlNode(index), leg });
        self.end_session_without_legs(now, place);
    }

    /// A session that has no leg, and gets none any more, is over.
    pub(super) fn end_session_without_legs(&mut self, now: Instant, place: usize) {
        let link = &self.control[place];
        if link.process.is_some() && !link.has_leg() && !link.awaits_leg() {
            self.control_session_over(now, place);
        }
    }

    /// The last leg has gone, with everything that came by it taken, or the control node has begun another session:
    /// this one is over, and its legs with it.
    //= spec/driver.md#after-the-loss-of-a-control-node
    //# A node MUST send the relayed and group frames that a lost control node had not settled again, in order and
    //# before anything new, to the next control node that accepts it.
    pub(super) fn control_session_over(&mut self, now: Instant, place: usize) {
        let was_attached = self.control[place].is_attached();
        self.end_captures_of(place);
        let seed = self.random.next_u64();
        let link = &mut self.control[place];
        link.stage = Stage::Down;
        link.register_until = None;
        link.telling.clear();
        link.has_clusters = true;
        let process = link.process.take().unwrap_or_default();
        link.session = link.session.wrapping_add(1);
        link.peer_session = None;
        let peer = PeerId::ControlNode(place as u8);
        for (leg, state) in link.legs.iter_mut().filter(|(_, state)| *state == LegState::Up) {
            self.outputs.push_back(Output::CloseLeg { peer, process, leg: *leg });
            *state = LegState::Waiting { until: now, pause: None };
        }
        link.heartbeat.stop();
        link.end_packets(now);
        self.drops.add_many(DropReason::NoChannel, link.association.take_refused());
        // In front of what waits: it was sent before.
        let mut resend = VecDeque::new();
        let (interfaces, former) = (&self.interfaces, &mut self.former);
        link.association.drain_unsent(&mut |_, octets, _| {
            if is_of_former(interfaces, octets) {
                former.drops.add(DropReason::NotMember);
            } else if is_to_be_sent_again(interfaces, octets) {
                let mut octets = octets.to_vec();
                octets[2] |= FrameHeader::RESENT;
                resend.push_back(octets);
            }
        });
        resend.append(&mut link.resend);
        link.resend = resend;
        link.association = association(Scheduler::Failover, seed);
        link.vif_by_channel = [VifNumber(0); 256];
        link.arenas = Arenas::default();
        for interface in self.interfaces.iter_mut().flatten() {
            interface.driver.end_vouching(place as u8);
        }
        if was_attached {
            self.log(NodeEvent::Detached { control_node: place as u8 });
            self.end_faults();
            self.set_relay(now, place, false);
            self.tell_peers_relay_drained(now);
        }
    }

    /// Sends a control message on channel 0. A control node that takes none for so long that the bounded queue
    /// is full has lost them: its session is as good as over, and heartbeats will say so.
    pub(super) fn send_control(&mut self, now: Instant, index: usize, message: &ControlMessage) {
        let octets = message.emit();
        let _ = self.control[index].association.send_control(now, &octets);
        let peer = PeerId::ControlNode(index as u8);
        tap_sent(&mut self.captures, peer, Channel::CONTROL, [&octets[..], &[]]);
    }

    // --- messages -------------------------------------------------------------------------------------------

    pub(super) fn handle_control(
        &mut self,
        now: Instant,
        index: usize,
        message: Result<ControlMessage, TlvError>,
    ) {
        match message {
            Ok(ControlMessage::Heartbeat { number }) => {
                self.send_control(now, index, &ControlMessage::HeartbeatReply { number });
            }
            Ok(ControlMessage::HeartbeatReply { .. }) => self.control[index].heartbeat.answered(),
            Ok(ControlMessage::Registered { epoch }) => {
                self.control[index].stage = Stage::Configuring;
                //= spec/driver.md#registration
                //# A node MUST give up a registration that nobody answers for a second, and MUST NOT give up one for being long
                //# about what the answer says.
                self.control[index].register_until = None;
                for interface in self.interfaces.iter_mut().flatten() {
                    interface.confirmed = false;
                }
                self.log(NodeEvent::Attached { control_node: index as u8, epoch });
            }
            Ok(ControlMessage::Refused { reason }) => {
                self.control[index].register_until = None;
                self.log(NodeEvent::Refused { control_node: index as u8, reason });
            }
            Ok(ControlMessage::Fenced) => self.outputs.push_back(Output::Fenced),
            Ok(ControlMessage::Fault(fault)) => {
                self.is_spoiled |= !fault.is_end();
                self.outputs.push_back(Output::Fault(fault));
            }
            Ok(ControlMessage::Interface(config)) => self.handle_interface(now, index, config),
            Ok(ControlMessage::InterfaceRemoved { vif }) => self.remove_interface(now, vif),
            Ok(ControlMessage::ConfigurationEnd { .. }) => self.handle_configuration_end(now, index),
            Ok(ControlMessage::ReportRequest { id }) => self.send_report(now, index, id),
            Ok(
                message @ (ControlMessage::Capture(_)
                | ControlMessage::CaptureCredit { .. }
                | ControlMessage::CaptureEnd { .. }),
            ) => self.handle_capture(now, index, message),
            Ok(ControlMessage::Check(order)) => self.handle_check(index, order),
            Ok(ControlMessage::ClusterRole { has }) => self.handle_cluster_role(now, index, has),
            Ok(ControlMessage::Trace(order)) => self.handle_trace(now, index, &order),
            Ok(message) => self.handle_lan_control(now, index, message),
            Err(_) => self.log(NodeEvent::BadControlMessage { peer: PeerId::ControlNode(index as u8) }),
        }
    }

    /// Messages about members, bindings and direct RVIs.
    fn handle_lan_control(&mut self, now: Instant, index: usize, message: ControlMessage) {
        match message {
            ControlMessage::Member(notice) => {
                for interface in self.interfaces.iter_mut().flatten() {
                    if interface.driver.lan() == notice.lan {
                        interface.handle_member(&notice);
                        interface.driver.review_listener(index as u8, &notice);
                    }
                }
                if notice.attached {
                    self.end_former(now, notice.node, notice.process);
                }
            }
            ControlMessage::Binding { mac, location } => {
                for interface in self.interfaces.iter_mut().flatten() {
                    interface.handle_binding(mac, &location);
                }
            }
            ControlMessage::Promiscuous { listener, listens } => {
                self.handle_listener(index, &listener, listens);
            }
            ControlMessage::GroupPolicy(policy) => self.handle_group_policy(now, policy),
            ControlMessage::GroupLimits(limits) => {
                if let Some(interface) = self.interface_mut(limits.vif) {
                    interface.group_meters.set(&limits);
                }
            }
            ControlMessage::Sender(notice) => {
                for interface in self.interfaces.iter_mut().flatten() {
                    if interface.driver.lan() == notice.lan {
                        interface.driver.handle_sender(&notice);
                    }
                }
            }
            ControlMessage::Grant(grant) => self.handle_grant(now, &grant),
            ControlMessage::Revoke { peer, reason, rvi } => {
                // A cut leaves the association by its legs; the other reasons end it too, until one association
                // can lose one of several RVIs by a barrier of its own.
                if reason == RevokeReason::Ended {
                    self.note_other_end_over(peer, rvi);
                }
                self.close_direct(now, peer);
                self.send_control(now, index, &ControlMessage::Revoked { rvi });
            }
            ControlMessage::LegCut { peer, leg } => self.cut_direct_leg(now, peer, LegNumber(leg)),
            ControlMessage::LegIntroduced { peer, leg } => {
                self.handle_introduced_leg(now, peer, LegNumber(leg))
            }
            _ => self.log(NodeEvent::BadControlMessage { peer: PeerId::ControlNode(index as u8) }),
        }
    }

    // --- what a lost control node had not settled -----------------------------------------------------------

    /// Sends messages of an earlier session again, as far as the ring takes them.
    pub(super) fn flush_resend(&mut self, now: Instant) {
        // What any lost control node left goes to the one that is there now.
        for other in 0..self.control.len() {
            while let Some(octets) = self.control[other].resend.pop_front() {
                if let Err(SendError::Full | SendError::NoLeg) = self.resend(now, &octets) {
                    self.control[other].resend.push_front(octets);
                    return;
                }
            }
        }
    }

    fn resend(&mut self, now: Instant, octets: &[u8]) -> Result<(), SendError> {
        let Ok(header) = FrameHeader::parse(octets, octets.len()) else { return Ok(()) };
        let frame = octets.get(header.kind.header_len()..).unwrap_or_default();
        let index = self.control_node_for(&header, frame).ok_or(SendError::NoLeg)?;
        let Some(interface) = self.interface(header.origin_vif) else {
            // It was taken away while a control node had what it sent.
            self.former.drops.add(DropReason::NotMember);
            return Ok(());
        };
        let config = interface.driver.config();
        let (relay, arp) = (config.relay_channel, config.arp_channel);
        let channel = if header.kind == FrameKind::Arp { arp } else { relay };
        let link = &mut self.control[index];
        link.association.send_parts(now, channel, 0, 0, &[Part::Private(octets)])?;
        tap_sent(&mut self.captures, PeerId::ControlNode(index as u8), channel, [&[], octets]);
        Ok(())
    }
}

/// True for a frame of an interface that was taken away.
fn is_of_former(interfaces: &[Option<Interface>], octets: &[u8]) -> bool {
    let Ok(header) = FrameHeader::parse(octets, octets.len()) else { return false };
    header.hop().is_none() && interfaces.get(usize::from(header.origin_vif.0)).is_none_or(Option::is_none)
}

/// True for a message that is a frame of this node and may not have come to its end.
fn is_to_be_sent_again(interfaces: &[Option<Interface>], octets: &[u8]) -> bool {
    let Ok(header) = FrameHeader::parse(octets, octets.len()) else { return false };
    if header.hop().is_some() {
        return false;
    }
    let interface = interfaces.get(usize::from(header.origin_vif.0)).and_then(Option::as_ref);
    !interface.is_some_and(|interface| interface.driver.has_ended(octets))
}
