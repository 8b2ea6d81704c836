//! What differs between two platform files: what a running platform can be changed to, and what it cannot.

use std::fmt::Display;

use vlan_core::NodeNumber;
use vlan_core::security::{Limits, Rate, Roles};

use crate::management::Change;
use crate::model::{Lan, Member, Platform};

/// What is to be done so that a running platform is as another file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The members with other options: each its LAN's and its own place in the other file.
    pub members: Vec<(usize, usize)>,
    /// Each difference.
    pub list: Vec<Change>,
}

impl Platform {
    /// What changes when `other` takes the place of this platform while it runs: addresses, gateways, aliases, roles,
    /// learned stations and limits of members.
    ///
    /// # Errors
    /// With everything that differs and cannot change yet, in words.
    //= spec/control-node.md#applying-a-platform-file
    //# A control node MUST apply all of a platform file or nothing of it, and refuse one that has a mistake, asks for what is
    //# not built yet, or differs in more than addresses, gateways, aliases, roles, learned stations and limits of members.
    pub fn changes_to(&self, other: &Self) -> Result<Changes, Vec<String>> {
        let mut fixed = Fixed::default();
        fixed.compare("the platform's name", &self.name, &other.name);
        fixed.compare("`cabinet`", &self.cabinet, &other.cabinet);
        fixed.compare("`grant-key-file`", &self.grant_key_file, &other.grant_key_file);
        fixed.compare("[[fabric]]", &self.fabrics, &other.fabrics);
        fixed.compare("[[control-node]]", &self.control_nodes, &other.control_nodes);
        fixed.compare("[[node]]", &self.nodes, &other.nodes);
        fixed.compare("[[lab.outside]]", &self.outside, &other.outside);
        let lans = |platform: &Self| platform.lans.iter().map(|l| (l.id, l.name.clone())).collect::<Vec<_>>();
        fixed.compare("the LANs, their names, numbers and order", &lans(self), &lans(other));
        let mut changes = Changes::default();
        if lans(self) == lans(other) {
            for (place, (old, new)) in self.lans.iter().zip(&other.lans).enumerate() {
                self.compare_lans(&mut fixed, &mut changes, place, (old, new));
            }
        }
        if fixed.0.is_empty() { Ok(changes) } else { Err(fixed.0) }
    }

    fn compare_lans(&self, fixed: &mut Fixed, changes: &mut Changes, place: usize, (old, new): (&Lan, &Lan)) {
        let of = |what: &str| format!("{what} of the LAN {}", new.name);
        fixed.compare(of("`mtu`"), &old.mtu, &new.mtu);
        fixed.compare(of("`arp`"), &old.arp, &new.arp);
        fixed.compare(of("`port-security`"), &old.port_security, &new.port_security);
        fixed.compare(of("`multicast`"), &old.multicast, &new.multicast);
        fixed.compare(of("the uplink"), &old.uplink, &new.uplink);
        fixed.compare(of("a cluster"), &old.clusters, &new.clusters);
        let nodes = |lan: &Lan| lan.members.iter().map(|member| member.node).collect::<Vec<_>>();
        fixed.compare(of("the members, or their order,"), &nodes(old), &nodes(new));
        if nodes(old) != nodes(new) {
            return;
        }
        for (member, (old, now)) in old.members.iter().zip(&new.members).enumerate() {
            let name = self.node_name(now.node);
            fix_member(fixed, &format!("{name} on the LAN {}", new.name), old, now);
            let list = member_changes((&new.name, &name), old, now);
            if !list.is_empty() {
                changes.members.push((place, member));
                changes.list.extend(list);
            }
        }
    }

    fn node_name(&self, number: NodeNumber) -> String {
        self.node_by_number(number).map_or_else(|| number.to_string(), |node| node.name.clone())
    }
}

/// What differs and cannot change.
#[derive(Default)]
struct Fixed(Vec<String>);

impl Fixed {
    fn compare<T: PartialEq>(&mut self, what: impl Into<String>, old: &T, new: &T) {
        if old != new {
            self.0.push(what.into());
        }
    }
}

fn fix_member(fixed: &mut Fixed, of: &str, old: &Member, new: &Member) {
    let of = |what: &str| format!("{what} of {of}");
    fixed.compare(of("the number of the interface"), &old.vif, &new.vif);
    fixed.compare(of("`interface`"), &old.interface, &new.interface);
    fixed.compare(of("`mac`"), &old.mac, &new.mac);
    fixed.compare(of("`promiscuous`"), &old.promiscuous, &new.promiscuous);
    fixed.compare(of("`attach`"), &old.attach, &new.attach);
    fixed.compare(of("`multicast`"), &old.every_group, &new.every_group);
}

