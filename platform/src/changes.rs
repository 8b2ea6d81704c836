//! What differs between two platform files: what a running platform can be changed to, and what it cannot.

mod clusters;

use std::fmt::Display;

use vlan_core::security::{Limits, PortSecurity, Rate, Roles};
use vlan_core::{LanId, NodeNumber};

use crate::management::Change;
use crate::model::{
    ArpMode, DefaultRouter, Driver, Lan, LanMulticast, Member, Node, Platform, Uplink, UplinkMode,
};

/// What is to be done so that a running platform is as another file says. Places are those of LANs and of their members in the
/// other file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Nodes come, go or have changed.
    pub nodes: bool,
    /// The LANs that are no more.
    pub removed_lans: Vec<LanId>,
    /// The members that are no more, of LANs that stay.
    pub removed_members: Vec<(LanId, NodeNumber)>,
    /// The places of the LANs that are new.
    pub added_lans: Vec<usize>,
    /// The members that are new, of LANs that stay: each its LAN's and its own place.
    pub added_members: Vec<(usize, usize)>,
    /// The places of the LANs with other options of their own.
    pub lans: Vec<usize>,
    /// The places of the LANs that stay and have another uplink, or have one no more.
    pub uplinks: Vec<usize>,
    /// The places of the LANs, of those that stay, with other clusters.
    pub clusters: Vec<usize>,
    /// The members with other options, or that serve other clusters: each its LAN's and its own place.
    pub members: Vec<(usize, usize)>,
    /// Each difference.
    pub list: Vec<Change>,
}

impl Platform {
    /// What changes when `other` takes the place of this platform while it runs: nodes, LANs, members, uplinks, and their options. The
    /// hosts outside are a lab's, which makes them when it starts: they are not compared.
    ///
    /// # Errors
    /// With everything that differs and cannot change yet, in words.
    //= spec/control-node.md#applying-a-platform-file
    //# A control node MUST apply all of a platform file or nothing of it, and refuse one that has a mistake, asks for what is
    //# not built yet, or differs in what a running platform cannot change.
    pub fn changes_to(&self, other: &Self) -> Result<Changes, Vec<String>> {
        let mut fixed = Fixed::default();
        fixed.compare("the platform's name", &self.name, &other.name);
        fixed.compare("`cabinet`", &self.cabinet, &other.cabinet);
        fixed.compare("`grant-key-file`", &self.grant_key_file, &other.grant_key_file);
        fixed.compare("[[fabric]]", &self.fabrics, &other.fabrics);
        fixed.compare("[[control-node]]", &self.control_nodes, &other.control_nodes);
        let list = self.node_changes(other);
        let mut changes = Changes { nodes: !list.is_empty(), list, ..Changes::default() };
        for lan in self.lans.iter().filter(|lan| other.lan_by_id(lan.id).is_none()) {
            changes.removed_lans.push(lan.id);
            changes.list.push(change((&lan.name, ""), "lan", (lan.id.to_string(), String::new())));
        }
        for (place, new) in other.lans.iter().enumerate() {
            match self.lan_by_id(new.id) {
                Some(old) => self.compare_lans(&mut fixed, &mut changes, place, (old, new), other),
                None => {
                    changes.added_lans.push(place);
                    changes.list.push(change((&new.name, ""), "lan", (String::new(), new.id.to_string())));
                    changes.list.extend(self.uplink_changes(other, &new.name, (None, new.uplink.as_ref())));
                    let members = new.members.iter().map(|member| other.membership(new, member, true));
                    changes.list.extend(members);
                }
            }
        }
        if fixed.0.is_empty() { Ok(changes) } else { Err(fixed.0) }
    }

