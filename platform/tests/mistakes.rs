//! One test for each kind of mistake: each is found at exactly the marked place, and nowhere else.

use std::path::Path;

use platform::{Mistake, Platform, Position};

/// A platform without mistakes; each test spoils one thing of it.
const GOOD: &str = r#"
[platform]
name = "lab"
cabinet = 1

[[fabric]]
name = "a"
[[fabric]]
name = "b"

[[control-node]]
name = "cn-a"
serial = 1
legs = { a = "unix:run/a.sock", b = "unix:run/b.sock" }

[[node]]
name = "web1"
number = 1
legs = { a = "unix", b = "unix" }

[[node]]
name = "web2"
number = 2
legs = { a = "unix" }

[[lan]]
name = "red"
id = 10
mtu = 9000
arp = "relay"
port-security = "mac"

[[lan.member]]
node = "web1"
address = ["10.1.0.1/24", "fd00:1::1/64"]
gateway = "10.1.0.2"
mac = "52:54:00:00:00:01"

[[lan.member]]
node = "web2"
address = "10.1.0.2/24"
limits = { frames = 1 }

[lan.uplink]
mode = "filtered"
vid = 100
ports = [ { control-node = "cn-a", device = "eth1" } ]

[[lan.cluster]]
address = "10.1.0.100"
[[lan.cluster.service]]
protocol = "tcp"
port = 80
balance = "hash"
servers = [ { node = "web1" } ]
check = { kind = "tcp", interval = "1s" }

[[lan]]
name = "blue"
id = 20
mtu = 1000
[[lan.member]]
node = "web1"
address = "10.2.0.1/24"

[[lab.outside]]
name = "client"
lan = "red"
address = "10.1.0.200/24"
"#;

fn mistakes(text: &str) -> Vec<Mistake> {
    match Platform::parse(text, Path::new("p.toml")) {
        Ok(_) => Vec::new(),
        Err(error) => error.mistakes().to_vec(),
    }
}

/// Takes the marks out of a text and gives their positions.
fn unmark(text: &str) -> (String, Vec<Position>) {
    let mut positions = Vec::new();
    let (mut line, mut column) = (1, 1);
    for c in text.chars() {
        match c {
            '\u{a7}' => positions.push(Position { line, column }),
            '\n' => (line, column) = (line + 1, 1),
            _ => column += 1,
        }
    }
    (text.replace('\u{a7}', ""), positions)
}

/// Puts `spoiled` in place of `good` (its first occurrence); the mark `§` in it says where the one mistake is. Its
/// text and hint must hold the given words.
#[track_caller]
fn one(good: &str, spoiled: &str, what: &str, hint: &str) {
    assert!(GOOD.contains(good), "{good:?} is not in the good file");
    let (text, positions) = unmark(&GOOD.replacen(good, spoiled, 1));
    let found = mistakes(&text);
    let [mistake] = found.as_slice() else { panic!("not one mistake, but {found:#?}") };
    assert_eq!(mistake.position, positions[0], "{mistake:?}");
    assert!(mistake.what.contains(what), "{:?} does not say {what:?}", mistake.what);
    assert!(mistake.hint.contains(hint), "{:?} does not say {hint:?}", mistake.hint);
    assert!(!mistake.hint.is_empty());
}

#[test]
fn the_good_file_is_good() {
    assert_eq!(mistakes(GOOD), []);
}

#[test]
fn a_mistake_of_syntax_has_a_place() {
    one("serial = 1", "serial =§", "", "TOML");
    one("serial = 1", "serial = 1\n§serial = 2", "duplicate key", "only once");
    one("name = \"cn-a\"", "name = \"cn-a§\n", "invalid basic string", "TOML");
}

#[test]
fn a_report_names_file_line_and_column_and_what_to_do() {
    //= spec/platform-file.md#positions
    //= type=test
    //# Every mistake MUST be reported as FILE:LINE:COLUMN, what is wrong, and a hint that says what to do.
    let text = GOOD.replace("mtu = 9000", "mtu = 67");
    let error = Platform::parse(&text, Path::new("some/p.toml")).unwrap_err();
    let expected =
        "error: some/p.toml:29:7: `mtu` is out of range: 67\nhint: `mtu` takes an integer from 68 to 16896\n";
    assert_eq!(error.report(), expected);
}

#[test]
fn all_mistakes_come_in_one_go_by_position_and_nothing_else_does() {
    //= spec/platform-file.md#all-or-nothing
    //= type=test
    //# A file with a mistake MUST give no platform, and every mistake of meaning MUST be reported in one go.
    let spoiled = GOOD
        .replace("name = \"lab\"", "name = \u{a7}\"laboratory\"")
        .replace("serial = 1", "serial = \u{a7}0")
        .replace("number = 2", "number = \u{a7}1")
        .replace("arp = \"relay\"", "arp = \u{a7}\"rely\"")
        .replace("address = \"10.1.0.2/24\"", "address = \u{a7}\"10.1.0.1/24\"")
        .replace("balance = \"hash\"", "\u{a7}balanec = \"hash\"");
    let (text, positions) = unmark(&spoiled);
    let found: Vec<_> = mistakes(&text).iter().map(|m| m.position).collect();
    assert_eq!(found, positions);
}

