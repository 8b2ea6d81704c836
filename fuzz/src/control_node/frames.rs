//! What nodes send beside control messages: frames, ARP, barriers, relayed packets, right and wrong.

use rvi::Part;
use vlan_core::wire::{ControlMessage, FrameHeader, FrameKind, RelayedPacket, Vnet};
use vlan_core::{Channel, LanId, MacAddress, NodeNumber, PairEpoch, VifNumber};

use super::platform::interface;
use super::{NODES, Run};
use crate::script::Script;

impl Run {
    /// A frame on a relay channel, right but for what the script changes.
    pub(super) fn frame(&mut self, script: &mut Script<'_>, player: usize) -> Option<()> {
        let vif = script.below(2)? + 1;
        let destination = match script.below(6)? {
            0 => MacAddress::BROADCAST,
            node => interface(NodeNumber(node.into()), vif).1,
        };
        let kind = match destination.is_group() {
            true => FrameKind::Group,
            false if script.below(4)? == 0 => FrameKind::Promiscuous,
            false => FrameKind::Relay,
        };
        let len = 60 + usize::from(script.below(3)?) * 400;
        let mut frame = vec![0; len];
        frame[..6].copy_from_slice(&destination.0);
        frame[12..14].copy_from_slice(&[8, 0]);
        // A segment for the cluster, whose MAC node 5 would have: the address of nobody else is looked at.
        let (port, flags) = (script.below(4)?, script.octet()? & 0x17);
        frame[14..24].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6]);
        frame[26..34].copy_from_slice(&[10, 1, 0, player as u8 + 1, 10, 1, 0, 100]);
        frame[34..38].copy_from_slice(&[0, port, 0, 80]);
        frame[47] = flags;
        self.send_frame(script, player, vif, kind, Channel(2 * vif - 1), frame)
    }

    pub(super) fn arp(&mut self, script: &mut Script<'_>, player: usize) -> Option<()> {
        let vif = script.below(2)? + 1;
        let own = interface(self.players[player].number, vif).1;
        let (kind, sender, target) = (script.below(3)?, script.octet()?, script.octet()?);
        let operation = if kind == 1 {
            arp_server::build::Operation::Reply
        } else {
            arp_server::build::Operation::Request
        };
        let destination = if kind == 0 {
            MacAddress::BROADCAST
        } else {
            interface(NodeNumber(u16::from(target % 4) + 1), vif).1
        };
        let address = |tail| std::net::Ipv4Addr::new(10, 1, 0, tail);
        let frame = arp_server::build::arp(operation, destination, (own, address(sender)), address(target));
        self.send_frame(script, player, vif, FrameKind::Arp, Channel(2 * vif), frame.into())
    }

    fn send_frame(
        &mut self,
        script: &mut Script<'_>,
        player: usize,
        vif: u8,
        kind: FrameKind,
        channel: Channel,
        mut frame: Vec<u8>,
    ) -> Option<()> {
        let who = &mut self.players[player];
        let (lan, own) = interface(who.number, vif);
        frame[6..12].copy_from_slice(&own.0);
        let mut header = FrameHeader {
            kind,
            flags: 0,
            lan,
            origin: who.number,
            origin_vif: VifNumber(vif.into()),
            destination_vif: VifNumber(0),
            vnet: Vnet::default(),
            boot: who.process.boot_tag(),
            bseq: who.bseq,
        };
        match script.below(16)? {
            0 => header.flags = script.octet()?,
            1 => header.lan = LanId(script.octet()?.into()),
            2 => header.origin = NodeNumber(script.octet()?.into()),
            3 => header.bseq = script.u32()?,
            4 => frame[usize::from(script.below(60)?) % 42] = script.octet()?,
            5 => frame.truncate(script.octet()?.into()),
            6 => header.vnet = script.octets(10)?.first_chunk().map(Vnet::parse)?,
            _ => who.bseq = who.bseq.wrapping_add(1),
        }
        let octets = match kind {
            FrameKind::Arp => header.emit_arp(&Default::default(), &Default::default(), frame.len()).to_vec(),
            FrameKind::Promiscuous => {
                header.destination_vif = VifNumber(vif.into());
                header.emit_promiscuous(NodeNumber(script.below(5)?.into()), frame.len()).to_vec()
            }
            _ => header.emit(frame.len()).to_vec(),
        };
        let parts = [Part::Private(&octets), Part::Private(&frame)];
        let _ = who.association.send(self.now, channel, 0, 0, &parts);
        who.association.publish();
        Some(())
    }

    /// A server gives back what it was asked about, right but for what the script changes; it may do so again.
    pub(super) fn give_back(&mut self, script: &mut Script<'_>, player: usize) -> Option<()> {
        let by = usize::from(script.below(NODES)?);
        let (at, change) = (usize::from(script.octet()?), script.octet()?);
        let Some((channel, mut octets)) = self.players[by].asked.clone() else { return Some(()) };
        if let Some(octet) = octets.get_mut(at) {
            *octet ^= change;
        }
        let who = &mut self.players[player];
        let _ = who.association.send(self.now, channel, 0, 0, &[Part::Private(&octets)]);
        who.association.publish();
        Some(())
    }

    pub(super) fn barrier(&mut self, script: &mut Script<'_>, player: usize) -> Option<()> {
        let vif = script.below(2)? + 1;
        let who = &mut self.players[player];
        let message = ControlMessage::Barrier {
            lan: interface(who.number, vif).0,
            origin: who.number,
            origin_vif: VifNumber(vif.into()),
            destination: NodeNumber(script.below(5)?.into()),
            destination_vif: VifNumber(script.below(3)?.into()),
            boot: who.process.boot_tag(),
            id: 1,
        };
        let octets = message.emit();
        let _ = who.association.send(self.now, Channel(2 * vif - 1), 0, 0, &[Part::Private(&octets)]);
        Some(())
    }

    /// A packet for another node, which says whose it is; right but for what the script changes.
    pub(super) fn relay(&mut self, script: &mut Script<'_>, player: usize) -> Option<()> {
        let who = &mut self.players[player];
        let node = NodeNumber(script.below(NODES + 1)?.into());
        let epoch = PairEpoch(who.epoch.0.wrapping_add(script.below(2)?.into()));
        let packet = vec![who.number.0 as u8; usize::from(script.octet()?) * 5];
        let mut octets = RelayedPacket { node, epoch }.emit(packet.len());
        if let Some(octet) = octets.get_mut(usize::from(script.octet()?)) {
            *octet ^= script.octet()?;
        }
        let parts = [Part::Private(octets.as_slice()), Part::Private(&packet)];
        who.association.offer(self.now, Channel::RELAYED_PACKETS, 0, &parts);
        Some(())
    }
}
