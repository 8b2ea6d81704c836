//! What the management interface says, as one set of types for those who serve it and those who ask.
//!
//! The control node's runtime (`switch-server`) fills these in and serves them as JSON over its management
//! socket; `switchctl` reads them back and prints tables. The lab's supervisor writes [`LabFile`] beside the
//! platform file and answers [`LabRequest`]s on a socket of its own, so that `switchctl exec`, `switchctl restart`
//! and `switchctl fabric` need no control node. **Each of these types is defined here and nowhere else**: a field is
//! added here first, and an added field has a default, so that an older program still reads a newer answer.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`] |
//! | `GET /v1/nodes` | list of [`Node`] |
//! | `GET /v1/lans` | list of [`Lan`] |
//! | `GET /v1/rvis` | list of [`Rvi`] |
//! | `GET /v1/bindings` | list of [`Binding`] |
//! | `GET /v1/groups` | list of [`Group`] |
//! | `GET /v1/uplinks` | list of [`Uplink`] |
//! | `GET /v1/clusters` | list of [`Cluster`] |
//! | `GET /v1/drops` | list of [`Drop`] |
//! | `GET /v1/counters` | list of [`Counter`] |
//! | `POST /v1/rvi/cut`, `POST /v1/rvi/heal` with an [`RviDrill`] | [`RviDrillAnswer`] |
//! | `POST /v1/fault` with a [`Fault`] | [`FaultAnswer`] |
//! | `POST /v1/drain` with a [`Drain`] | [`DrainAnswer`] |
//! | `POST /v1/capture` with a [`CaptureRequest`] | pcapng as it comes, the number in the header [`CAPTURE_HEADER`] |
//! | `POST /v1/trace` with a [`TraceRequest`] | [`TraceAnswer`] |
//! | `POST /v1/capture/end` with a [`CaptureEnd`] | itself |
//!
//! Anything but status 200 carries a [`Refusal`]. MAC and IP addresses travel as text, numbers as numbers.

mod capture;
mod cluster;
mod trace;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use capture::{CAPTURE_HEADER, CaptureDirection, CaptureEnd, CaptureRequest};
pub use cluster::{Cluster, ClusterServer, ClusterService, Drain, DrainAnswer};
pub use trace::{TraceAnswer, TraceRequest, TraceStep};

/// One control node at a glance: `GET /v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The control node's name in the platform file.
    pub name: String,
    /// Number of the configuration in force; each accepted change adds one.
    pub epoch: u64,
    /// True when the platform file on disk is not the configuration in force.
    pub config_differs: bool,
    /// Seconds since the process started.
    pub uptime_s: u64,
    /// Nodes attached now.
    pub nodes_attached: u32,
    /// Nodes of the platform file.
    pub nodes_total: u32,
    /// Virtual LANs served.
    pub lans: u32,
    /// Direct RVIs (reliable virtual interfaces) granted now.
    pub rvis_direct: u32,
    /// IP addresses bound to a MAC and a location.
    pub bindings: u32,
}

/// One node of the platform: `GET /v1/nodes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: u16,
    /// True while it has a leg to this control node.
    pub attached: bool,
    /// Identity of the process that serves it, 16 hexadecimal digits; empty while it is not attached.
    pub process: String,
    /// Its virtual interfaces, by number.
    pub interfaces: Vec<Interface>,
}

/// One virtual interface of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Name of the LAN.
    pub lan: String,
    /// Number of the interface in its node.
    pub vif: u16,
    /// Virtual MAC address.
    pub mac: String,
    /// Name of the interface in the node.
    pub name: String,
    /// IP addresses bound to it now.
    pub addresses: Vec<String>,
}

/// One virtual LAN: `GET /v1/lans`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lan {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u16,
    /// MTU in octets.
    pub mtu: u16,
    /// Its members.
    pub members: Vec<LanMember>,
}

/// One member of a virtual LAN.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LanMember {
    /// Name of the member's node.
    pub node: String,
    /// Number of the interface in its node.
    pub vif: u16,
    /// Virtual MAC address.
    pub mac: String,
    /// True while the node is attached.
    pub attached: bool,
    /// `listens` promiscuously, `may` do so, or `no`.
    pub promiscuous: String,
    /// How often it wanted to listen and was refused.
    pub refused: u64,
    /// How many further stations may be behind it.
    pub learn: u16,
    /// MAC addresses of the stations that were learned behind it.
    pub stations: Vec<String>,
}

