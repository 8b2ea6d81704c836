//! Answers of a control node as text for people.

use platform::management::{
    ApplyAnswer, Binding, Counter, Drop, FAULT_OFF, Fault, FaultAnswer, FaultDirection, Group, Lan,
    LanMember, LegEnd, Node, Rvi, RviDrill, RviDrillAnswer, RviEnd, RviLeg, Status, TraceAnswer, Uplink,
};

use crate::table::Table;

/// An answer that people read.
pub trait Show {
    /// Whole lines of text.
    fn show(&self) -> String;
}

impl Show for Status {
    fn show(&self) -> String {
        let mut text = format!(
            "control node  {}, up {}\nnodes         {} of {} attached\nLANs          {}\n\
             direct RVIs   {}\nbindings      {}\nconfiguration {}\n",
            self.name,
            duration(self.uptime_s),
            self.nodes_attached,
            self.nodes_total,
            self.lans,
            self.rvis_direct,
            self.bindings,
            self.epoch,
        );
        if self.config_differs {
            text.push_str("the platform file has changed since it was loaded\n");
        }
        text
    }
}

impl Show for Vec<Node> {
    fn show(&self) -> String {
        let mut table =
            Table::new(&[">NUMBER", "NODE", "STATE", ">VIF", "LAN", "INTERFACE", "MAC", "ADDRESSES"]);
        for node in self {
            let mut head = [node.number.to_string(), node.name.clone(), attached(node.attached).to_owned()];
            if node.interfaces.is_empty() {
                table.row(std::mem::take(&mut head));
            }
            for interface in &node.interfaces {
                table.row(std::mem::take(&mut head).into_iter().chain([
                    interface.vif.to_string(),
                    interface.lan.clone(),
                    interface.name.clone(),
                    interface.mac.clone(),
                    interface.addresses.join(" "),
                ]));
            }
        }
        or_none(self, "nodes", &table)
    }
}

impl Show for Vec<Lan> {
    fn show(&self) -> String {
        let mut table =
            Table::new(&[">ID", "LAN", ">MTU", "MEMBER", ">VIF", "MAC", "STATE", "PROMISCUOUS", "STATIONS"]);
        for lan in self {
            let mut head = [lan.id.to_string(), lan.name.clone(), lan.mtu.to_string()];
            for member in &lan.members {
                table.row(std::mem::take(&mut head).into_iter().chain([
                    member.node.clone(),
                    member.vif.to_string(),
                    member.mac.clone(),
                    attached(member.attached).to_owned(),
                    promiscuous(member),
                    stations(member),
                ]));
            }
        }
        or_none(self, "LANs", &table)
    }
}

/// How many stations were learned behind a member, of how many that may be there.
fn stations(member: &LanMember) -> String {
    match member.learn {
        0 => "-".to_owned(),
        learn => format!("{} of {learn}", member.stations.len()),
    }
}

/// Whether a member listens promiscuously, and how often it has asked in vain.
fn promiscuous(member: &LanMember) -> String {
    match member.refused {
        0 => member.promiscuous.clone(),
        refused => format!("{}, refused {refused} times", member.promiscuous),
    }
}

impl Show for Vec<Uplink> {
    fn show(&self) -> String {
        let titles = [
            "LAN",
            "MODE",
            "MAC",
            ">TAG",
            "DEVICE",
            "DRIVER",
            "CARRIER",
            ">MTU",
            "ROUTER",
            ">OUT",
            ">SENT",
            ">IN",
            ">TAKEN",
            ">DROPPED",
            ">ERRORS",
            ">STATIONS",
            "LOOP",
        ];
        let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let mut table = Table::new(&titles);
        for uplink in self {
            table.row([
                uplink.lan.clone(),
                uplink.mode.clone(),
                or_dash(&uplink.system_mac),
                if uplink.vid == 0 { "-".to_owned() } else { uplink.vid.to_string() },
                uplink.device.clone(),
                uplink.driver.clone(),
                if uplink.carrier { "yes" } else { "NO" }.to_owned(),
                uplink.mtu.to_string(),
                or_dash(&uplink.default_router),
                uplink.out_frames.to_string(),
                uplink.sent_frames.to_string(),
                uplink.in_frames.to_string(),
                uplink.taken_frames.to_string(),
                uplink.dropped.to_string(),
                uplink.errors.to_string(),
                uplink.stations.len().to_string(),
                uplink.loop_age_ms.map_or("-".to_owned(), |age| format!("{} s ago", age / 1000)),
            ]);
        }
        or_none(self, "uplinks: a LAN has one when the platform file has a [lan.uplink] for it", &table)
    }
}

