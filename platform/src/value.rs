//! The small languages inside the file's strings: names, addresses, legs, durations. Each reader gives a value or
//! says what is wrong and what to do; where it stands is the caller's knowledge.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use vlan_core::wire::control::InterfaceAddress;

use crate::model::{EtherDriver, Leg, Subnet};

/// What is wrong with a value, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    pub what: String,
    pub hint: String,
}

pub fn wrong<T>(what: impl Into<String>, hint: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { what: what.into(), hint: hint.into() })
}

/// Longest name of a node, control node, fabric, LAN or host, in octets: `NAME-NODE` of a namespace must stay a
/// file name (255 octets) and a line of a table readable.
const NAME_LEN_MAX: usize = 63;

/// Checks a name: it becomes part of file names, namespaces and counters.
//= spec/platform-file.md#names
//# A name MUST be 1 to 63 letters, digits, `-`, `_` or `.`, beginning with a letter or a digit.
pub fn name(text: &str) -> Result<&str, Wrong> {
    let first_fits = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest_fits = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if first_fits && rest_fits && text.len() <= NAME_LEN_MAX {
        return Ok(text);
    }
    wrong(
        format!("{text:?} is not a name"),
        "use 1 to 63 letters, digits, '-', '_' or '.', beginning with a letter or a digit",
    )
}

/// Longest name of a network interface: Linux' IFNAMSIZ less the terminating zero.
const INTERFACE_NAME_LEN_MAX: usize = 15;

/// Checks the name of a network interface.
//= spec/platform-file.md#interface-names
//# An interface name MUST be 1 to 15 octets of printable ASCII without `/`, `:` and `%`, and none of
//# `.`, `..`, `lo`, `all` and `default`.
pub fn interface_name(text: &str) -> Result<&str, Wrong> {
    if text.len() > INTERFACE_NAME_LEN_MAX {
        return wrong(
            format!("the interface name {text:?} has {} octets", text.len()),
            "an interface name has at most 15 octets: set a shorter `interface`",
        );
    }
    let printable = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%'));
    if text.is_empty() || !printable || matches!(text, "." | ".." | "lo" | "all" | "default") {
        return wrong(
            format!("{text:?} cannot be the name of an interface"),
            "use printable ASCII without '/', ':' and '%', and not \"lo\", \"all\" or \"default\"",
        );
    }
    Ok(text)
}

/// An address that one station can have.
pub fn station_address(text: &str) -> Result<IpAddr, Wrong> {
    let Ok(address) = text.parse::<IpAddr>() else {
        return wrong(
            format!("{text:?} is not an IP address"),
            "write an IPv4 address such as 10.1.0.1 or an IPv6 address such as fd00:1::1",
        );
    };
    let unusable = match address {
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("an address of \"this network\""),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("an IPv4 address in IPv6 clothes"),
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ => None,
    };
    match unusable {
        Some(kind) => wrong(format!("{text} is {kind}"), "give an address that one station can have"),
        None => Ok(address),
    }
}

fn prefix_len_max(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Splits `ADDRESS/PREFIX`, checking the prefix against the address's family.
fn with_prefix(text: &str, parse: impl Fn(&str) -> Result<IpAddr, Wrong>) -> Result<(IpAddr, u8), Wrong> {
    let Some((address_text, prefix_text)) = text.split_once('/') else {
        let address = parse(text)?;
        return wrong(
            format!("{text:?} has no prefix length"),
            format!("write {text}/{}", if address.is_ipv4() { 24 } else { 64 }),
        );
    };
    let address = parse(address_text)?;
    let longest = prefix_len_max(address);
    let digits = !prefix_text.is_empty() && prefix_text.bytes().all(|b| b.is_ascii_digit());
    match prefix_text.parse::<u8>() {
        Ok(prefix) if digits && (1..=longest).contains(&prefix) => Ok((address, prefix)),
        _ => wrong(
            format!("{prefix_text:?} is not a prefix length"),
            format!("write a number from 1 to {longest} after the '/'"),
        ),
    }
}

fn host_bits(address: IpAddr, prefix: u8) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4) & (u32::MAX.checked_shr(prefix.into()).unwrap_or(0))),
        IpAddr::V6(v6) => u128::from(v6) & (u128::MAX.checked_shr(prefix.into()).unwrap_or(0)),
    }
}