fn member_changes((lan, node): (&str, &str), old: &Member, new: &Member) -> Vec<Change> {
    let addresses =
        |member: &Member| list(member.addresses.iter().map(|a| format!("{}/{}", a.address, a.prefix)));
    let values = |member: &Member| {
        [
            ("address", addresses(member)),
            ("gateway", list(&member.gateways)),
            ("alias", list(&member.aliases)),
            ("role", roles(member.roles)),
            ("learn", member.learn.to_string()),
            ("limits", limits(&member.limits)),
        ]
    };
    let different = values(old).into_iter().zip(values(new)).filter(|(old, new)| old != new);
    let change = |((key, from), (_, to)): ((&str, String), (&str, String))| Change {
        lan: lan.to_owned(),
        node: node.to_owned(),
        key: key.to_owned(),
        from,
        to,
    };
    different.map(change).collect()
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

fn roles(roles: Roles) -> String {
    let words = [(roles.dhcp_server, "dhcp-server"), (roles.router, "router")];
    list(words.into_iter().filter(|(has, _)| *has).map(|(_, word)| word))
}

fn limits(limits: &Limits) -> String {
    let kinds = [
        ("broadcast ", limits.broadcast),
        ("multicast ", limits.multicast),
        ("unknown ", limits.unknown),
        ("", limits.total),
    ];
    list(kinds.into_iter().flat_map(|(kind, Rate { frames, bits })| {
        let frames = frames.map(|frames| format!("{kind}frames {frames}"));
        frames.into_iter().chain(bits.map(|bits| format!("{kind}bits {bits}")))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const FILE: &str = r#"
[platform]
name = "lab"
[[fabric]]
name = "a"
[[control-node]]
name = "cn-a"
serial = 1
legs = { a = "unix:run/a.sock" }
[[node]]
name = "web1"
number = 1
legs = { a = "unix" }
[[node]]
name = "web2"
number = 2
legs = { a = "unix" }
[[lan]]
name = "red"
id = 10
[[lan.member]]
node = "web1"
address = "10.1.0.1/24"
[[lan.member]]
node = "web2"
address = "10.1.0.2/24"
limits = { frames = 1 }
"#;

    fn parse(text: &str) -> Platform {
        Platform::parse(text, Path::new("/p/lab.toml")).unwrap()
    }

    fn changes(old: &str, new: &str) -> Result<Changes, Vec<String>> {
        assert!(FILE.contains(old), "{old}");
        parse(FILE).changes_to(&parse(&FILE.replacen(old, new, 1)))
    }

    #[test]
    fn options_of_members_can_change_and_are_listed() {
        assert_eq!(changes("name = \"web1\"", "name = \"web1\" # a comment"), Ok(Changes::default()));
        let told = |old, new| {
            let changes = changes(old, new).unwrap();
            assert_eq!(changes.members, [(0, 1)]);
            changes.list.into_iter().map(|c| [c.node, c.key, c.from, c.to].join("|")).collect::<Vec<_>>()
        };
        assert_eq!(told("10.1.0.2/24", "10.1.0.9/24"), ["web2|address|10.1.0.2/24|10.1.0.9/24"]);
        assert_eq!(told("limits = { frames = 1 }", ""), ["web2|limits|frames 1|"]);
        let more = "alias = \"10.1.0.7\"\nrole = \"router\"\nlearn = 3\ngateway = \"10.1.0.1\"\n\
                    limits = { broadcast = 5, bits = 9 }";
        let expected = [
            "web2|gateway||10.1.0.1",
            "web2|alias||10.1.0.7",
            "web2|role||router",
            "web2|learn|0|3",
            "web2|limits|frames 1|broadcast frames 5, bits 9",
        ];
        assert_eq!(told("limits = { frames = 1 }", more), expected);
    }

    #[test]
    fn what_cannot_change_is_named() {
        //= spec/control-node.md#applying-a-platform-file
        //= type=test
        //# A control node MUST apply all of a platform file or nothing of it, and refuse one that has a mistake, asks for what
        //# is not built yet, or differs in more than addresses, gateways, aliases, roles, learned stations and limits of members.
        for (old, new, named) in [
            ("name = \"lab\"", "name = \"lab\"\ncabinet = 7", "`cabinet`"),
            ("name = \"lab\"", "name = \"lob\"", "the platform's name"),
            ("serial = 1", "serial = 2", "[[control-node]]"),
            ("number = 2", "number = 3", "[[node]]"),
            ("id = 10", "id = 11", "the LANs, their names, numbers and order"),
            ("id = 10", "id = 10\nmtu = 1500", "`mtu` of the LAN red"),
            ("id = 10", "id = 10\narp = \"suppress\"", "`arp` of the LAN red"),
            ("id = 10", "id = 10\nport-security = \"off\"", "`port-security` of the LAN red"),
            ("limits = {", "promiscuous = true\nlimits = {", "`promiscuous` of web2 on the LAN red"),
            ("limits = {", "interface = \"x\"\nlimits = {", "`interface` of web2 on the LAN red"),
            ("limits = {", "mac = \"52:54:00:00:00:01\"\nlimits = {", "`mac` of web2 on the LAN red"),
            ("limits = {", "multicast = \"all\"\nlimits = {", "`multicast` of web2 on the LAN red"),
        ] {
            let refused = changes(old, new).unwrap_err();
            assert!(refused.iter().any(|what| what == named), "{new}: {refused:?}");
        }
        let without = "[[lan.member]]\nnode = \"web2\"\naddress = \"10.1.0.2/24\"\nlimits = { frames = 1 }\n";
        assert_eq!(changes(without, "").unwrap_err(), ["the members, or their order, of the LAN red"]);
    }
}
