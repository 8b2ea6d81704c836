//! Who may send what: each rule with what it lets through and what not.

use super::*;
use crate::security::claims::tests::{arp, na, ns, ra, rs, udp4, udp6};

fn sender(addresses: &[&str]) -> Sender {
    let own = OwnAddresses::new(addresses.iter().map(|address| address.parse().unwrap()).collect());
    Sender { own, ..Sender::default() }
}

fn own() -> Sender {
    sender(&["10.1.0.1", "fd00:1::1", "fe80::1"])
}

fn check(sender: &Sender, frame: &[u8]) -> Result<(), DropReason> {
    let verdict = sender.check(PortSecurity::Address, frame, frame.len()).map(|_| ());
    // The quick look never lets through what is refused.
    assert!(verdict.is_ok() || !sender.is_plain(PortSecurity::Address, frame));
    verdict
}

#[test]
fn a_frame_comes_from_an_address_of_its_sender() {
    //= spec/port-security.md#addresses
    //= type=test
    //# Under port security `address` a frame MUST be discarded whose IP source, ARP sender or advertised neighbour is not
    //# an address of the sending interface.
    let sender = own();
    for good in [
        udp4("10.1.0.1", 5000, 7),
        udp6("fd00:1::1", 5000, 7),
        arp(1, "10.1.0.1", "10.1.0.2"),
        arp(2, "10.1.0.1", "10.1.0.2"),
        ns("fe80::1", "fd00:1::2"),
        na("fd00:1::1", "fe80::1"),
    ] {
        assert_eq!(check(&sender, &good), Ok(()), "{good:02x?}");
    }
    for spoofed in [
        udp4("10.1.0.2", 5000, 7),
        udp6("fd00:1::2", 5000, 7),
        arp(1, "10.1.0.2", "10.1.0.3"),
        arp(2, "10.1.0.2", "10.1.0.3"),
        ns("fe80::2", "fd00:1::2"),
        na("fd00:1::1", "fd00:1::2"),
        na("fd00:1::2", "fd00:1::1"),
    ] {
        assert_eq!(check(&sender, &spoofed), Err(DropReason::SourceAddress), "{spoofed:02x?}");
        assert_eq!(sender.check(PortSecurity::Mac, &spoofed, spoofed.len()), Ok(None));
    }
    let no_ip = [&[2; 12][..], &[0x88, 0xcc], &[0; 46]].concat();
    assert_eq!(check(&sender, &no_ip), Ok(()));
}

#[test]
fn a_frame_from_no_address_asks_for_one_or_reports() {
    //= spec/port-security.md#senders-without-an-address
    //= type=test
    //# Under port security `address` a frame from no address MUST be discarded unless it is a probe for an address, a
    //# router solicitation, a membership report or a message of a DHCP client.
    let sender = own();
    for good in [arp(1, "0.0.0.0", "10.1.0.1"), udp4("0.0.0.0", 68, 67), ns("::", "fd00:1::1"), rs("::")] {
        assert_eq!(check(&sender, &good), Ok(()), "{good:02x?}");
    }
    for bad in [udp4("0.0.0.0", 5000, 67), udp6("::", 5000, 7), arp(2, "0.0.0.0", "10.1.0.1")] {
        assert_eq!(check(&sender, &bad), Err(DropReason::SourceAddress), "{bad:02x?}");
    }
    let mut report = udp4("0.0.0.0", 0, 0);
    report[23] = 2;
    assert_eq!(check(&sender, &report), Ok(()));
    let mut no_packet = udp4("10.1.0.1", 5000, 7);
    no_packet[14] = 0;
    assert_eq!(check(&sender, &no_packet), Err(DropReason::SourceAddress));
}

#[test]
fn a_probe_for_another_address_is_for_the_caller_to_judge() {
    let sender = own();
    let wanted = |frame: &[u8]| sender.check(PortSecurity::Address, frame, frame.len());
    assert_eq!(wanted(&arp(1, "0.0.0.0", "10.1.0.9")), Ok("10.1.0.9".parse().ok()));
    assert_eq!(wanted(&ns("::", "fe80::9")), Ok("fe80::9".parse().ok()));
    assert_eq!(wanted(&ns("::", "fe80::1")), Ok(None));
}

#[test]
fn a_router_forwards_what_others_send_but_speaks_for_itself() {
    //= spec/port-security.md#routed-packets
    //= type=test
    //# A member with the role of a router MAY send IP packets from any address but ARP and ND from its own alone.
    let router = Sender { roles: Roles { router: true, dhcp_server: false }, ..own() };
    assert_eq!(check(&router, &udp4("192.0.2.1", 5000, 7)), Ok(()));
    assert!(router.is_plain(PortSecurity::Address, &udp4("192.0.2.1", 5000, 7)));
    assert_eq!(check(&router, &arp(2, "10.1.0.2", "10.1.0.3")), Err(DropReason::SourceAddress));
    assert_eq!(check(&router, &na("fd00:1::2", "fe80::1")), Err(DropReason::SourceAddress));
}

#[test]
fn only_a_dhcp_server_answers_dhcp() {
    //= spec/port-security.md#dhcp-servers
    //= type=test
    //# Under port security a message that goes from a port of DHCP servers or to one of DHCP clients MUST be discarded
    //# when its sender has not the role of a DHCP server.
    let server = Sender { roles: Roles { dhcp_server: true, router: false }, ..own() };
    for offer in [
        udp4("10.1.0.1", 67, 68),
        udp4("10.1.0.1", 67, 67),
        udp4("10.1.0.1", 1067, 68),
        udp6("fe80::1", 547, 546),
        udp6("fe80::1", 1547, 546),
    ] {
        for security in [PortSecurity::Mac, PortSecurity::Address] {
            let verdict = own().check(security, &offer, offer.len());
            assert_eq!(verdict, Err(DropReason::DhcpGuard), "{offer:02x?}");
            assert_eq!(server.check(security, &offer, offer.len()), Ok(None), "{offer:02x?}");
            assert!(!own().is_plain(security, &offer));
        }
        assert_eq!(own().check(PortSecurity::Off, &offer, offer.len()), Ok(None));
    }
    for request in [udp4("0.0.0.0", 68, 67), udp6("fe80::1", 546, 547)] {
        assert_eq!(check(&own(), &request), Ok(()));
    }
}

#[test]
fn only_a_router_advertises() {
    //= spec/port-security.md#routers
    //= type=test
    //# Under port security a router advertisement or redirect MUST be discarded when its sender has not the role of a
    //# router.
    let router = Sender { roles: Roles { router: true, dhcp_server: false }, ..own() };
    let mut redirect = ra("fe80::1");
    redirect[54] = 137;
    redirect.resize(14 + 40 + 40, 0);
    redirect[19] = 40;
    for message in [ra("fe80::1"), redirect] {
        for security in [PortSecurity::Mac, PortSecurity::Address] {
            let verdict = own().check(security, &message, message.len());
            assert_eq!(verdict, Err(DropReason::RaGuard));
            assert_eq!(router.check(security, &message, message.len()), Ok(None));
        }
    }
    assert_eq!(check(&own(), &rs("fe80::1")), Ok(()));
}