/// An address with its prefix, as an interface has it: `10.1.0.1/24`.
//= spec/platform-file.md#addresses
//# An interface address MUST be a unicast address with a prefix length, and in IPv4 neither the first nor the last
//# address of a subnet of more than two.
pub fn interface_address(text: &str) -> Result<InterfaceAddress, Wrong> {
    let (address, prefix) = with_prefix(text, station_address)?;
    if address.is_ipv4() && prefix < 31 {
        let bits = host_bits(address, prefix);
        let all_ones = host_bits(IpAddr::V4(Ipv4Addr::BROADCAST), prefix);
        let hint = "give an address that one station of the subnet can have";
        if bits == 0 {
            return wrong(format!("{text} is the address of the subnet itself"), hint);
        }
        if bits == all_ones {
            return wrong(format!("{text} is the broadcast address of its subnet"), hint);
        }
    }
    Ok(InterfaceAddress { address, prefix })
}

/// A subnet: `172.31.1.0/24`.
pub fn subnet(text: &str) -> Result<Subnet, Wrong> {
    let parse = |t: &str| match t.parse::<IpAddr>() {
        Ok(address) => Ok(address),
        Err(_) => wrong(format!("{t:?} is not an IP address"), "write a subnet such as 172.31.1.0/24"),
    };
    let (address, prefix) = with_prefix(text, parse)?;
    if host_bits(address, prefix) != 0 {
        return wrong(
            format!("{text} has bits beyond its prefix"),
            "write the first address of the subnet, such as 172.31.1.0/24",
        );
    }
    let subnet = Subnet { address, prefix };
    // An address that is good on one link only needs the link's name beside it, which no leg has.
    let is_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let first = subnet.station(0).map(|first| station_address(&first.to_string()));
    if is_link_local || !matches!(first, Some(Ok(_))) {
        return wrong(format!("{text} is not a subnet of stations"), "write a subnet such as 172.31.1.0/24");
    }
    Ok(subnet)
}

/// True when `other` lies in the subnet of `address`.
pub fn in_subnet(address: &InterfaceAddress, other: IpAddr) -> bool {
    address.address.is_ipv4() == other.is_ipv4() && {
        let flip = |a: IpAddr| match a {
            IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
            IpAddr::V6(v6) => u128::from(v6),
        };
        let differ = flip(address.address) ^ flip(other);
        differ.leading_zeros() >= u32::from(address.prefix)
    }
}

/// `ADDRESS:PORT`, IPv6 in brackets, the port not 0.
pub fn socket_address(text: &str) -> Result<SocketAddr, Wrong> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => wrong(
            format!("{text:?} is not an address with a port"),
            "write ADDRESS:PORT, such as 127.0.0.1:9101 or [::1]:9101",
        ),
    }
}

const LEG_HINT: &str =
    "a leg is \"unix\", \"unix:PATH\", \"udp[:ADDRESS[:PORT]]\" or \"ether[:DEVICE[:DRIVER]]\"";