#[test]
fn an_unknown_key_is_a_mistake() {
    //= spec/platform-file.md#unknown-keys
    //= type=test
    //# An unknown key MUST be a mistake.
    one("cabinet = 1", "§cabinnet = 1", "unknown key `cabinnet`", "did you mean `cabinet`?");
    one("cabinet = 1", "§colour = 1", "unknown key `colour` in [platform]", "name, cabinet, grant-key-file");
    one("[platform]", "§x = 1\n[platform]", "unknown key `x`", "platform");
    one("number = 1", "number = 1\n§q.r.s = 1", "unknown key `q`", "");
    one("device = \"eth1\"", "device = \"eth1\", §port = 1", "unknown key `port`", "");
    one("frames = 1", "frames = 1, §octets = 1", "unknown key `octets` in limits", "");
    one("interval = \"1s\"", "interval = \"1s\", §raise = 2", "`raise`", "`rise`");
    one("kind = \"tcp\"", "kind = \"tcp\", §path = \"/\"", "`path`", "");
    one("[[lab.outside]]", "[lab]\n§inside = 1\n[[lab.outside]]", "`inside`", "outside");
}

#[test]
fn a_value_of_the_wrong_type_is_a_mistake() {
    one("cabinet = 1", "cabinet = §\"1\"", "`cabinet` is a string", "integer from 1 to 65535");
    one("cabinet = 1", "cabinet = §1.0", "a float", "integer");
    one("arp = \"relay\"", "arp = §true", "a boolean", "string");
    one("address = \"10.2.0.1/24\"", "address = §1979-05-27", "a date", "list of strings");
    one("address = \"10.2.0.1/24\"", "address = [§7]", "an integer", "string");
    one("limits = { frames = 1 }", "limits = §[]", "a list", "table");
    one("limits = { frames = 1 }", "promiscuous = §1", "an integer", "true or false");
    one("[[lab.outside]]", "§[lab.outside]", "a table", "[[lab.outside]]");
}

#[test]
fn a_missing_key_or_section_is_a_mistake_where_it_should_be() {
    one(
        "[[control-node]]\nname = \"cn-a\"\nserial = 1",
        "§[[control-node]]\nname = \"cn-a\"",
        "has no `serial`",
        "serial = 1",
    );
    one(
        "[[node]]\nname = \"web2\"\nnumber = 2",
        "§[[node]]\nname = \"web2\"",
        "has no `number`",
        "number = 1",
    );
    one("{ node = \"web1\" }", "§{ weight = 1 }", "servers has no `node`", "node = \"web1\"");
    let found = mistakes("");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().all(|m| m.position == Position { line: 1, column: 1 }));
    assert!(found.iter().any(|m| m.what.contains("[[control-node]]")));
}

#[test]
fn a_word_that_a_key_does_not_take_is_a_mistake_with_a_suggestion() {
    //= spec/platform-file.md#words
    //= type=test
    //# A word that is not one of a key's words MUST be a mistake whose hint names the nearest one or all of them.
    one("arp = \"relay\"", "arp = §\"rely\"", "\"rely\"", "did you mean \"relay\"?");
    one("port-security = \"mac\"", "port-security = §\"macs\"", "\"macs\"", "did you mean \"mac\"?");
    one("port-security = \"mac\"", "port-security = §\"strict\"", "", "one of \"mac\", \"address\", \"off\"");
    one("balance = \"hash\"", "balance = §\"round-robbin\"", "", "did you mean \"round-robin\"?");
    one("balance = \"hash\"", "balance = \"hash\"\nsticky = §\"clint\"", "", "\"client\"");
    one("mode = \"filtered\"", "mode = §\"filterd\"", "", "\"filtered\"");
    one("vid = 100", "driver = §\"af_xdp\"", "", "\"af-xdp\"");
    one("protocol = \"tcp\"", "protocol = §\"sctp\"", "", "\"tcp\"");
    one("limits = { frames = 1 }", "role = §\"rooter\"", "", "\"router\"");
    one("limits = { frames = 1 }", "role = [\"router\", §\"dhcp\"]", "\"dhcp\"", "\"dhcp-server\"");
    one("limits = { frames = 1 }", "role = [§1]", "an integer", "a string");
    one("kind = \"tcp\"", "kind = §\"ping\"", "", "\"http\"");
}