    /// What is different about nodes, but for what their key files say.
    fn node_changes(&self, other: &Self) -> Vec<Change> {
        let mut list = Vec::new();
        for old in self.nodes.iter().filter(|node| other.node_by_number(node.number).is_none()) {
            list.push(change(("", &old.name), "node", (old.number.to_string(), String::new())));
        }
        for new in &other.nodes {
            let mut add = |key: &str, values| list.push(change(("", &new.name), key, values));
            let Some(old) = self.node_by_number(new.number) else {
                add("node", (String::new(), new.number.to_string()));
                continue;
            };
            let host = |node: &Node| node.host.clone().unwrap_or_default();
            if old.name != new.name {
                add("name", (old.name.clone(), new.name.clone()));
            }
            if host(old) != host(new) {
                add("host", (host(old), host(new)));
            }
            if old.legs != new.legs {
                add("legs", (self.legs(old), other.legs(new)));
            }
            if old.key_file != new.key_file {
                add("key-file", (old.key_file.display().to_string(), new.key_file.display().to_string()));
            }
        }
        list
    }

    fn legs(&self, node: &Node) -> String {
        let fabrics = self.fabrics.iter().zip(&node.legs);
        list(fabrics.flat_map(|(fabric, legs)| legs.iter().map(|leg| format!("{} {leg}", fabric.name))))
    }

    fn lan_by_id(&self, id: LanId) -> Option<&Lan> {
        self.lans.iter().find(|lan| lan.id == id)
    }

    /// Compares a LAN with what it is in `other`, at `place` there.
    fn compare_lans(
        &self,
        fixed: &mut Fixed,
        changes: &mut Changes,
        place: usize,
        (old, new): (&Lan, &Lan),
        other: &Self,
    ) {
        let of = |what: &str| format!("{what} of the LAN {}", old.name);
        fixed.compare(of("the name"), &old.name, &new.name);
        if old.clusters != new.clusters {
            changes.clusters.push(place);
            changes.list.extend(clusters::changes((self, old), (other, new)));
        }
        let list = lan_changes(old, new);
        if !list.is_empty() {
            changes.lans.push(place);
            changes.list.extend(list);
        }
        if old.uplink != new.uplink {
            changes.uplinks.push(place);
            let uplinks = (old.uplink.as_ref(), new.uplink.as_ref());
            changes.list.extend(self.uplink_changes(other, &new.name, uplinks));
        }
        for member in old.members.iter().filter(|member| member_of(new, member.node).is_none()) {
            changes.removed_members.push((old.id, member.node));
            changes.list.push(self.membership(old, member, false));
        }
        for (member, now) in new.members.iter().enumerate() {
            let name = other.node_name(now.node);
            let serves_others = clusters::of(old, now.node) != clusters::of(new, now.node);
            let Some(old) = member_of(old, now.node) else {
                changes.added_members.push((place, member));
                changes.list.push(other.membership(new, now, true));
                continue;
            };
            fix_member(fixed, &format!("{name} on the LAN {}", new.name), old, now);
            let list = member_changes((&new.name, &name), old, now);
            if !list.is_empty() || serves_others {
                changes.members.push((place, member));
            }
            changes.list.extend(list);
        }
    }

    /// What is different about the uplink of a LAN, here and in `other`.
    fn uplink_changes(
        &self,
        other: &Self,
        lan: &str,
        (old, new): (Option<&Uplink>, Option<&Uplink>),
    ) -> Vec<Change> {
        differing((lan, ""), self.uplink_values(old), other.uplink_values(new))
    }

    fn uplink_values(&self, uplink: Option<&Uplink>) -> Values<6> {
        let text = |of: &dyn Fn(&Uplink) -> String| uplink.map(of).unwrap_or_default();
        let ports = |uplink: &Uplink| {
            let ports = uplink.ports.iter();
            list(ports.map(|port| format!("{} {}", self.control_nodes[port.control_node].name, port.device)))
        };
        [
            (
                "uplink",
                text(&|uplink| word(uplink.mode == UplinkMode::Unfiltered, ["filtered", "unfiltered"])),
            ),
            ("uplink vid", text(&|uplink| uplink.vid.map_or_else(String::new, |vid| vid.to_string()))),
            ("uplink ports", text(&ports)),
            ("uplink driver", text(&|uplink| driver(uplink.driver).to_owned())),
            (
                "uplink default-router",
                text(&|uplink| {
                    uplink.default_router.map_or_else(String::new, |router| self.router_name(router))
                }),
            ),
            ("uplink link-dependency", text(&|uplink| uplink.link_dependency.to_string())),
        ]
    }