/// One leg.
//= spec/platform-file.md#legs
//# A leg MUST be written as `unix`, `unix:PATH`, `udp`, `udp:ADDRESS`, `udp:ADDRESS:PORT`, `ether`, `ether:DEVICE`,
//# `ether:DEVICE:DRIVER` or `ether::DRIVER`, an IPv6 address in brackets.
pub fn leg(text: &str) -> Result<Leg, Wrong> {
    let (kind, rest) = match text.split_once(':') {
        Some((kind, rest)) => (kind, Some(rest)),
        None => (text, None),
    };
    match (kind, rest) {
        ("unix", None) => Ok(Leg::Unix { path: None }),
        ("unix", Some(path)) => Ok(Leg::Unix { path: Some(Path::new(socket_path(path)?).to_owned()) }),
        ("udp", None) => Ok(Leg::Udp { address: None, port: None }),
        ("udp", Some(rest)) => udp_leg(text, rest),
        ("ether", None) => Ok(Leg::Ether { device: None, driver: EtherDriver::Auto }),
        ("ether", Some(rest)) => ether_leg(rest),
        _ => wrong(format!("{text:?} is not a leg"), LEG_HINT),
    }
}

/// The path of a unix socket: not empty, no zero octet.
pub fn socket_path(path: &str) -> Result<&str, Wrong> {
    if path.is_empty() {
        return wrong("a unix socket without a path", "write \"unix:PATH\"");
    }
    file_path(path)
}

/// A path that the system can open.
pub fn file_path(path: &str) -> Result<&str, Wrong> {
    if path.is_empty() || path.contains('\0') {
        return wrong(
            format!("{path:?} is not a path"),
            "give a path, relative to the platform file or absolute",
        );
    }
    Ok(path)
}

/// `DEVICE`, `DEVICE:DRIVER` or `:DRIVER`: the kernel has no device with a colon in its name.
fn ether_leg(rest: &str) -> Result<Leg, Wrong> {
    let (device, word) = match rest.split_once(':') {
        Some((device, word)) => (Some(device).filter(|device| !device.is_empty()), Some(word)),
        None => (Some(rest), None),
    };
    let device = device.map(interface_name).transpose()?.map(ToOwned::to_owned);
    let of_word = |word: &str| EtherDriver::ALL.into_iter().find(|driver| driver.word() == word);
    match word.map(of_word) {
        None => Ok(Leg::Ether { device, driver: EtherDriver::Auto }),
        Some(Some(driver)) => Ok(Leg::Ether { device, driver }),
        Some(None) => wrong(
            format!("an ether leg's device cannot be driven by {:?}", word.unwrap_or_default()),
            "the driver of an ether leg is \"auto\", \"af-xdp\" or \"af-packet\": write \"ether:DEVICE:af-xdp\"",
        ),
    }
}

fn udp_leg(text: &str, rest: &str) -> Result<Leg, Wrong> {
    let (address_text, port_text) = if let Some(inner) = rest.strip_prefix('[') {
        match inner.split_once(']') {
            Some((address, "")) => (address, None),
            Some((address, port)) if port.starts_with(':') => (address, Some(&port[1..])),
            _ => {
                return wrong(format!("the leg {text:?} has no closing bracket"), "write \"udp:[::1]:7401\"");
            }
        }
    } else if rest.matches(':').count() > 1 {
        return wrong(
            format!("the leg {text:?} has an IPv6 address without brackets"),
            "put it in brackets: \"udp:[::1]:7401\"",
        );
    } else {
        match rest.split_once(':') {
            Some((address, port)) => (address, Some(port)),
            None => (rest, None),
        }
    };
    let Ok(address) = address_text.parse::<IpAddr>() else {
        return wrong(format!("{address_text:?} in the leg {text:?} is not an IP address"), LEG_HINT);
    };
    if address.is_unspecified() || address.is_multicast() {
        return wrong(
            format!("{address} in the leg {text:?} is not an address of one machine"),
            "give the address that peers shall send to",
        );
    }
    let port = match port_text {
        None => None,
        Some(port) => match port.parse::<u16>() {
            Ok(number) if port.bytes().all(|b| b.is_ascii_digit()) => Some(number).filter(|n| *n != 0),
            _ => {
                return wrong(
                    format!("{port:?} in the leg {text:?} is not a port"),
                    "write a number from 1 to 65535, or leave the port out",
                );
            }
        },
    };
    Ok(Leg::Udp { address: Some(address), port })
}