#[test]
fn what_must_be_unique_is_refused_the_second_time() {
    //= spec/platform-file.md#uniqueness
    //= type=test
    //# Names, numbers, ids, serials, MAC addresses, IP addresses of a LAN, interface names of a node, key files, state
    //# directories and sockets MUST be unique.
    let node = |text: &str| format!("[[node]]\n{text}\nlegs = {{ a = \"unix\" }}\n[[lan]]\nname = \"red\"");
    let lan = "[[lan]]\nname = \"red\"";
    one(
        lan,
        &node("name = §\"web2\"\nnumber = 3"),
        "the name \"web2\" is already used on line 22",
        "another name",
    );
    one(
        lan,
        &node("name = §\"cn-a\"\nnumber = 3"),
        "the name \"cn-a\" is already used on line 12",
        "another name",
    );
    one(
        lan,
        &node("name = \"web3\"\nnumber = §2"),
        "the node number \"2\" is already used",
        "another node number",
    );
    let keys = "name = \"web3\"\nnumber = 3\nkey-file = §\"keys/x\"";
    let keys = node(keys).replacen(
        "[[node]]",
        "[[node]]\nname = \"web4\"\nnumber = 4\nkey-file = \"keys/x\"\nlegs = { a = \"unix\" }\n[[node]]",
        1,
    );
    one(lan, &keys, "key file", "");
    one("name = \"b\"", "name = §\"a\"\n[[fabric]]\nname = \"b\"", "fabric name \"a\"", "");
    one("name = \"blue\"", "name = §\"red\"", "LAN name \"red\"", "");
    one("id = 20", "id = §10", "LAN id \"10\"", "");
    one(
        "address = \"10.2.0.1/24\"",
        "address = \"10.2.0.1/24\"\nmac = §\"52:54:00:00:00:01\"",
        "MAC address",
        "",
    );
    one(
        "address = \"10.1.0.2/24\"",
        "address = [\"10.1.0.2/24\", §\"fd00:1::1/64\"]",
        "address \"fd00:1::1\"",
        "",
    );
    one(
        "address = \"10.1.0.2/24\"",
        "address = [\"10.1.0.2/24\", §\"10.1.0.1/16\"]",
        "address \"10.1.0.1\"",
        "",
    );
    one(
        "address = \"10.2.0.1/24\"",
        "address = \"10.2.0.1/24\"\ninterface = §\"red\"",
        "interface name \"red\"",
        "",
    );
    one("b = \"unix:run/b.sock\"", "b = §\"unix:run/a.sock\"", "socket", "");
    one("address = \"10.1.0.200/24\"", "address = §\"10.1.0.2/24\"", "address \"10.1.0.2\"", "");
}

#[test]
fn a_second_control_node_may_not_share_a_serial() {
    let (text, positions) = unmark(&GOOD.replacen(
        "[[node]]",
        "[[control-node]]\nname = \"cn-b\"\nserial = \u{a7}1\nlegs = { a = \"unix:run/c.sock\" }\n[[node]]",
        1,
    ));
    let found = mistakes(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].position, positions[0]);
    assert!(found[0].what.contains("serial"));
}

#[test]
fn uplinks_that_share_a_device_have_one_driver() {
    //= spec/uplink.md#one-driver
    //= type=test
    //# The uplinks that leave by one device MUST name one driver.
    let uplink = |driver: &str| {
        let port = "§{ control-node = \"cn-a\", device = \"eth1\" }";
        format!("name = \"blue\"\nuplink = {{ mode = \"unfiltered\", vid = 7, {driver} ports = [{port}] }}")
    };
    one("name = \"blue\"", &uplink("driver = \"af-xdp\","), "another `driver` for eth1", "one `driver`");
    let same = GOOD.replace("name = \"blue\"", &uplink("driver = \"auto\",").replace('§', ""));
    assert_eq!(mistakes(&same), []);
}

#[test]
fn numbers_have_ranges() {
    one("serial = 1", "serial = §0", "`serial` is out of range: 0", "1 to 65535");
    one("serial = 1", "serial = §-1", "-1", "");
    one("number = 2", "number = §65536", "65536", "");
    one("number = 2", "number = §99999999999999999999999", "99999999999999999999999", "");
    one("id = 10", "id = §0", "`id`", "");
    one("cabinet = 1", "cabinet = §0", "`cabinet`", "");
    one("vid = 100", "vid = §0", "`vid`", "1 to 4094");
    one("vid = 100", "vid = §4095", "`vid`", "1 to 4094");
    one("port = 80", "port = §0", "`port`", "");
    one("frames = 1", "frames = §0", "`frames`", "");
    one("limits = { frames = 1 }", "learn = §5000", "`learn`", "");
    one("serial = 1", "serial = 1\nworkers = §0", "`workers`", "");
    one("{ node = \"web1\" }", "{ node = \"web1\", weight = §0 }", "`weight`", "");
    one("interval = \"1s\"", "interval = §\"1\"", "not a duration", "500ms");
}

#[test]
fn the_mtu_has_a_range_and_ipv6_needs_more() {
    //= spec/platform-file.md#mtu
    //= type=test
    //# The MTU of a LAN MUST lie between 68 and 16896 octets, and be at least 1280 when a member has an IPv6 address.
    one("mtu = 9000", "mtu = §67", "67", "68 to 16896");
    one("mtu = 9000", "mtu = §16897", "16897", "68 to 16896");
    one("mtu = 9000", "mtu = §1279", "IPv6", "1280");
    assert_eq!(mistakes(&GOOD.replace("mtu = 9000", "mtu = 1280")), []);
    assert_eq!(mistakes(&GOOD.replace("mtu = 1000", "mtu = 68")), []);
}