    /// A member that comes, or goes.
    fn membership(&self, lan: &Lan, member: &Member, is_added: bool) -> Change {
        let (interface, none) = (member.interface.clone(), String::new());
        let values = if is_added { (none, interface) } else { (interface, none) };
        change((&lan.name, &self.node_name(member.node)), "member", values)
    }

    fn router_name(&self, router: DefaultRouter) -> String {
        match router {
            DefaultRouter::Node(node) => self.node_name(node),
            DefaultRouter::Cluster(address) => address.to_string(),
        }
    }

    fn node_name(&self, number: NodeNumber) -> String {
        self.node_by_number(number).map_or_else(|| number.to_string(), |node| node.name.clone())
    }
}

fn member_of(lan: &Lan, node: NodeNumber) -> Option<&Member> {
    lan.members.iter().find(|member| member.node == node)
}

fn change((lan, node): (&str, &str), key: &str, (from, to): (String, String)) -> Change {
    Change { lan: lan.to_owned(), node: node.to_owned(), key: key.to_owned(), from, to }
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
    fixed.compare(of("`interface`"), &old.interface, &new.interface);
    fixed.compare(of("`mac`"), &old.mac, &new.mac);
    fixed.compare(of("`attach`"), &old.attach, &new.attach);
}

fn lan_changes(old: &Lan, new: &Lan) -> Vec<Change> {
    let values = |lan: &Lan| {
        [
            ("mtu", lan.mtu.to_string()),
            ("arp", word(lan.arp == ArpMode::Suppress, ["relay", "suppress"])),
            ("port-security", port_security(lan.port_security)),
            ("multicast", word(lan.multicast == LanMulticast::Flood, ["snoop", "flood"])),
        ]
    };
    differing((&new.name, ""), values(old), values(new))
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
            ("promiscuous", member.promiscuous.to_string()),
            ("multicast", word(member.every_group, ["joined", "all"])),
        ]
    };
    differing((lan, node), values(old), values(new))
}