impl Show for Vec<Rvi> {
    fn show(&self) -> String {
        let titles = [
            ">RVI",
            "LAN",
            "STATE",
            "LEGS",
            "END",
            ">VIF",
            ">TX FRAMES",
            ">TX OCTETS",
            ">RX FRAMES",
            ">RX OCTETS",
        ];
        let mut table = Table::new(&titles);
        for rvi in self {
            let legs: Vec<_> = rvi.legs.iter().map(rvi_leg).collect();
            // A pair that is cut whole has no RVI; numbers begin with 1.
            let number = if rvi.rvi == 0 { "-".to_owned() } else { rvi.rvi.to_string() };
            let head = [number, rvi.lan.clone(), rvi.state.clone(), legs.join(" ")];
            table.row(head.into_iter().chain(end(&rvi.a)));
            table.row(<[String; 4]>::default().into_iter().chain(end(&rvi.b)));
        }
        let text =
            or_none(self, "direct RVIs: pairs of nodes get one when they have traffic worth it", &table);
        if self.is_empty() { text } else { text + "\n" + &legs(self) }
    }
}

/// How each leg does, as either end says.
fn legs(rvis: &[Rvi]) -> String {
    let titles = [
        ">RVI",
        "LEG",
        "KIND",
        "STATE",
        "END",
        "ADDRESS",
        "DRIVER",
        ">RTT us",
        ">SIZE",
        ">SCORE",
        ">TX PACKETS",
        ">RX PACKETS",
        ">LOST",
        ">RESENDS",
        ">SPURIOUS",
        ">DUPLICATES",
    ];
    let mut table = Table::new(&titles);
    for rvi in rvis {
        // A leg that the pair was not given has nothing to say.
        for leg in rvi.legs.iter().filter(|leg| !leg.kind.is_empty()) {
            let head = [rvi.rvi.to_string(), leg.fabric.clone(), leg.kind.clone(), leg.state.clone()];
            table.row(head.into_iter().chain(leg_end(&rvi.a.node, &leg.a)));
            table.row(<[String; 4]>::default().into_iter().chain(leg_end(&rvi.b.node, &leg.b)));
        }
    }
    table.text()
}

fn leg_end(node: &str, end: &LegEnd) -> [String; 12] {
    let LegEnd { tx_packets, rx_packets, lost, resends, spurious, duplicates, .. } = end;
    let rtt = if end.rtt_ns == 0 { String::new() } else { (end.rtt_ns / 1000).to_string() };
    let size = if end.packet_octets == 0 { String::new() } else { end.packet_octets.to_string() };
    let figures = [tx_packets, rx_packets, lost, resends, spurious, duplicates].map(u64::to_string);
    let [tx_packets, rx_packets, lost, resends, spurious, duplicates] = figures;
    let (node, address, score) = (node.to_owned(), end.address.clone(), end.score.to_string());
    let driver = end.driver.clone();
    [node, address, driver, rtt, size, score, tx_packets, rx_packets, lost, resends, spurious, duplicates]
}

impl Show for Vec<Binding> {
    fn show(&self) -> String {
        let mut table = Table::new(&["ADDRESS", "MAC", "MAC OF", "NODE", "LAN", ">VIF"]);
        for binding in self {
            table.row([
                if binding.address.is_empty() { "-".to_owned() } else { binding.address.clone() },
                binding.mac.clone(),
                if binding.station { "a station" } else { "the member" }.to_owned(),
                binding.node.clone(),
                binding.lan.clone(),
                binding.vif.to_string(),
            ]);
        }
        or_none(self, "bindings", &table)
    }
}