#[test]
fn names_and_interface_names_are_checked() {
    one("name = \"lab\"", "name = §\"laboratory\"", "10 characters", "at most 8");
    one("name = \"lab\"", "name = §\"a b\"", "not a name", "letters");
    one("name = \"blue\"", "name = §\"bl/ue\"", "not a name", "");
}

#[test]
fn an_interface_name_fits_the_kernel() {
    let member = "address = \"10.2.0.1/24\"";
    one(member, "address = \"10.2.0.1/24\"\ninterface = §\"sixteen-octets-x\"", "16 octets", "at most 15");
    one(member, "address = \"10.2.0.1/24\"\ninterface = §\"lo\"", "cannot be the name", "printable");
    one(member, "address = \"10.2.0.1/24\"\ninterface = §\"\"", "cannot be the name", "");
    let long = "name = \"a-name-of-sixteen\"\nid = 20\nmtu = 1000\n§[[lan.member]]";
    one(
        "name = \"blue\"\nid = 20\nmtu = 1000\n[[lan.member]]",
        long,
        "17 octets",
        "set a shorter `interface`",
    );
    one("device = \"eth1\"", "device = §\"eth/1\"", "cannot be the name", "");
}

#[test]
fn a_reference_to_nothing_is_a_mistake() {
    //= spec/platform-file.md#references
    //= type=test
    //# A reference to a fabric, control node, node or LAN that the file does not define MUST be a mistake.
    one("node = \"web2\"", "node = §\"web22\"", "no node \"web22\"", "did you mean \"web2\"?");
    one("node = \"web2\"", "node = §\"printer\"", "no node \"printer\"", "there are \"web1\", \"web2\"");
    one("legs = { a = \"unix\" }", "legs = { a = \"unix\", §c = \"unix\" }", "no fabric \"c\"", "");
    one("control-node = \"cn-a\"", "control-node = §\"cn-b\"", "no control node \"cn-b\"", "\"cn-a\"");
    one("vid = 100", "default-router = §\"gate\"", "no node \"gate\"", "");
    one("{ node = \"web1\" }", "{ node = §\"web9\" }", "no node \"web9\"", "");
    one("lan = \"red\"", "lan = §\"green\"", "no LAN \"green\"", "\"red\"");
    one("lan = \"red\"", "lan = §\"blue\"", "\"blue\" has no uplink", "uplink");
}

#[test]
fn a_lan_needs_members_and_each_once() {
    //= spec/platform-file.md#members
    //= type=test
    //# A LAN MUST have a member, and a node MUST be a member of a LAN once at most.
    one(
        "[[lab.outside]]",
        "§[[lan]]\nname = \"empty\"\nid = 30\n[[lab.outside]]",
        "\"empty\" has no member",
        "[[lan.member]]",
    );
    one(
        "[[lab.outside]]",
        "[[lan]]\nname = \"empty\"\nid = 30\nmember = §[]\n[[lab.outside]]",
        "has no member",
        "",
    );
    let twice = "[[lan.member]]\nnode = §\"web1\"\ninterface = \"second\"\n[[lab.outside]]";
    one("[[lab.outside]]", twice, "the member \"web1\" is already used", "");
}

#[test]
fn legs_suit_their_owner() {
    //= spec/platform-file.md#legs-of-control-nodes-and-nodes
    //= type=test
    //# A control node's unix leg MUST have a path and its udp leg with an address MUST have a port; a node's unix leg MUST
    //# NOT have a path; a udp leg without an address and an ether leg without a device MUST cross a fabric with a lab
    //# network.
    let node = "legs = { a = \"unix\" }";
    one(node, "legs = { a = [\"unix\", §\"tcp:1\"] }", "\"tcp:1\" is not a leg", "a leg is");
    one(node, "legs = { a = [\"unix\", §\"unix\"] }", "second leg of the same kind", "");
    one(node, "legs = { a = \"unix\", b = §\"unix:x\" }", "no path", "\"unix\"");
    one(node, "legs = { a = \"unix\", b = §\"udp\" }", "lab network", "lab-network");
    one(node, "legs = { a = \"unix\", b = §\"ether\" }", "an ether leg its device", "ether:DEVICE");
    one(node, "legs = { a = \"unix\", b = §\"ether:eth1:xdp\" }", "driven by \"xdp\"", "ether:DEVICE:af-xdp");
    one(node, "legs = { a = \"unix\", b = §\"udp:::1\" }", "brackets", "udp:[::1]");
    one(node, "legs = { a = \"unix\", b = §[] }", "no leg on fabric \"b\"", "");
    one(node, "legs = §{}", "has no legs", "legs = ");
    one(node, "legs = §\"unix\"", "a string", "table");
    one("b = \"unix:run/b.sock\"", "b = §\"unix\"", "needs a path", "unix:PATH");
    one("b = \"unix:run/b.sock\"", "b = §\"udp:127.0.0.1\"", "needs a port", "");
    one("b = \"unix:run/b.sock\"", "b = §\"unix:\"", "without a path", "");
    one(
        "[[node]]\nname = \"web2\"\nnumber = 2\nlegs = { a = \"unix\" }",
        "§[[node]]\nname = \"web2\"\nnumber = 2",
        "has no `legs`",
        "",
    );
}