/// One direct RVI between two nodes: `GET /v1/rvis`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rvi {
    /// Its number.
    pub rvi: u32,
    /// Name of the LAN that it serves.
    pub lan: String,
    /// The end at the node with the lower number.
    pub a: RviEnd,
    /// The other end.
    pub b: RviEnd,
    /// `granted` (an end has not yet confirmed), `up`, `cut` (by the administrator) or `ending`.
    pub state: String,
    /// Its legs, one for each fabric.
    pub legs: Vec<RviLeg>,
}

/// One end of a direct RVI.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RviEnd {
    /// Name of the node.
    pub node: String,
    /// Number of the interface in its node.
    pub vif: u16,
    /// Frames that this end has sent directly, when it has reported.
    pub tx_frames: u64,
    /// Octets that this end has sent directly.
    pub tx_octets: u64,
    /// Frames that this end has received directly.
    pub rx_frames: u64,
    /// Octets that this end has received directly.
    pub rx_octets: u64,
}

/// One leg of a direct RVI.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RviLeg {
    /// Name of the fabric.
    pub fabric: String,
    /// `up`, `suspect`, `starting`, `down` or `cut`.
    pub state: String,
    /// `unix`, `udp` or `ether`; empty where the pair was given no leg.
    pub kind: String,
    /// What the end at the node `a` says of it.
    pub a: LegEnd,
    /// What the end at the node `b` says of it.
    pub b: LegEnd,
}

/// One end of a leg, as its node has reported. What a leg of shared memory does not have is 0 or empty: nothing is lost
/// there, and its packets are messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LegEnd {
    /// Where it ends; empty but for packet legs.
    pub address: String,
    /// How the device of an ether leg is driven: `af-packet` or `af-xdp`; empty for other legs, and before that is reported.
    pub driver: String,
    /// How much speaks against the leg, in 1/1024 nat: suspect from 4,710 on, down at 35,840.
    pub score: u64,
    /// Smoothed round-trip time in nanoseconds.
    pub rtt_ns: u64,
    /// Octets of the longest packet that is sent: what is known to arrive.
    pub packet_octets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Octets of them.
    pub tx_octets: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Octets of them.
    pub rx_octets: u64,
    /// Packets sent here and proven lost.
    pub lost: u64,
    /// Pieces of messages sent here that may have gone before, here or by another leg.
    pub resends: u64,
    /// Packets that arrived although what they carried was sent again.
    pub spurious: u64,
    /// Messages received here that another packet or leg had brought already.
    pub duplicates: u64,
}

/// One IP address and where it is, or a station of which no address is known: `GET /v1/bindings`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Binding {
    /// The IP address; empty where none is known.
    pub address: String,
    /// The MAC address it is bound to.
    pub mac: String,
    /// Name of the node.
    pub node: String,
    /// Name of the LAN.
    pub lan: String,
    /// Number of the interface in its node.
    pub vif: u16,
    /// True when the MAC address is of a station that was learned behind the interface, not the interface's own.
    pub station: bool,
}

/// The way of one LAN to a network outside: `GET /v1/uplinks`. Frames are counted as they are inside, but for `sent`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Uplink {
    /// Name of the LAN.
    pub lan: String,
    /// `filtered` or `unfiltered`.
    pub mode: String,
    /// MAC address that outside sees; empty in unfiltered mode.
    pub system_mac: String,
    /// 802.1Q tag outside; 0 is none.
    pub vid: u16,
    /// Name of the device.
    pub device: String,
    /// How the device is driven: `af-packet`.
    pub driver: String,
    /// True while the device is there and something is connected to it.
    pub carrier: bool,
    /// MTU of the device in octets.
    pub mtu: u16,
    /// Name of the node that gets what no member is found for, or the cluster address whose routers do; empty when there is none.
    pub default_router: String,
    /// Frames that members had for outside.
    pub out_frames: u64,
    /// Octets of them.
    pub out_octets: u64,
    /// Frames that the device was given.
    pub sent_frames: u64,
    /// Octets of them.
    pub sent_octets: u64,
    /// Frames that came from outside.
    pub in_frames: u64,
    /// Octets of them.
    pub in_octets: u64,
    /// Frames of these that went inside.
    pub taken_frames: u64,
    /// Octets of them.
    pub taken_octets: u64,
    /// Frames of both ways that were dropped, also those of the device's that no LAN is to have.
    pub dropped: u64,
    /// Errors for what was too long for outside, given to senders.
    pub errors: u64,
    /// MAC addresses outside that were heard within 300 s.
    pub stations: Vec<String>,
    /// Milliseconds since a frame of the platform's own came back; none when none ever did.
    pub loop_age_ms: Option<u64>,
}

