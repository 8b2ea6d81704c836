//! Outward: a frame that the LAN server has admitted gets the form that outside is to see, and goes to the device.

use vlan_core::ethernet::{ETHERTYPE_ARP, EthernetHeader};
use vlan_core::limits::FRAME_LEN_MAX;
use vlan_core::security::claims;
use vlan_core::wire::Vnet;
use vlan_core::{DropReason, Instant, MacAddress};

use super::{Inside, LanProxy, Mode, is_of_bridges};
use crate::edge::Checked;
use crate::tag::is_tag;
use crate::too_big;
use crate::translate::{ARP_END, replace_stated, set_source};
use vlan_core::ip::{ICMPV6, Packet};

/// EtherType of RARP (RFC 903), which is about MACs.
const ETHERTYPE_RARP: u16 = 0x8035;
/// UDP ports of DHCP servers, to which clients and relay agents send (RFC 2131, 4.1; RFC 8415, 7.2).
const DHCP_SERVERS: [u16; 2] = [67, 547];

/// What became of a frame from inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outward<'p> {
    /// It went outside.
    Sent,
    /// It was dropped and counted.
    Dropped(DropReason),
    /// It was too long for outside and was dropped and counted; this frame goes to its sender.
    TooBig(&'p [u8]),
}

impl LanProxy {
    /// Takes a frame from inside for outside: to a group, or to a MAC that nobody of the platform has. `frame` is private and whole. What
    /// goes to the device is given to `out`, frame by frame with the state that the device needs.
    pub fn outward(
        &mut self,
        now: Instant,
        vnet: &Vnet,
        frame: &[u8],
        inside: &impl Inside,
        mut out: impl FnMut(&Vnet, &[u8]),
    ) -> Outward<'_> {
        self.counters.outward.add(frame.len());
        let checked = match self.check_outward(now, vnet, frame, inside) {
            Ok(checked) => checked,
            Err(reason) => return self.drop_outward(reason),
        };
        let packet = checked.packet();
        let is_too_long = checked.packet_len() > usize::from(self.edge.device().mtu);
        if is_too_long && packet.is_none_or(|packet| !packet.may_be_cut) {
            return self.refuse(now, frame, packet.as_ref());
        }
        let mode = self.mode;
        let dress = |octets: &mut [u8]| dress(mode, octets, packet.as_ref(), inside);
        let sent = &mut self.counters.sent;
        self.edge.send(&checked, dress, &mut |vnet, octets| {
            sent.add(octets.len());
            out(vnet, octets);
        });
        Outward::Sent
    }

    /// Counts a frame from inside that was not given to [`Self::outward`], since its device is not there.
    pub fn refused(&mut self, frame_len: usize, reason: DropReason) {
        self.counters.outward.add(frame_len);
        self.counters.drops.add(reason);
    }

    fn drop_outward(&mut self, reason: DropReason) -> Outward<'_> {
        self.counters.drops.add(reason);
        Outward::Dropped(reason)
    }

    fn check_outward<'f>(
        &mut self,
        now: Instant,
        vnet: &Vnet,
        frame: &'f [u8],
        inside: &impl Inside,
    ) -> Result<Checked<'f>, DropReason> {
        let header = EthernetHeader::parse(frame).ok_or(DropReason::TooShort)?;
        if frame.len() > FRAME_LEN_MAX {
            return Err(DropReason::TooLong);
        }
        //= spec/uplink.md#tags-of-members
        //# A frame from inside that has an 802.1Q tag MUST be dropped.
        if is_tag(header.ethertype) {
            return Err(DropReason::WrongTag);
        }
        self.check_macs(&header, inside)?;
        let packet = Packet::read(frame, header.ethertype, vnet.gso_type != 0)?;
        let end = match self.mode {
            Mode::Filtered { .. } => {
                check_hidden(frame, &header, packet.as_ref())?;
                if header.ethertype == ETHERTYPE_ARP { ARP_END } else { frame.len() }
            }
            Mode::Unfiltered => frame.len(),
        };
        let end = packet.map_or(end, |packet| packet.end);
        let checked = Checked::new(&frame[..end], vnet, packet)?;
        let is_stranger = self.mode == Mode::Unfiltered && !inside.is_own(header.source);
        if is_stranger && !self.sources.remember(now, header.source) {
            return Err(DropReason::StationsFull);
        }
        Ok(checked)
    }

    fn check_macs(&self, header: &EthernetHeader, inside: &impl Inside) -> Result<(), DropReason> {
        let is_system = |mac: MacAddress| matches!(self.mode, Mode::Filtered { system } if system == mac);
        if !header.source.is_station() || is_system(header.source) {
            return Err(DropReason::BadSource);
        }
        if is_of_bridges(header.destination) {
            return Err(DropReason::ReservedGroup);
        }
        if is_system(header.destination) || inside.is_own(header.destination) {
            return Err(DropReason::Hairpin);
        }
        Ok(())
    }

    /// Too long, and not to be cut.
    fn refuse(&mut self, now: Instant, frame: &[u8], packet: Option<&Packet>) -> Outward<'_> {
        self.counters.drops.add(DropReason::TooBigOutside);
        let sender = crate::translate::mac_at(frame, 6).unwrap_or(MacAddress::NULL);
        let mtu = self.edge.device().mtu;
        let is_made = packet.is_some_and(|packet| too_big::build(frame, packet, mtu, &mut self.error));
        if !is_made || !self.errors.admit(now, sender) {
            return Outward::Dropped(DropReason::TooBigOutside);
        }
        self.counters.errors += 1;
        Outward::TooBig(&self.error)
    }
}

/// In filtered mode, whether the MACs of a frame can be replaced.
//= spec/uplink.md#what-cannot-be-hidden
//# In filtered mode a frame MUST NOT go outside whose MACs the proxy does not replace: a message to a DHCP server, RARP, or ND
//# that it cannot read whole.
fn check_hidden(frame: &[u8], header: &EthernetHeader, packet: Option<&Packet>) -> Result<(), DropReason> {
    let port = packet.and_then(|packet| packet.udp_port(frame));
    if header.ethertype == ETHERTYPE_RARP || port.is_some_and(|port| DHCP_SERVERS.contains(&port)) {
        return Err(DropReason::HiddenMac);
    }
    // A fragment of ICMPv6 that is no ND is let through; the others' first fragments are not.
    let is_part = packet.is_some_and(|packet| packet.fragment.is_some() && packet.protocol == Some(ICMPV6));
    let discovery = packet.and_then(|packet| packet.neighbour_discovery(frame));
    if is_part && discovery.is_some() {
        return Err(DropReason::UnreadableHeaders);
    }
    if header.ethertype == ETHERTYPE_ARP || discovery.is_some() {
        claims::read(frame, frame.len())?;
    }
    Ok(())
}

/// Gives a frame for outside its source, and the MACs that it may state.
fn dress(mode: Mode, frame: &mut [u8], packet: Option<&Packet>, inside: &impl Inside) {
    let (Mode::Filtered { system }, Some(header)) = (mode, EthernetHeader::parse(frame)) else { return };
    let hidden = |mac| (mac == header.source || inside.is_own(mac)).then_some(system);
    replace_stated(frame, header.ethertype, packet, hidden);
    set_source(frame, system);
}