#[test]
fn lab_networks_have_room_and_do_not_overlap() {
    //= spec/platform-file.md#lab-networks
    //= type=test
    //# A lab network MUST have an address for each control node and node and MUST NOT overlap another fabric's, and its
    //# fabric MUST have a name that an interface can have.
    let b = "name = \"b\"";
    one(
        b,
        &format!("{b}\nlab-network = §\"172.31.1.0/31\""),
        "has 2 addresses for 3 processes",
        "shorter prefix",
    );
    assert_eq!(mistakes(&GOOD.replacen(b, &format!("{b}\nlab-network = \"172.31.1.0/29\""), 1)), []);
    assert_eq!(mistakes(&GOOD.replacen(b, &format!("{b}\nlab-network = \"fd31::/126\""), 1)), []);
    one(b, &format!("{b}\nlab-network = §\"fe80::/64\""), "not a subnet of stations", "172.31.1.0/24");
    one(b, &format!("{b}\nlab-network = §[\"172.31.1.0/24\"]"), "a list", "a string");
    let both = "name = \"a\"\n[[fabric]]\nname = \"b\"";
    one(
        both,
        "name = \"a\"\nlab-network = \"172.31.0.0/16\"\n[[fabric]]\nname = \"b\"\nlab-network = §\"172.31.9.0/24\"",
        "172.31.9.0/24 overlaps that of fabric \"a\"",
        "of its own",
    );
    let third =
        |name: &str| format!("{both}\n[[fabric]]\nname = §\"{name}\"\nlab-network = \"172.31.1.0/24\"");
    one(both, &third("default"), "cannot be the name of an interface", "15 characters");
    one(both, &third("longer-than-others"), "cannot be the name of an interface", "15 characters");
}

#[test]
fn the_mtu_of_a_fabric_has_bounds() {
    //= spec/platform-file.md#fabric-mtu
    //= type=test
    //# The MTU of a fabric MUST lie between 1280 and 65535 octets.
    let b = "name = \"b\"";
    one(b, &format!("{b}\nmtu = §1279"), "out of range: 1279", "1280 to 65535");
    one(b, &format!("{b}\nmtu = §65536"), "out of range: 65536", "1280 to 65535");
    for good in ["1280", "65535"] {
        assert_eq!(mistakes(&GOOD.replacen(b, &format!("{b}\nmtu = {good}"), 1)), []);
    }
}

#[test]
fn multicast_is_said_of_a_lan_or_of_a_member() {
    //= spec/platform-file.md#multicast
    //= type=test
    //# A member MUST NOT ask for every group of a LAN that gives every group to every member.
    let (lan, member) = ("arp = \"relay\"", "address = \"10.1.0.2/24\"");
    one(lan, &format!("{lan}\nmulticast = §\"some\""), "some", "snoop");
    one(member, &format!("{member}\nmulticast = §\"none\""), "none", "joined");
    for (of_lan, of_member) in [("snoop", "all"), ("snoop", "joined"), ("flood", "joined"), ("flood", "all")]
    {
        let text = GOOD.replacen(lan, &format!("{lan}\nmulticast = \"{of_lan}\""), 1).replacen(
            member,
            &format!("{member}\nmulticast = \"{of_member}\""),
            1,
        );
        let contradicts = (of_lan, of_member) == ("flood", "all");
        assert_eq!(mistakes(&text).len(), usize::from(contradicts), "{of_lan} {of_member}");
    }
}

#[test]
fn a_node_must_reach_its_control_nodes() {
    //= spec/platform-file.md#reach
    //= type=test
    //# A node MUST have a leg in common with each control node: of one kind, on one fabric, and on one host when it is unix.
    let node = "legs = { a = \"unix\" }";
    one(node, "legs = §{ a = \"udp:127.0.0.1\" }", "no leg in common with control node \"cn-a\"", "one kind");
    one(node, "host = \"h2\"\nlegs = §{ a = \"unix\" }", "no leg in common", "one host");
}