/// One multicast group of a LAN and who gets its frames: `GET /v1/groups`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// Name of the LAN.
    pub lan: String,
    /// The group's IP address; `*` stands for every group.
    pub group: String,
    /// Who gets its frames.
    pub members: Vec<GroupMember>,
}

/// One member of a LAN that gets the frames of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupMember {
    /// Name of the node.
    pub node: String,
    /// Number of the interface in its node.
    pub vif: u16,
    /// How it is known: `own` (the interface's stack has joined), `report` (by IGMP or MLD), `own+report`; or why it gets
    /// every group: `configured`, `asked` (by its driver), `no-room` (for what it has joined), `listens`
    /// (promiscuously), `unsaid` (so far).
    pub source: String,
    /// Seconds since it joined, as this control node knows; 0 for one that gets every group.
    pub age_s: u64,
}

/// Frames dropped at one place for one reason: `GET /v1/drops`. Reasons that never happened are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drop {
    /// Where: the control node's name, or `NODE/LAN` for an interface.
    #[serde(rename = "where")]
    pub place: String,
    /// The reason's name (`vlan_core::DropReason::name`).
    pub reason: String,
    /// Frames.
    pub frames: u64,
    /// The last of them, where one was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<DropExample>,
    /// Frames a second, where two answers were compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u64>,
}

/// The last frame that was dropped somewhere for some reason, without what its headers carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DropExample {
    /// How long ago it was dropped, in milliseconds.
    pub age_ms: u64,
    /// Octets of the frame.
    pub octets: u32,
    /// Who sent what to whom.
    pub text: String,
    /// Its headers in hexadecimal digits.
    pub headers: String,
}

/// One counter: `GET /v1/counters`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counter {
    /// A dotted name; a node's counters begin with `node.NAME.`.
    pub name: String,
    /// The value.
    pub value: u64,
}

/// Cuts or heals the direct RVIs of a pair of nodes: body of `POST /v1/rvi/cut` and `POST /v1/rvi/heal`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RviDrill {
    /// Name of one node.
    pub a: String,
    /// Name of the other.
    pub b: String,
    /// Only the leg through this fabric; all legs when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fabric: Option<String>,
}

/// Answer to an [`RviDrill`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RviDrillAnswer {
    /// Direct RVIs of the pair that existed when the order was carried out.
    pub rvis: u32,
}

/// Longest [`Fault::spec`], in octets: every fault with all its parameters has room several times over.
pub const FAULT_SPEC_LEN_MAX: usize = 256;

/// The [`Fault::spec`] that ends faults.
pub const FAULT_OFF: &str = vlan_core::wire::control::FAULT_OFF;

/// Spoils what crosses the packet legs of nodes, for drills: body of `POST /v1/fault`. It replaces what was asked for
/// the same legs and direction before, and ends with
/// the node's session with its control node: a fault that cuts a node off is over by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Name of the node; every node when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Only the legs through this fabric; all packet legs when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fabric: Option<String>,
    /// Which packets, as the node sees them.
    #[serde(default)]
    pub direction: FaultDirection,
    /// What is done to them, such as `loss=5%,delay=2ms`, or [`FAULT_OFF`].
    pub spec: String,
}

/// Which packets a [`Fault`] is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultDirection {
    /// Those that come.
    In,
    /// Those that go.
    Out,
    /// Either.
    #[default]
    Both,
}

/// Answer to a [`Fault`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultAnswer {
    /// Nodes that were told.
    pub nodes: u32,
}

/// A platform file to apply: body of `POST /v1/apply`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ApplyRequest {
    /// Its text.
    pub text: String,
    /// Only say what would change.
    pub dry_run: bool,
}

/// One difference between the platform as it runs and a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Change {
    /// Name of the LAN.
    pub lan: String,
    /// Name of the member's node.
    pub node: String,
    /// The key of the platform file.
    pub key: String,
    /// What it was; empty for nothing.
    pub from: String,
    /// What it becomes.
    pub to: String,
}

/// Answer to an [`ApplyRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ApplyAnswer {
    /// Number of the configuration that is in use now.
    pub epoch: u64,
    /// True when the file was applied.
    pub applied: bool,
    /// What differs from the platform as it ran.
    pub changes: Vec<Change>,
}

/// Why the management interface refused: body of every answer whose status is not 200.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refusal {
    /// What is wrong.
    pub error: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

