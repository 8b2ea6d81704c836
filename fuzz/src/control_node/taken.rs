//! What a node is sent: right, and of its own LANs only.

use rvi::Scratch;
use vlan_core::wire::control::{Grant, LegAddress};
use vlan_core::wire::{ControlMessage, FrameHeader, RELAYED_HEADER_LEN, RelayedPacket};
use vlan_core::{Channel, LegNumber, NodeNumber, PairEpoch, PublicKey};

use super::Run;
use super::platform::{interface, is_member};

impl Run {
    /// Takes all that a node was sent, and checks it.
    pub(super) fn take(&mut self, player: usize) {
        let who = &mut self.players[player];
        let mut scratch = Scratch::default();
        while let Some(message) = who.association.receive(&mut scratch) {
            let mut octets = message.head.to_vec();
            octets.resize(message.len, 0);
            message.rest.copy_to(&mut octets[message.head.len()..]);
            if message.channel == Channel::CONTROL {
                let message = ControlMessage::parse(&octets).expect("a control message");
                check_control(who.number, &message);
                if let ControlMessage::Grant(grant) = message {
                    who.epoch = grant.association.epoch;
                }
            } else if message.channel == Channel::RELAYED_PACKETS {
                let header = RelayedPacket::parse(&octets, octets.len()).expect("a relayed packet");
                let is_true = octets[RELAYED_HEADER_LEN..].iter().all(|o| u16::from(*o) == header.node.0);
                assert!(is_true && header.node != who.number, "a packet of somebody else");
            } else if let Ok(header) = FrameHeader::parse(&octets, octets.len()) {
                let vif = message.channel.0.div_ceil(2);
                assert_eq!(header.lan, interface(who.number, vif).0, "a frame of another LAN");
                assert!(is_member(who.number, header.lan), "a frame to a non-member");
                // Node 0 is nobody: what an uplink let in.
                let is_from_member = header.origin == NodeNumber(0) || is_member(header.origin, header.lan);
                assert!(is_from_member, "a frame from a non-member");
                if header.hop().is_some() {
                    assert!([1, 2].contains(&who.number.0), "no server is asked");
                    who.asked = Some((message.channel, octets));
                }
            } else {
                let barrier = ControlMessage::parse(&octets).expect("a frame or a message in band");
                assert!(barrier.is_in_band());
            }
        }
        who.association.release();
        who.association.publish();
        while who.association.poll_event().is_some() {}
    }
}

fn check_control(node: NodeNumber, message: &ControlMessage) {
    match message {
        ControlMessage::Grant(Grant { lan, peer, association, .. }) => {
            assert!(is_member(node, *lan) && is_member(*peer, *lan) && node != *peer, "{message:?}");
            assert_ne!(association.epoch, PairEpoch(0), "{message:?}");
            assert_eq!(association.peer_key, PublicKey([peer.0 as u8; 32]), "{message:?}");
            for leg in &association.legs {
                // The address that the peer itself said, of a kind that both list there.
                let is_trusted = leg.leg == LegNumber(1);
                assert_eq!((leg.is_trusted, leg.fabric_key), (is_trusted, 5 + u16::from(is_trusted)));
                assert!(leg.address.is_usable(), "{message:?}");
                let LegAddress::Udp(address) = leg.address else { continue };
                assert_eq!(address.port(), 7000 + peer.0, "{message:?}");
            }
        }
        ControlMessage::Member(notice) => {
            assert!(is_member(node, notice.lan) && is_member(notice.node, notice.lan), "{message:?}");
        }
        ControlMessage::Interface(config) => assert!(is_member(node, config.lan), "{message:?}"),
        ControlMessage::Promiscuous { listener, .. } => {
            let is_true = is_member(node, listener.lan) && is_member(listener.node, listener.lan);
            assert!(is_true && listener.node != node && listener.node != NodeNumber(2), "{message:?}");
        }
        ControlMessage::Binding { location, .. } => assert!(is_member(node, location.lan), "{message:?}"),
        _ => {}
    }
}