type Values<const N: usize> = [(&'static str, String); N];

fn differing<const N: usize>(of: (&str, &str), old: Values<N>, new: Values<N>) -> Vec<Change> {
    let different = old.into_iter().zip(new).filter(|(old, new)| old != new);
    different.map(|((key, from), (_, to))| change(of, key, (from, to))).collect()
}

/// The words of the platform file for false and true.
fn word(is_second: bool, words: [&str; 2]) -> String {
    words[usize::from(is_second)].to_owned()
}

fn port_security(port_security: PortSecurity) -> String {
    let word = match port_security {
        PortSecurity::Off => "off",
        PortSecurity::Mac => "mac",
        PortSecurity::Address => "address",
    };
    word.to_owned()
}

fn driver(driver: Driver) -> &'static str {
    match driver {
        Driver::Auto => "auto",
        Driver::AfXdp => "af-xdp",
        Driver::AfPacket => "af-packet",
        Driver::Tap => "tap",
    }
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
        let listens = "promiscuous = true\nmulticast = \"all\"\nlimits = { frames = 1 }";
        let expected = ["web2|promiscuous|false|true", "web2|multicast|joined|all"];
        assert_eq!(told("limits = { frames = 1 }", listens), expected);
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
    fn options_of_lans_can_change_and_are_listed() {
        for (option, told) in [
            ("mtu = 1500", "mtu 16896>1500"),
            ("arp = \"suppress\"", "arp relay>suppress"),
            ("port-security = \"off\"", "port-security mac>off"),
            ("port-security = \"address\"", "port-security mac>address"),
            ("multicast = \"flood\"", "multicast snoop>flood"),
        ] {
            let changes = changes("id = 10", &format!("id = 10\n{option}")).unwrap();
            assert_eq!((&changes.lans[..], &changes.members[..]), (&[0][..], &[][..]), "{option}");
            assert_eq!(listed(&changes), [format!("red  {told}")]);
        }
    }

    #[test]
    fn what_cannot_change_is_named() {
        //= spec/control-node.md#applying-a-platform-file
        //= type=test
        //# A control node MUST apply all of a platform file or nothing of it, and refuse one that has a mistake, asks for what
        //# is not built yet, or differs in what a running platform cannot change.
        for (old, new, named) in [
            ("name = \"lab\"", "name = \"lab\"\ncabinet = 7", "`cabinet`"),
            ("name = \"lab\"", "name = \"lob\"", "the platform's name"),
            ("serial = 1", "serial = 2", "[[control-node]]"),
            ("name = \"red\"", "name = \"rot\"", "the name of the LAN red"),
            ("limits = {", "interface = \"x\"\nlimits = {", "`interface` of web2 on the LAN red"),
            ("limits = {", "mac = \"52:54:00:00:00:01\"\nlimits = {", "`mac` of web2 on the LAN red"),
        ] {
            let refused = changes(old, new).unwrap_err();
            assert!(refused.iter().any(|what| what == named), "{new}: {refused:?}");
        }
    }

    #[test]
    fn nodes_come_go_and_change() {
        let more = "[[node]]\nname = \"web3\"\nnumber = 3\nlegs = { a = \"unix\" }\n[[lan]]";
        for (old, new, told) in [
            ("[[lan]]", more, " web3 node >3"),
            ("number = 2", "number = 2\nkey-file = \"other\"", " web2 key-file /p/keys/web2>/p/other"),
            (
                "number = 2\nlegs = { a = \"unix\" }",
                "number = 2\nlegs = { a = [\"unix\", \"udp:10.0.0.2:7401\"] }",
                " web2 legs a unix>a unix, a udp:10.0.0.2:7401",
            ),
        ] {
            let changes = changes(old, new).unwrap();
            assert!(changes.nodes && changes.members.is_empty(), "{changes:?}");
            assert_eq!(listed(&changes), [told]);
        }
        let renamed = parse(FILE).changes_to(&parse(&FILE.replace("web2", "web9"))).unwrap();
        assert_eq!(listed(&renamed), [" web9 name web2>web9", " web9 key-file /p/keys/web2>/p/keys/web9"]);
        // Another number is another node.
        let changes = changes("number = 2", "number = 3").unwrap();
        let mut told = listed(&changes);
        told.sort();
        let expected = [" web2 node 2>", " web2 node >3", "red web2 member >red", "red web2 member red>"];
        assert_eq!(told, expected);
        assert_eq!(
            (&changes.removed_members[..], &changes.added_members[..]),
            (&[(LanId(10), NodeNumber(2))][..], &[(0, 1)][..])
        );
    }

    #[test]
    fn an_uplink_comes_goes_and_changes_with_its_lan_or_alone() {
        let uplink = |mode: &str, more: &str| {
            format!(
                "[lan.uplink]\nmode = \"{mode}\"\n{more}ports = [{{ control-node = \"cn-a\", device = \"eth1\" }}]\n"
            )
        };
        let [without, with] = [BLUE.to_owned(), BLUE.to_owned() + &uplink("filtered", "")];
        let [none, without, with] = [String::new(), without, with].map(|lan| parse(&format!("{FILE}{lan}")));
        let other =
            parse(&format!("{FILE}{BLUE}{}", uplink("unfiltered", "vid = 7\ndefault-router = \"web1\"\n")));
        let coming = ["blue  uplink >filtered", "blue  uplink ports >cn-a eth1", "blue  uplink driver >auto"];
        let came = listed(&none.changes_to(&with).unwrap());
        assert!(coming.iter().all(|line| came.contains(&(*line).to_owned())), "{came:?}");
        let came = without.changes_to(&with).unwrap();
        assert_eq!((&came.uplinks[..], &came.lans[..]), (&[1][..], &[][..]));
        assert!(coming.iter().all(|line| listed(&came).contains(&(*line).to_owned())), "{came:?}");
        let gone = with.changes_to(&without).unwrap();
        assert_eq!(gone.uplinks, [1]);
        assert!(listed(&gone).contains(&"blue  uplink filtered>".to_owned()), "{gone:?}");
        assert_eq!(with.changes_to(&none).unwrap().removed_lans, [LanId(20)]);
        let changed = with.changes_to(&other).unwrap();
        let expected =
            ["blue  uplink filtered>unfiltered", "blue  uplink vid >7", "blue  uplink default-router >web1"];
        assert_eq!((&changed.uplinks[..], listed(&changed)), (&[1][..], expected.map(String::from).to_vec()));
    }

    #[test]
    fn hosts_outside_are_the_labs_affair() {
        let uplink =
            "[lan.uplink]\nmode = \"filtered\"\nports = [{ control-node = \"cn-a\", device = \"eth1\" }]\n";
        let host = "[[lab.outside]]\nname = \"client\"\nlan = \"blue\"\naddress = \"10.2.0.200/24\"\n";
        let with = parse(&format!("{FILE}{BLUE}{uplink}{host}"));
        let without = parse(&format!("{FILE}{BLUE}{uplink}"));
        assert_eq!(with.changes_to(&without), Ok(Changes::default()));
    }

    const MEMBER: &str =
        "[[lan.member]]\nnode = \"web2\"\naddress = \"10.1.0.2/24\"\nlimits = { frames = 1 }\n";
    const BLUE: &str = "[[lan]]\nname = \"blue\"\nid = 20\n[[lan.member]]\nnode = \"web1\"\n";

    fn listed(changes: &Changes) -> Vec<String> {
        changes.list.iter().map(|c| format!("{} {} {} {}>{}", c.lan, c.node, c.key, c.from, c.to)).collect()
    }

    #[test]
    fn members_and_lans_come_and_go_and_their_order_means_nothing() {
        let less = parse(&FILE.replacen(MEMBER, "", 1));
        let gone = parse(FILE).changes_to(&less).unwrap();
        assert_eq!(gone.removed_members, [(LanId(10), NodeNumber(2))]);
        assert_eq!(listed(&gone), ["red web2 member red>"]);
        let come = less.changes_to(&parse(FILE)).unwrap();
        assert_eq!(
            (come.added_members.clone(), listed(&come)),
            (vec![(0, 1)], vec!["red web2 member >red".into()])
        );

        let blue_first = FILE.replacen("[[lan]]\n", &format!("{BLUE}[[lan]]\n"), 1);
        let (blue_first, blue_last) = (parse(&blue_first), parse(&format!("{FILE}{BLUE}")));
        assert_eq!(blue_first.changes_to(&blue_last), Ok(Changes::default()));
        let come = parse(FILE).changes_to(&blue_first).unwrap();
        assert_eq!(
            (&come.added_lans[..], listed(&come)),
            (&[0][..], vec!["blue  lan >20".to_owned(), "blue web1 member >blue".into()])
        );
        let gone = blue_first.changes_to(&parse(FILE)).unwrap();
        assert_eq!(
            (&gone.removed_lans[..], listed(&gone)),
            (&[LanId(20)][..], vec!["blue  lan 20>".to_owned()])
        );
        // Another number is another LAN.
        let changes = changes("id = 10", "id = 11").unwrap();
        assert_eq!((&changes.removed_lans[..], &changes.added_lans[..]), (&[LanId(10)][..], &[0][..]));
    }
}