/// A duration: `500ms`, `1s`, `2m`; from 1 ms to one hour.
pub fn duration(text: &str) -> Result<Duration, Wrong> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    let duration_ms = number.parse::<u64>().ok().zip(unit_ms).and_then(|(n, unit)| n.checked_mul(unit));
    match duration_ms {
        Some(ms) if (1..=3_600_000).contains(&ms) => Ok(Duration::from_millis(ms)),
        _ => wrong(
            format!("{text:?} is not a duration"),
            "write a number and a unit, such as 500ms, 1s or 2m; 1ms to 60m",
        ),
    }
}

/// The word of `words` that the writer probably meant: at most two slips away, and fewer than half of its letters.
pub fn meant<'w>(text: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    const WORD_LEN_MAX: usize = 64;
    if text.len() > WORD_LEN_MAX {
        return None;
    }
    words
        .filter(|word| word.len() <= WORD_LEN_MAX)
        .map(|word| (slips(text, word), word))
        .filter(|(slips, word)| *slips <= 2 && slips * 2 < word.chars().count().max(2))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, word)| word)
}

/// Letters to insert, remove or replace, or neighbours to swap, to get from `a` to `b`.
fn slips(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_leg_is_read() {
        //= spec/platform-file.md#legs
        //= type=test
        //# A leg MUST be written as `unix`, `unix:PATH`, `udp`, `udp:ADDRESS`, `udp:ADDRESS:PORT`, `ether`, `ether:DEVICE`,
        //# `ether:DEVICE:DRIVER` or `ether::DRIVER`, an IPv6 address in brackets.
        let udp = |address: &str, port| Ok(Leg::Udp { address: Some(address.parse().unwrap()), port });
        assert_eq!(leg("unix"), Ok(Leg::Unix { path: None }));
        assert_eq!(leg("unix:run/a:b"), Ok(Leg::Unix { path: Some("run/a:b".into()) }));
        assert_eq!(leg("udp"), Ok(Leg::Udp { address: None, port: None }));
        assert_eq!(leg("udp:127.0.0.1"), udp("127.0.0.1", None));
        assert_eq!(leg("udp:127.0.0.1:0"), udp("127.0.0.1", None));
        assert_eq!(leg("udp:127.0.0.1:7401"), udp("127.0.0.1", Some(7401)));
        assert_eq!(leg("udp:[::1]"), udp("::1", None));
        assert_eq!(leg("udp:[fd00::1]:9"), udp("fd00::1", Some(9)));
        let ether = |device: Option<&str>, driver| Ok(Leg::Ether { device: device.map(Into::into), driver });
        assert_eq!(leg("ether:eth0"), ether(Some("eth0"), EtherDriver::Auto));
        assert_eq!(leg("ether"), ether(None, EtherDriver::Auto));
        assert_eq!(leg("ether:eth0:af-xdp"), ether(Some("eth0"), EtherDriver::AfXdp));
        assert_eq!(leg("ether:eth0:auto"), ether(Some("eth0"), EtherDriver::Auto));
        assert_eq!(leg("ether::af-packet"), ether(None, EtherDriver::AfPacket));
        assert!(leg("ether:eth0:tap").unwrap_err().hint.contains("af-xdp"));
        for text in ["ether", "ether:eth0", "ether:eth0:af-xdp", "ether::af-packet"] {
            assert_eq!(leg(text).unwrap().to_string(), text);
        }
        for bad in [
            "",
            "unx",
            "unix:",
            "udp:",
            "udp:x",
            "udp:::1",
            "udp:[::1",
            "udp:[::1]9",
            "udp:1.2.3.4:70000",
            "udp:1.2.3.4:+7",
            "udp:0.0.0.0:1",
            "udp:[ff02::1]",
            "ether:",
            "ether:a-name-that-is-too-long",
            "UNIX",
        ] {
            assert!(leg(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_interface_address_is_unicast_with_a_prefix() {
        //= spec/platform-file.md#addresses
        //= type=test
        //# An interface address MUST be a unicast address with a prefix length, and in IPv4 neither the first nor the last
        //# address of a subnet of more than two.
        for good in [
            "10.1.0.1/24",
            "10.0.0.0/31",
            "10.0.0.1/32",
            "fd00:1::1/64",
            "fe80::1/64",
            "::2/1",
            "2001:db8::/128",
        ] {
            assert!(interface_address(good).is_ok(), "{good}");
        }
        for bad in [
            "10.1.0.1",
            "10.1.0.1/",
            "10.1.0.1/33",
            "10.1.0.1/0",
            "10.1.0.1/+8",
            "10.1.0.0/24",
            "10.1.0.255/24",
            "224.0.0.1/24",
            "127.0.0.1/8",
            "0.1.2.3/8",
            "255.255.255.255/32",
            "::/64",
            "::1/128",
            "ff02::1/64",
            "::ffff:10.0.0.1/96",
            "fd00::1/129",
            "fd00::1",
            "ten/24",
            "10.1.0.1/24/24",
            "",
        ] {
            assert!(interface_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_subnet_holds_its_own_addresses_only() {
        let home = interface_address("10.1.0.1/24").unwrap();
        assert!(in_subnet(&home, "10.1.0.254".parse().unwrap()));
        assert!(!in_subnet(&home, "10.1.1.1".parse().unwrap()));
        assert!(!in_subnet(&home, "a01::1".parse().unwrap()));
        let six = interface_address("fd00::1/128").unwrap();
        assert!(in_subnet(&six, "fd00::1".parse().unwrap()));
        assert!(!in_subnet(&six, "fd00::2".parse().unwrap()));
        assert!(subnet("172.31.1.0/24").is_ok());
        assert!(subnet("172.31.1.1/24").is_err());
        assert!(subnet("172.31.1.0").is_err());
        assert!(subnet("fd31::/64").is_ok());
        for bad in ["127.0.0.0/8", "0.0.0.0/8", "224.0.0.0/8", "::/64", "::1/128", "fe80::/64", "ff00::/8"] {
            assert!(subnet(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_become_file_names_and_interface_names_suit_the_kernel() {
        //= spec/platform-file.md#names
        //= type=test
        //# A name MUST be 1 to 63 letters, digits, `-`, `_` or `.`, beginning with a letter or a digit.
        for good in ["a", "web1", "cn-a", "1.2_3", &"x".repeat(63)] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".", "a b", "a/b", "b\u{fc}ro", &"x".repeat(64)] {
            assert!(name(bad).is_err(), "{bad}");
        }
        //= spec/platform-file.md#interface-names
        //= type=test
        //# An interface name MUST be 1 to 15 octets of printable ASCII without `/`, `:` and `%`, and none of
        //# `.`, `..`, `lo`, `all` and `default`.
        for good in ["red", "eth0.100", "123456789012345"] {
            assert!(interface_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "lo",
            "all",
            "default",
            "a/b",
            "a:1",
            "tap%d",
            "a b",
            "\u{e9}",
            "1234567890123456",
        ] {
            assert!(interface_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_have_a_unit_and_a_bound() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("60m"), Ok(Duration::from_secs(3600)));
        for bad in
            ["", "1", "s", "0s", "61m", "1.5s", "-1s", "99999999999999999999s", "18446744073709551615m"]
        {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_recognised_and_another_word_is_not() {
        let words = ["hash", "round-robin", "least-connections", "per-packet"];
        assert_eq!(meant("hahs", words.into_iter()), Some("hash"));
        assert_eq!(meant("round_robin", words.into_iter()), Some("round-robin"));
        assert_eq!(meant("random", words.into_iter()), None);
        assert_eq!(meant("", words.into_iter()), None);
        assert_eq!(meant(&"x".repeat(100_000), words.into_iter()), None);
    }
}