#[test]
fn addresses_are_those_of_stations() {
    let member = "address = \"10.2.0.1/24\"";
    one(member, "address = §\"10.2.0.1\"", "no prefix length", "10.2.0.1/24");
    one(member, "address = §\"10.2.0.300/24\"", "not an IP address", "");
    one(member, "address = §\"10.2.0.1/33\"", "not a prefix length", "1 to 32");
    one(member, "address = §\"10.2.0.0/24\"", "the subnet itself", "");
    one(member, "address = §\"10.2.0.255/24\"", "broadcast", "");
    one(member, "address = §\"224.0.0.1/24\"", "multicast", "");
    one(member, "address = §\"127.0.0.1/8\"", "loopback", "");
    one(member, "address = [\"10.2.0.1/24\", §\"fd00::x/64\"]", "not an IP address", "");
    one("address = \"10.1.0.2/24\"", "address = [\"10.1.0.2/24\", §\"ff02::1/64\"]", "multicast", "");
    one(
        "address = \"10.1.0.2/24\"",
        "address = [\"10.1.0.2/24\", §\"fd00::1/129\"]",
        "prefix length",
        "1 to 128",
    );
    one("name = \"b\"", "name = \"b\"\nlab-network = §\"172.31.1.1/24\"", "beyond its prefix", "");
    one("serial = 1", "serial = 1\nmetrics = §\"127.0.0.1\"", "with a port", "");
    one("serial = 1", "serial = 1\nmanagement = §\"run/x.sock\"", "management", "unix:PATH");
}

#[test]
fn gateways_lie_in_a_subnet_of_the_member() {
    //= spec/platform-file.md#gateways
    //= type=test
    //# A gateway MUST be another address of a subnet in which the member has one, and there MUST be at most one for each
    //# of IPv4 and IPv6.
    let gateway = "gateway = \"10.1.0.2\"";
    one(gateway, "gateway = §\"10.3.0.1\"", "in none of the member's subnets", "");
    one(gateway, "gateway = §\"10.1.0.1\"", "own address", "");
    one(gateway, "gateway = [\"10.1.0.2\", §\"10.1.0.3\"]", "second gateway for IPv4", "");
    one(gateway, "gateway = [\"fd00:1::2\", §\"fd00:1::3\"]", "second gateway for IPv6", "");
    one(gateway, "gateway = §\"10.1.0.2/24\"", "not an IP address", "");
    assert_eq!(mistakes(&GOOD.replace(gateway, "gateway = [\"10.1.0.2\", \"fd00:1::2\"]")), []);
}

#[test]
fn mac_addresses_are_of_one_station() {
    //= spec/platform-file.md#mac-addresses
    //= type=test
    //# A MAC address in the file MUST be the unicast address of one station.
    let mac = "mac = \"52:54:00:00:00:01\"";
    one(mac, "mac = §\"53:54:00:00:00:01\"", "group address", "unicast");
    one(mac, "mac = §\"00:00:00:00:00:00\"", "null", "");
    one(mac, "mac = §\"52:54:00:00:00\"", "not a MAC address", "");
    assert_eq!(mistakes(&GOOD.replace(mac, "mac = \"02:00:02:00:00:07\"")), []);
}

#[test]
fn cluster_addresses_clash_with_no_other() {
    //= spec/platform-file.md#cluster-addresses
    //= type=test
    //# A cluster address MUST be no address of a member, an outside host or another cluster of the LAN, and lie in a
    //# subnet of the LAN.
    one("address = \"10.1.0.100\"", "address = §\"10.1.0.2\"", "already used", "");
    one("address = \"10.1.0.100\"", "address = §\"10.9.0.100\"", "in no subnet of LAN \"red\"", "");
    one("address = \"10.1.0.200/24\"", "address = §\"10.1.0.100/24\"", "already used", "");
    one(
        "balance = \"hash\"",
        "servers = [{ node = \"web2\" }]\n[[lan.cluster.service]]\nprotocol = \"tcp\"\nport = §80",
        "twice",
        "",
    );
}

#[test]
fn routers_of_clusters_are_members_each_once() {
    //= spec/platform-file.md#routers-of-clusters
    //= type=test
    //# The routers of a cluster MUST be members of its LAN, each once, and 256 at most; a cluster without routers MUST have a service.
    let service = "[[lan.cluster.service]]";
    let with = |routers: &str| format!("routers = {routers}\n{service}");
    one(service, &with("§[]"), "no routers", "");
    one(service, &with("[{ node = §\"nobody\" }]"), "no node \"nobody\"", "");
    one(service, &with("[{ node = \"web1\" }, { node = §\"web1\" }]"), "among the routers twice", "weight");
    one(service, &with("[{ node = \"web1\", weight = §0 }]"), "0", "");
    let cluster =
        |routers: &str| format!("§[[lan.cluster]]\naddress = \"10.1.0.77\"\n{routers}[[lan.cluster]]");
    one("[[lan.cluster]]", &cluster(""), "service", "`routers`");
    //= spec/platform-file.md#routers-of-clusters
    //= type=test
    //# The default router of an uplink MUST be a member of its LAN, or an address of a cluster of it that has routers.
    let hint = "give a [[lan.cluster]]";
    one("vid = 100", "default-router = §\"10.1.0.100\"", "no address of a cluster with routers", hint);
    let both = GOOD.replacen(service, &with("[{ node = \"web1\" }]"), 1);
    let default = both.replacen("vid = 100", "default-router = \"10.1.0.100\"", 1);
    assert_eq!(mistakes(&default), []);
    let alone = cluster("routers = [{ node = \"web1\" }]\n");
    let (text, _) = unmark(&GOOD.replacen("[[lan.cluster]]", &alone, 1));
    let platform = Platform::parse(&text, Path::new("p.toml")).expect("routers alone will do");
    let cluster = &platform.lans[0].clusters[0];
    assert_eq!((cluster.routers.len(), cluster.services.len()), (1, 0));
}