/// A running lab, written by its supervisor as `run/lab.json` beside the platform file.
///
/// Written whole under another name and renamed into place, each time a process starts or ends or a fabric goes down
/// or up; removed when the lab ends. The lab is alive only while [`supervisor`](Self::supervisor) is: a reader checks that first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabFile {
    /// Name of the platform.
    pub name: String,
    /// Process id of the supervisor.
    pub supervisor: u32,
    /// The user namespace of a lab without root, such as `/proc/4711/ns/user`; absent for root.
    pub user_ns: Option<PathBuf>,
    /// The nodes.
    pub nodes: Vec<LabNode>,
    /// The control nodes.
    pub control_nodes: Vec<LabProcess>,
    /// The fabrics that have a lab network.
    pub fabrics: Vec<LabFabric>,
    /// The hosts outside.
    pub outside: Vec<LabHost>,
}

/// One node of a running lab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabNode {
    /// Its name in the platform file.
    pub name: String,
    /// Its process; absent while it is dead.
    pub pid: Option<u32>,
    /// The network namespace that holds its interfaces: `/run/netns/NAME-NODE`, or without root a descriptor
    /// of the supervisor, `/proc/SUPERVISOR/fd/N`. It outlives the node's process.
    pub netns: PathBuf,
}

/// One host of a running lab on a network outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabHost {
    /// Its name in the platform file.
    pub name: String,
    /// Its network namespace, as a node's.
    pub netns: PathBuf,
}

/// One control node of a running lab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabProcess {
    /// Its name in the platform file.
    pub name: String,
    /// Its process; absent while it is dead.
    pub pid: Option<u32>,
}

/// One fabric of a running lab that has a lab network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabFabric {
    /// Its name in the platform file; also the name of its interface in each process's underlay.
    pub name: String,
    /// False while it is taken down.
    pub up: bool,
}

/// A request to the lab's supervisor: one JSON object on a line of its own, on the stream socket `run/lab.sock`.
/// The answer is one [`LabAnswer`] on a line; then the supervisor closes the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum LabRequest {
    /// Starts the node or control node again in its place; one that lives is refused.
    Restart {
        /// Name of the node or control node.
        name: String,
    },
    /// Takes a fabric with a lab network down or up; one that is so already stays as it is.
    Fabric {
        /// Name of the fabric.
        name: String,
        /// Whether it is to be up.
        up: bool,
    },
}

/// Answer of the lab's supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum LabAnswer {
    /// It was done.
    Started {
        /// The new process.
        pid: u32,
    },
    /// The fabric is as asked.
    Fabric {
        /// Name of the fabric.
        name: String,
        /// Whether it is up.
        up: bool,
        /// Processes that it joins.
        processes: u32,
    },
    /// It was not done.
    Refused(Refusal),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_an_older_server_is_read_with_defaults() {
        let status: Status = serde_json::from_str(r#"{"name": "cn-a", "epoch": 3}"#).unwrap();
        assert_eq!(status, Status { name: "cn-a".into(), epoch: 3, ..Status::default() });
    }

    #[test]
    fn a_lab_request_is_one_line_of_json_and_reads_back() {
        let request = LabRequest::Restart { name: "cn-a".into() };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(text, r#"{"request":"restart","name":"cn-a"}"#);
        assert_eq!(serde_json::from_str::<LabRequest>(&text).unwrap(), request);
        let refused = LabAnswer::Refused(Refusal { error: "cn-a runs".into(), hint: String::new() });
        let text = serde_json::to_string(&refused).unwrap();
        assert_eq!(serde_json::from_str::<LabAnswer>(&text).unwrap(), refused);
    }

    #[test]
    fn a_request_for_a_fabric_is_a_line_too() {
        let request = LabRequest::Fabric { name: "a".into(), up: false };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(text, r#"{"request":"fabric","name":"a","up":false}"#);
        assert_eq!(serde_json::from_str::<LabRequest>(&text).unwrap(), request);
    }

    #[test]
    fn a_fault_says_only_what_was_asked_for() {
        let all = Fault { spec: "off".into(), ..Fault::default() };
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(text, r#"{"direction":"both","spec":"off"}"#);
        assert_eq!(serde_json::from_str::<Fault>(r#"{"spec":"off"}"#).unwrap(), all);
        assert!(serde_json::from_str::<Fault>(r#"{"spec":"off","node":"web1","leg":2}"#).is_err());
    }

    #[test]
    fn a_drop_says_where_under_that_name() {
        let drop = Drop { place: "cn-a".into(), reason: "expired".into(), frames: 2, ..Drop::default() };
        assert_eq!(
            serde_json::to_string(&drop).unwrap(),
            r#"{"where":"cn-a","reason":"expired","frames":2}"#
        );
    }
}