impl Show for Vec<Group> {
    fn show(&self) -> String {
        let mut table = Table::new(&["LAN", "GROUP", "MEMBER", ">VIF", "SOURCE", "AGE"]);
        for group in self {
            let mut head = [group.lan.clone(), group.group.clone()];
            for member in &group.members {
                let is_every = group.group == "*";
                table.row(std::mem::take(&mut head).into_iter().chain([
                    member.node.clone(),
                    member.vif.to_string(),
                    member.source.clone(),
                    if is_every { String::new() } else { duration(member.age_s) },
                ]));
            }
        }
        or_none(self, "multicast groups joined", &table)
    }
}

impl Show for Vec<Drop> {
    fn show(&self) -> String {
        let has_rates = self.iter().any(|drop| drop.per_second.is_some());
        let titles = ["WHERE", "REASON", ">FRAMES", ">FRAMES/s", ">LAST", "EXAMPLE"];
        let titles: Vec<_> = titles.into_iter().filter(|title| has_rates || *title != ">FRAMES/s").collect();
        let mut table = Table::new(&titles);
        for drop in self {
            let rate = drop.per_second.filter(|_| has_rates).map(|rate| rate.to_string());
            let example = drop.example.clone().unwrap_or_default();
            let last = drop.example.as_ref().map_or_else(String::new, |example| age(example.age_ms));
            let cells = [drop.place.clone(), drop.reason.clone(), drop.frames.to_string()];
            table.row(cells.into_iter().chain(rate).chain([last, example.text]));
        }
        or_none(self, "frames dropped", &table)
    }
}

impl Show for TraceAnswer {
    fn show(&self) -> String {
        let mut table = Table::new(&["WHERE", "DECISION", "RULE"]);
        let mut last = "";
        for step in &self.steps {
            let place = if step.place == last { String::new() } else { step.place.clone() };
            last = &step.place;
            table.row([place, step.what.clone(), step.rule.clone()]);
        }
        let end = match self.delivered.as_slice() {
            [] => "it would not arrive".to_owned(),
            places => format!("it would arrive at {}", places.join(", ")),
        };
        format!("{}\n\n{}\n{end}\n", self.frame, table.text())
    }
}

impl Show for ApplyAnswer {
    fn show(&self) -> String {
        let value = |value: &str| if value.is_empty() { "-" } else { value }.to_owned();
        let mut table = Table::new(&["LAN", "NODE", "KEY", "FROM", "TO"]);
        for change in &self.changes {
            let [from, to] = [&change.from, &change.to].map(|text| value(text));
            table.row([change.lan.clone(), change.node.clone(), change.key.clone(), from, to]);
        }
        let end = match (self.applied, self.changes.is_empty()) {
            (true, _) => format!("configuration {} is in use\n", self.epoch),
            (false, false) => "a dry run: nothing was changed\n".to_owned(),
            (false, true) => String::new(),
        };
        or_none(&self.changes, "changes", &table) + &end
    }
}

impl Show for Vec<Counter> {
    fn show(&self) -> String {
        let mut table = Table::new(&["COUNTER", ">VALUE"]);
        for counter in self {
            table.row([counter.name.clone(), counter.value.to_string()]);
        }
        or_none(self, "counters", &table)
    }
}

/// What a drill did; `verb` is `cut` or `healed`.
pub fn drill(verb: &str, drill: &RviDrill, answer: &RviDrillAnswer) -> String {
    let through = drill.fabric.as_ref().map(|name| format!(" on fabric {name}")).unwrap_or_default();
    let rvis = match answer.rvis {
        0 => "no direct RVI now".to_owned(),
        1 => "1 direct RVI".to_owned(),
        n => format!("{n} direct RVIs"),
    };
    format!("{verb} {} and {}{through}: {rvis}\n", drill.a, drill.b)
}

/// What was done to packets.
pub fn fault(fault: &Fault, answer: &FaultAnswer) -> String {
    let nodes = if answer.nodes == 1 { "node" } else { "nodes" };
    let through = fault.fabric.as_ref().map(|name| format!(" on fabric {name}")).unwrap_or_default();
    let which = match fault.direction {
        FaultDirection::In => "packets that come",
        FaultDirection::Out => "packets that go",
        FaultDirection::Both => "all packets",
    };
    let what = if fault.spec == FAULT_OFF { "no faults" } else { fault.spec.as_str() };
    format!("{} {nodes}, {which}{through}: {what}\n", answer.nodes)
}