#[test]
fn clusters_are_bounded() {
    //= spec/platform-file.md#bounds-of-clusters
    //= type=test
    //# A LAN MUST have 16 clusters at most, a cluster 16 addresses and 64 services, and a service 256 servers.
    let addresses = |n: u8| (0..n).map(|i| format!("\"10.1.0.{}\"", 100 + i)).collect::<Vec<_>>().join(", ");
    let list = format!("address = \u{a7}[{}]", addresses(17));
    one("address = \"10.1.0.100\"", &list, "more than 16 addresses", "");
    let service = |port: u16| {
        format!(
            "[[lan.cluster.service]]\nprotocol = \"udp\"\nport = {port}\nservers = [{{ node = \"web1\" }}]\n"
        )
    };
    let cluster = |mark: &str, tail: u8, services: u16| {
        let services: String = (1..=services).map(service).collect();
        format!("{mark}[[lan.cluster]]\naddress = \"10.1.0.{tail}\"\n{services}")
    };
    let before = "[[lan]]\nname = \"blue\"";
    let with = |clusters: String| format!("{clusters}{before}");
    one(before, &with(cluster("\u{a7}", 101, 65)), "more than 64 services", "");
    let many: String = (0..16).map(|i| cluster(if i == 15 { "\u{a7}" } else { "" }, 101 + i, 1)).collect();
    one(before, &with(many), "more than 16 clusters", "");
}

#[test]
fn health_checks_are_of_tcp_not_too_frequent_and_for_a_path_that_can_be_asked_for() {
    //= spec/platform-file.md#health-checks
    //= type=test
    //# A health check MUST be of a service of TCP, come every 100 ms at most, and ask for a path of 255 octets at most.
    let check = "check = { kind = \"tcp\", interval = \"1s\" }";
    one(
        "protocol = \"tcp\"\nport = 80\nbalance = \"hash\"\nservers = [ { node = \"web1\" } ]\ncheck = {",
        "protocol = \"udp\"\nport = 80\nservers = [ { node = \"web1\" } ]\ncheck = §{",
        "of UDP has a check",
        "remove `check`",
    );
    one(check, "check = { kind = \"tcp\", interval = §\"99ms\" }", "too often", "100ms");
    let path = |path: &str| format!("check = {{ kind = \"http\", path = §\"{path}\" }}");
    one(check, &path("health"), "is not the path of a URL", "/health");
    one(check, &path("/a b"), "is not the path of a URL", "/health");
    one(check, &path(&format!("/{}", "x".repeat(255))), "256 octets", "shorter");
    let longest = GOOD.replace(check, &path(&format!("/{}", "x".repeat(254))).replace('§', ""));
    assert_eq!(mistakes(&longest), []);
}

#[test]
fn servers_have_no_more_addresses_than_their_peers_keep() {
    //= spec/platform-file.md#addresses-of-servers
    //= type=test
    //# An interface MUST have 64 addresses at most, aliases and the addresses of the clusters that it serves included.
    let aliases = (0..62).map(|i| format!("\"10.1.1.{i}\"")).collect::<Vec<_>>().join(", ");
    let text =
        GOOD.replace("gateway = \"10.1.0.2\"", &format!("gateway = \"10.1.0.2\"\nalias = [{aliases}]"));
    let (text, positions) = unmark(&text.replace("[[lan.cluster]]", "\u{a7}[[lan.cluster]]"));
    let found = mistakes(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].position, positions[0]);
    assert!(found[0].what.contains("65 addresses"), "{found:?}");
}

#[test]
fn services_name_members_of_the_lan() {
    one("servers = [ { node = \"web1\" } ]", "servers = §[]", "no server", "");
    one("{ node = \"web1\" }", "{ node = \"web1\" }, { node = §\"web1\" }", "twice", "");
    one("ports = [ { control-node = \"cn-a\", device = \"eth1\" } ]", "ports = §[]", "no port", "");
    let other = "[[lan.cluster]]\naddress = \"10.2.0.9\"\n[[lan.cluster.service]]\nprotocol = \"udp\"\nport = 53\nservers = [{ node = §\"web2\" }]\n[[lab.outside]]";
    one("[[lab.outside]]", other, "\"web2\" is not a member of LAN \"blue\"", "member");
}

