//! Unicast frames of one member to another, one behind the other: who gets them is looked up once, and they are counted at the
//! end.

use rvi::{Body, Framed, Message, SendError, Sent};
use vlan_core::server::RelayRun;
use vlan_core::wire::frame::{FRAME_HEADER_LEN, FrameHeader};
use vlan_core::{Channel, Instant};

use crate::control_node::ControlNode;
use crate::control_node::relay::Inbound;
use crate::control_node::session::{Account, Session};

/// Frames that go the same way.
pub(super) struct Run {
    /// Place of the LAN.
    lan: usize,
    /// The channel that they come by.
    from: Channel,
    frames: RelayRun,
    /// Place of the receiver's session, and the channel there.
    place: usize,
    to: Channel,
}

impl ControlNode {
    /// The run that the unicast frame in `message` is of, which has just gone its way: none where a frame's way is not simple.
    pub(super) fn begin_run(&self, session: &Session, message: &Message<'_>) -> Option<Run> {
        let channel = session.by_channel[usize::from(message.channel.0)];
        let (lan, header) = (channel.lan()?, FrameHeader::parse(message.head, message.len).ok()?);
        let server = &self.lans[lan].server;
        let frames = server.run(channel.slot, &header, &message.head[header.kind.header_len()..])?;
        let route = self.lans[lan].routes[usize::from(frames.to.0)];
        let place = route.session?;
        // What goes by packets is kept until it is acknowledged; the sender's own session is taken out.
        self.sessions[place].as_ref().filter(|receiver| receiver.packets.is_none())?;
        Some(Run { lan, from: message.channel, frames, place, to: route.relay })
    }

    /// Passes the frame in `message` on if it is the next one of the run. False: it is not, and nothing has been done.
    #[inline(always)]
    pub(super) fn pass_on(
        &mut self,
        now: Instant,
        session: &mut Session,
        run: &mut Run,
        message: &Message<'_>,
    ) -> bool {
        let Some(Some(receiver)) = self.sessions.get_mut(run.place) else { return false };
        let Some(lan) = self.lans.get_mut(run.lan).filter(|_| message.channel == run.from) else {
            return false;
        };
        let Some(header) = lan.server.take(&mut run.frames, message.head, message.len) else { return false };
        let frame = Body { head: &message.head[FRAME_HEADER_LEN..], rest: message.rest };
        let sent = receiver.association.send(now, run.to, 0, session.charge(), Framed { header, frame });
        if sent == Ok(Sent::Ring) {
            run.frames.sent(message.len - FRAME_HEADER_LEN);
        } else {
            self.not_at_once(now, session, run, message, sent);
        }
        true
    }

    /// A frame of a run waits for room, or is lost.
    #[cold]
    #[inline(never)]
    fn not_at_once(
        &mut self,
        now: Instant,
        session: &mut Session,
        run: &Run,
        message: &Message<'_>,
        sent: Result<Sent, SendError>,
    ) {
        let frame_len = message.len - FRAME_HEADER_LEN;
        let account = &mut Account::of(session);
        let lost = self.note_sent(now, account, (run.lan, run.frames.to), run.to, frame_len, sent);
        if let (Some(reason), Ok(header)) = (lost, FrameHeader::parse(message.head, message.len)) {
            let inbound = Inbound { lan: run.lan, from: run.frames.from, header, message };
            self.note_drop(now, &inbound, reason);
        }
    }

    /// Brings the counters up to date, and sees whether the pair has traffic worth a direct RVI.
    #[inline]
    pub(super) fn end_run(&mut self, now: Instant, session: &Session, run: Option<Run>) {
        let Some(Run { lan, frames, .. }) = run else { return };
        if self.lans[lan].server.end_run(now, &frames) {
            self.consider_direct(session, lan, frames.from, frames.to);
        }
    }
}