/// A leg with its state; its kind where it is not shared memory, which is the usual one.
fn rvi_leg(leg: &RviLeg) -> String {
    match leg.kind.as_str() {
        "" | "unix" => format!("{}:{}", leg.fabric, leg.state),
        kind => format!("{}:{}({kind})", leg.fabric, leg.state),
    }
}

fn end(end: &RviEnd) -> [String; 6] {
    [
        end.node.clone(),
        end.vif.to_string(),
        end.tx_frames.to_string(),
        end.tx_octets.to_string(),
        end.rx_frames.to_string(),
        end.rx_octets.to_string(),
    ]
}

fn attached(attached: bool) -> &'static str {
    if attached { "attached" } else { "away" }
}

fn or_none<T>(items: &[T], what: &str, table: &Table) -> String {
    if items.is_empty() { format!("no {what}\n") } else { table.text() }
}

/// How long ago something was.
fn age(milliseconds: u64) -> String {
    match milliseconds {
        0..1000 => format!("{milliseconds} ms ago"),
        _ => format!("{} ago", duration(milliseconds / 1000)),
    }
}

/// A duration in its two largest units.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::management::{Change, DropExample, Interface};

    #[test]
    fn a_node_has_a_line_for_each_interface_and_one_without() {
        let interface = |lan: &str, vif| Interface {
            lan: lan.into(),
            vif,
            mac: "02:00:01:00:00:01".into(),
            name: format!("{lan}0"),
            addresses: vec!["10.1.0.1".into(), "fd00:1::1".into()],
        };
        let nodes = vec![
            Node {
                name: "web1".into(),
                number: 1,
                attached: true,
                interfaces: vec![interface("red", 1), interface("blue", 2)],
                ..Node::default()
            },
            Node { name: "spare".into(), number: 12, ..Node::default() },
        ];
        let expected = "\
NUMBER  NODE   STATE     VIF  LAN   INTERFACE  MAC                ADDRESSES
     1  web1   attached    1  red   red0       02:00:01:00:00:01  10.1.0.1 fd00:1::1
                           2  blue  blue0      02:00:01:00:00:01  10.1.0.1 fd00:1::1
    12  spare  away
";
        assert_eq!(nodes.show(), expected);
    }

    #[test]
    fn an_rvi_has_a_line_for_each_end() {
        let end = |node: &str| RviEnd { node: node.into(), vif: 1, tx_frames: 5, ..RviEnd::default() };
        let leg = |fabric: &str, kind: &str| RviLeg {
            fabric: fabric.into(),
            state: "up".into(),
            kind: kind.into(),
            a: LegEnd {
                address: "192.0.2.1:7".into(),
                driver: if kind == "ether" { "af-xdp".into() } else { String::new() },
                rtt_ns: 81_500,
                packet_octets: 8968,
                lost: 4,
                ..LegEnd::default()
            },
            b: LegEnd { tx_packets: 12, ..LegEnd::default() },
        };
        let rvi = Rvi {
            rvi: 7,
            lan: "red".into(),
            a: end("web1"),
            b: end("web2"),
            state: "up".into(),
            legs: vec![leg("a", "unix"), leg("b", "ether")],
        };
        let expected = "\
RVI  LAN  STATE  LEGS              END   VIF  TX FRAMES  TX OCTETS  RX FRAMES  RX OCTETS
  7  red  up     a:up b:up(ether)  web1    1          5          0          0          0
                                   web2    1          5          0          0          0

RVI  LEG  KIND   STATE  END   ADDRESS      DRIVER  RTT us  SIZE  SCORE  TX PACKETS  RX PACKETS  LOST  RESENDS  SPURIOUS  DUPLICATES
  7  a    unix   up     web1  192.0.2.1:7              81  8968      0           0           0     4        0         0           0
                        web2                                         0          12           0     0        0         0           0
  7  b    ether  up     web1  192.0.2.1:7  af-xdp      81  8968      0           0           0     4        0         0           0
                        web2                                         0          12           0     0        0         0           0
";
        assert_eq!(vec![rvi].show(), expected);
        assert!(Vec::<Rvi>::new().show().starts_with("no direct RVIs"));
    }

    #[test]
    fn a_lan_shows_its_members_and_empty_lists_say_so() {
        let member = |node: &str, promiscuous: &str, refused| LanMember {
            node: node.into(),
            vif: 1,
            mac: "m".into(),
            attached: false,
            promiscuous: promiscuous.into(),
            refused,
            learn: u16::from(node == "web1") * 8,
            stations: vec!["s".into(); usize::from(node == "web1")],
        };
        let members = vec![member("web1", "listens", 0), member("web2", "no", 2)];
        let lan = Lan { name: "red".into(), id: 10, mtu: 1500, members };
        let expected = "\
ID  LAN   MTU  MEMBER  VIF  MAC  STATE  PROMISCUOUS          STATIONS
10  red  1500  web1      1  m    away   listens              1 of 8
               web2      1  m    away   no, refused 2 times  -
";
        assert_eq!(vec![lan].show(), expected);
        assert_eq!(Vec::<Drop>::new().show(), "no frames dropped\n");
        assert_eq!(Vec::<Binding>::new().show(), "no bindings\n");
        assert_eq!(Vec::<Group>::new().show(), "no multicast groups joined\n");
        let uplink =
            Uplink { lan: "red".into(), mode: "unfiltered".into(), out_frames: 3, ..Uplink::default() };
        let shown = vec![uplink].show();
        assert!(shown.contains("red  unfiltered  -      -                  NO"), "{shown}");
        assert_eq!(Vec::<Counter>::new().show(), "no counters\n");
    }

    #[test]
    fn changes_are_listed_and_said_to_be_in_use_or_not() {
        let change = Change {
            lan: "red".into(),
            node: "web1".into(),
            key: "alias".into(),
            from: String::new(),
            to: "10.1.0.9".into(),
        };
        let answer = ApplyAnswer { epoch: 3, applied: true, changes: vec![change] };
        let lines = "LAN  NODE  KEY    FROM  TO\nred  web1  alias  -     10.1.0.9\n";
        assert_eq!(answer.show(), format!("{lines}configuration 3 is in use\n"));
        let dry = ApplyAnswer { applied: false, ..answer };
        assert_eq!(dry.show(), format!("{lines}a dry run: nothing was changed\n"));
        assert_eq!(ApplyAnswer::default().show(), "no changes\n");
    }

    #[test]
    fn a_drop_has_its_last_example_and_a_rate_where_one_was_measured() {
        let example = |age_ms| {
            Some(DropExample { age_ms, octets: 60, text: "a > b, arp".into(), ..DropExample::default() })
        };
        let drop = |place: &str, example| Drop {
            place: place.into(),
            reason: "too-long".into(),
            frames: 7,
            example,
            per_second: None,
        };
        let mut drops =
            vec![drop("web1/red", example(900)), drop("cn-a", example(61_000)), drop("web2", None)];
        let expected = "\
WHERE     REASON    FRAMES           LAST  EXAMPLE
web1/red  too-long       7     900 ms ago  a > b, arp
cn-a      too-long       7  1 min 1 s ago  a > b, arp
web2      too-long       7
";
        assert_eq!(drops.show(), expected);
        drops.iter_mut().for_each(|drop| drop.per_second = Some(3));
        let first = drops.show().lines().nth(1).unwrap_or_default().to_owned();
        assert_eq!(first, "web1/red  too-long       7         3     900 ms ago  a > b, arp");
    }

    #[test]
    fn a_drill_says_what_it_met() {
        let mut order = RviDrill { a: "web1".into(), b: "web2".into(), fabric: None };
        let answer = |rvis| RviDrillAnswer { rvis };
        assert_eq!(drill("cut", &order, &answer(1)), "cut web1 and web2: 1 direct RVI\n");
        order.fabric = Some("a".into());
        assert_eq!(
            drill("healed", &order, &answer(0)),
            "healed web1 and web2 on fabric a: no direct RVI now\n"
        );
    }

    #[test]
    fn durations_have_two_units() {
        let shown: Vec<_> = [5, 65, 3660, 90_000].into_iter().map(duration).collect();
        assert_eq!(shown, ["5 s", "1 min 5 s", "1 h 1 min", "1 d 1 h"]);
    }
}