#[test]
fn a_node_has_at_most_127_interfaces() {
    //= spec/platform-file.md#interfaces-of-a-node
    //= type=test
    //# A node MUST have 127 interfaces at most.
    use std::fmt::Write;
    let mut text = GOOD.to_owned();
    for i in 0..126 {
        let mark = if i == 125 { "\u{a7}" } else { "" };
        write!(text, "[[lan]]\nname = \"l{i}\"\nid = {}\n{mark}[[lan.member]]\nnode = \"web1\"\n", 100 + i)
            .unwrap();
    }
    let (text, positions) = unmark(&text);
    let found = mistakes(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].position, positions[0]);
    assert!(found[0].what.contains("127"));
}

#[test]
fn fabrics_and_control_nodes_are_few() {
    let fabrics =
        "name = \"b\"\n[[fabric]]\nname = \"c\"\n[[fabric]]\nname = \"d\"\n§[[fabric]]\nname = \"e\"";
    one("name = \"b\"", fabrics, "too many fabrics", "4");
    let more = |i: u8| {
        format!("[[control-node]]\nname = \"cn-{i}\"\nserial = {i}\nlegs = {{ a = \"unix:run/{i}\" }}\n")
    };
    one("[[node]]", &format!("{}§{}[[node]]", more(2), more(3)), "too many control nodes", "2");
}

#[test]
fn a_file_with_a_thousand_mistakes_and_more_is_still_reported() {
    let keys: String = (0..5000).map(|i| format!("key{i} = 1\n")).collect();
    assert_eq!(mistakes(&format!("{keys}{GOOD}")).len(), 1000);
}

#[test]
fn an_alias_is_the_address_of_a_station_that_nobody_else_has() {
    //= spec/platform-file.md#aliases
    //= type=test
    //# An alias MUST be the address of a station without a prefix length, and an interface MUST have 64 addresses and aliases
    //# at most.
    let limits = "limits = { frames = 1 }";
    assert_eq!(mistakes(&GOOD.replace(limits, "alias = [\"10.1.0.3\", \"fe80::7\"]")), []);
    one(limits, "alias = §\"10.1.0.3/24\"", "not an IP address", "");
    one(limits, "alias = §\"10.1.0.1\"", "10.1.0.1", "");
    one(limits, "alias = §\"ff02::1\"", "multicast", "");
    let many: Vec<_> = (1..=63).map(|n| format!("\"fd00:7::{n:x}\"")).collect();
    assert_eq!(mistakes(&GOOD.replace(limits, &format!("alias = [{}]", many.join(", ")))), []);
    one(limits, &format!("alias = [{}, §\"fd00:8::1\"]", many.join(", ")), "too many aliases", "64");
}

#[test]
fn a_limit_is_a_number_of_frames_or_of_frames_and_bits() {
    //= spec/platform-file.md#limits
    //= type=test
    //# A limit of broadcast, multicast or unknown unicast frames MUST be a number of frames a second or a table of `frames` and
    //# `bits`, and each number at least 1.
    let limits = "limits = { frames = 1 }";
    let good =
        "limits = { broadcast = 5, multicast = { bits = 9 }, unknown = { frames = 1, bits = 1 }, bits = 1 }";
    assert_eq!(mistakes(&GOOD.replace(limits, good)), []);
    one(limits, "limits = { broadcast = §0 }", "`broadcast`", "1 to");
    one(limits, "limits = { broadcast = { bits = §0 } }", "`bits`", "1 to");
    one(limits, "limits = { unknown = { §octets = 1 } }", "unknown key `octets` in a limit", "frames, bits");
    one(limits, "limits = { multicast = §\"many\" }", "a string", "an integer");
}

#[test]
fn a_lan_learns_as_many_stations_as_its_table_holds() {
    //= spec/platform-file.md#stations-behind-members
    //= type=test
    //# The stations that may be learned behind the members of a LAN MUST be 16384 at most together, and 4096 behind one
    //# member.
    let limits = "limits = { frames = 1 }";
    one(limits, "learn = §4097", "`learn`", "0 to 4096");
    one(limits, "learn = §-1", "`learn`", "0 to 4096");
    // Of another LAN with four members, of which the last one asks for what is left, or one more.
    let node = |n: u8| format!("[[node]]\nname = \"x{n}\"\nnumber = 1{n}\nlegs = {{ a = \"unix\" }}\n");
    let member = |n: u8, learn: &str| format!("[[lan.member]]\nnode = \"x{n}\"\nlearn = {learn}\n");
    let others = (1..=4).map(|n| member(n, if n == 1 { "4095" } else { "4096" })).collect::<String>();
    let nodes = (1..=5).map(node).collect::<String>();
    let lan = |last: &str| {
        format!(
            "{nodes}[[lan]]\nname = \"bridges\"\nid = 7\n{others}{}[[lan]]\nname = \"red\"",
            member(5, last)
        )
    };
    assert_eq!(mistakes(&GOOD.replace("[[lan]]\nname = \"red\"", &lan("1"))), []);
    one(
        "[[lan]]\nname = \"red\"",
        &lan("§2"),
        "2 stations behind this member and 16383 behind others",
        "16384",
    );
}
