//! The sections of the file that name the platform, control nodes and nodes, and the order in which all are read: what is
//! referred to comes first, wherever it stands in the text.

mod cluster;
mod fabric;
mod lan;
mod legs;
mod member;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::DeTable;
use vlan_core::limits::CONTROL_NODES_MAX;
use vlan_core::{CabinetNumber, ControlNodeSerial, NodeNumber};

use crate::error::{Mistake, PlatformError};
use crate::model::{ControlNode, Management, Node, OutsideHost, Platform, folder_of};
use crate::reader::{Reader, Table, Value};
use crate::registry::Kind;
use crate::sections::legs::{Owner, check_reach, read_legs};
use crate::text::Lines;
use crate::value;

/// Most characters of a platform's name: it is the prefix of every namespace that a lab makes.
const PLATFORM_NAME_LEN_MAX: usize = 8;

/// Reads a whole platform file.
//= spec/platform-file.md#all-or-nothing
//# A file with a mistake MUST give no platform, and every mistake of meaning MUST be reported in one go.
pub fn read(text: &str, path: &Path) -> Result<Platform, PlatformError> {
    let refuse = |mistakes| PlatformError::Mistakes { path: path.to_owned(), mistakes };
    let root = DeTable::parse(text).map_err(|error| refuse(vec![syntax_mistake(text, &error)]))?;
    let mut reader = Reader::new(text, folder_of(path).to_owned());
    let mut platform = Platform {
        path: path.to_owned(),
        text: text.to_owned(),
        name: String::new(),
        cabinet: CabinetNumber(1),
        grant_key_file: PathBuf::new(),
        fabrics: Vec::new(),
        control_nodes: Vec::new(),
        nodes: Vec::new(),
        lans: Vec::new(),
        outside: Vec::new(),
        not_built: Vec::new(),
    };
    read_root(&mut reader, Table::new(root.get_ref(), 0, "the file"), &mut platform);
    if reader.mistakes.is_empty() {
        platform.not_built = reader.not_built;
        platform.not_built.sort();
        return Ok(platform);
    }
    reader.mistakes.sort();
    reader.mistakes.dedup();
    Err(refuse(reader.mistakes))
}

fn syntax_mistake(text: &str, error: &toml::de::Error) -> Mistake {
    let offset = error.span().map_or(0, |span| span.start);
    let hint = match error.message() {
        "duplicate key" => "a key or table may stand only once: remove one of the two",
        _ => {
            "the file is TOML: KEY = VALUE lines under [TABLE] and [[LIST]] headers, strings in double quotes"
        }
    };
    Mistake {
        position: Lines::new(text).position(offset),
        what: error.message().lines().collect::<Vec<_>>().join(", "),
        hint: hint.into(),
    }
}

/// What the sections know of those before them.
struct Known {
    /// Names of nodes, also of those with mistakes, so that one mistake is not reported twice.
    nodes: BTreeMap<String, NodeNumber>,
    /// How many interfaces each node has.
    interfaces: BTreeMap<NodeNumber, usize>,
}

fn read_root(reader: &mut Reader<'_>, mut root: Table<'_>, platform: &mut Platform) {
    if let Some(value) = root.required_section(reader, "platform", "[platform]", "name = \"lab\"") {
        read_platform(reader, value, platform);
    }
    let fabrics = root.required_section(reader, "fabric", "[[fabric]]", "name = \"a\"");
    let lab_networks = fabrics.map(|v| fabric::read_fabrics(reader, v, platform)).unwrap_or_default();
    let control_node = "name = \"cn-a\" and serial = 1";
    if let Some(value) = root.required_section(reader, "control-node", "[[control-node]]", control_node) {
        read_control_nodes(reader, value, platform);
    }
    let mut known = Known { nodes: BTreeMap::new(), interfaces: BTreeMap::new() };
    for table in root.optional("node").map(|v| v.tables(reader, "[[node]]")).unwrap_or_default() {
        read_node(reader, table, platform, &mut known);
    }
    fabric::check_room(reader, &lab_networks, platform);
    for table in root.optional("lan").map(|v| v.tables(reader, "[[lan]]")).unwrap_or_default() {
        lan::read_lan(reader, table, platform, &mut known);
    }
    if let Some(mut lab) = root.optional("lab").and_then(|v| v.table(reader, "[lab]")) {
        for table in lab.optional("outside").map(|v| v.tables(reader, "[[lab.outside]]")).unwrap_or_default()
        {
            read_outside(reader, table, platform);
        }
        lab.finish(reader);
    }
    root.finish(reader);
}

fn read_platform(reader: &mut Reader<'_>, value: Value<'_>, platform: &mut Platform) {
    let Some(mut table) = value.table(reader, "[platform]") else { return };
    if let Some(value) = table.required(reader, "name", "\"lab\"") {
        platform.name = read_name(reader, value);
        if platform.name.len() > PLATFORM_NAME_LEN_MAX {
            reader.mistake(
                value.offset,
                format!("the platform's name {:?} has {} characters", platform.name, platform.name.len()),
                "it is the prefix of a lab's namespaces: at most 8 characters",
            );
        }
    }
    if let Some(cabinet) = table.optional("cabinet").and_then(|v| v.integer16(reader, 1..=u16::MAX)) {
        platform.cabinet = CabinetNumber(cabinet);
    }
    platform.grant_key_file = read_path(reader, table.optional("grant-key-file"), "keys/grant");
    table.finish(reader);
}

fn read_control_nodes(reader: &mut Reader<'_>, value: Value<'_>, platform: &mut Platform) {
    for (index, table) in value.tables(reader, "[[control-node]]").into_iter().enumerate() {
        if index >= CONTROL_NODES_MAX {
            let hint = format!("a platform has at most {CONTROL_NODES_MAX}");
            reader.mistake(table.offset, "too many control nodes", hint);
            return;
        }
        if index > 0 {
            reader.not_built(table.offset, "more than one control node");
        }
        let control_node = read_control_node(reader, table, platform);
        platform.control_nodes.push(control_node);
    }
}

fn read_control_node(reader: &mut Reader<'_>, mut table: Table<'_>, platform: &Platform) -> ControlNode {
    let name = table.required(reader, "name", "\"cn-a\"").map(|v| claim_name(reader, v, Kind::Process));
    let name = name.unwrap_or_default();
    let serial = table.required(reader, "serial", "1").and_then(|value| {
        let serial = value.integer16(reader, 1..=u16::MAX)?;
        reader.claim(Kind::Serial, 0, serial.to_string(), value.offset);
        Some(ControlNodeSerial(serial))
    });
    let host = table.optional("host").map(|v| read_name(reader, v));
    let key_file = read_own_path(reader, &mut table, "key-file", &format!("keys/{name}"), Kind::KeyFile);
    let state_dir = read_own_path(reader, &mut table, "state-dir", &format!("state/{name}"), Kind::StateDir);
    let management = read_management(reader, &mut table, &name);
    let metrics = table.optional("metrics").and_then(|value| {
        let text = value.string(reader)?;
        let address = reader.accept(value.offset, value::socket_address(text))?;
        reader.claim(Kind::TcpAddress, 0, address.to_string(), value.offset);
        Some(address)
    });
    let workers = table.optional("workers").and_then(|value| {
        // More workers than the largest machines have cores would only wait for each other.
        let workers = value.integer16(reader, 1..=256)?;
        if workers > 1 {
            reader.not_built(value.offset, "more than one data worker");
        }
        Some(workers)
    });
    let (legs, _) = read_legs(reader, &mut table, platform, Owner::ControlNode);
    table.finish(reader);
    ControlNode {
        name,
        serial: serial.unwrap_or_default(),
        host,
        key_file,
        state_dir,
        management,
        metrics,
        workers: workers.unwrap_or(1),
        legs,
    }
}

fn read_management(reader: &mut Reader<'_>, table: &mut Table<'_>, name: &str) -> Management {
    let default = || reader.folder.join(format!("run/{name}.sock"));
    let Some(value) = table.optional("management") else {
        let path = default();
        reader.claim(Kind::Socket, 0, path.to_string_lossy(), table.offset);
        return Management::Unix(path);
    };
    let stand_in = Management::Unix(default());
    let Some(text) = value.string(reader) else { return stand_in };
    if let Some(path) = text.strip_prefix("unix:") {
        let Some(path) = reader.accept(value.offset, value::socket_path(path)) else { return stand_in };
        let path = reader.folder.join(path);
        reader.claim(Kind::Socket, 0, path.to_string_lossy(), value.offset);
        return Management::Unix(path);
    }
    if let Some(address) = text.strip_prefix("tcp:") {
        reader.not_built(value.offset, "management over TCP");
        let Some(address) = reader.accept(value.offset, value::socket_address(address)) else {
            return stand_in;
        };
        reader.claim(Kind::TcpAddress, 0, address.to_string(), value.offset);
        return Management::Tcp(address);
    }
    reader.mistake(
        value.offset,
        format!("{text:?} is not a place for the management interface"),
        "write \"unix:PATH\", or \"tcp:ADDRESS:PORT\"",
    );
    stand_in
}

fn read_node(reader: &mut Reader<'_>, mut table: Table<'_>, platform: &mut Platform, known: &mut Known) {
    let name = table.required(reader, "name", "\"web1\"").map(|v| claim_name(reader, v, Kind::Process));
    let name = name.unwrap_or_default();
    let number = table.required(reader, "number", "1").and_then(|value| {
        let number = value.integer16(reader, 1..=u16::MAX)?;
        // A number that another node has is treated as none, or the two would seem to share their interfaces.
        reader.claim(Kind::NodeNumber, 0, number.to_string(), value.offset).then_some(NodeNumber(number))
    });
    let number = number.unwrap_or_default();
    let key_file = read_own_path(reader, &mut table, "key-file", &format!("keys/{name}"), Kind::KeyFile);
    let host = table.optional("host").map(|v| read_name(reader, v));
    let (legs, offset) = read_legs(reader, &mut table, platform, Owner::Node);
    table.finish(reader);
    if !name.is_empty() {
        known.nodes.insert(name.clone(), number);
    }
    let node = Node { name, number, host, key_file, legs };
    check_reach(reader, offset, &node, platform);
    platform.nodes.push(node);
}

fn read_outside(reader: &mut Reader<'_>, mut table: Table<'_>, platform: &mut Platform) {
    let name = table.required(reader, "name", "\"client\"").map(|v| claim_name(reader, v, Kind::Process));
    let lan_value =
        table.required(reader, "lan", "\"red\"").and_then(|v| Some((v.string(reader)?, v.offset)));
    let index = lan_value.and_then(|(lan_name, offset)| {
        let index = platform.lans.iter().position(|l| l.name == lan_name);
        match index {
            None => unknown(reader, offset, "LAN", lan_name, platform.lans.iter().map(|l| l.name.as_str())),
            Some(index) if platform.lans[index].uplink.is_none() => reader.mistake(
                offset,
                format!("LAN {lan_name:?} has no uplink"),
                "give the LAN an [lan.uplink]: an outside host is reached through it",
            ),
            Some(_) => {}
        }
        index
    });
    let mut addresses = Vec::new();
    if let Some(value) = table.required(reader, "address", "\"10.1.0.200/24\"") {
        for (text, offset) in value.strings(reader) {
            let Some(address) = reader.accept(offset, value::interface_address(text)) else { continue };
            if let Some(index) = index {
                reader.claim(Kind::Address, index, address.address.to_string(), offset);
            }
            addresses.push(address);
        }
    }
    table.finish(reader);
    let lan = index.map(|index| platform.lans[index].id).unwrap_or_default();
    platform.outside.push(OutsideHost { name: name.unwrap_or_default(), lan, addresses });
}

/// Notes a reference to something that is not there.
//= spec/platform-file.md#references
//# A reference to a fabric, control node, node or LAN that the file does not define MUST be a mistake.
fn unknown<'n>(
    reader: &mut Reader<'_>,
    offset: usize,
    kind: &str,
    name: &str,
    names: impl Iterator<Item = &'n str> + Clone,
) {
    const NAMES_SHOWN: usize = 8;
    let hint = match value::meant(name, names.clone()) {
        Some(word) => format!("did you mean {word:?}?"),
        None => {
            let shown: Vec<_> = names.take(NAMES_SHOWN).map(|n| format!("{n:?}")).collect();
            if shown.is_empty() {
                format!("define a {kind} first")
            } else {
                format!("there are {}", shown.join(", "))
            }
        }
    };
    reader.mistake(offset, format!("there is no {kind} {name:?}"), hint);
}

fn read_name(reader: &mut Reader<'_>, value: Value<'_>) -> String {
    let Some(text) = value.string(reader) else { return String::new() };
    let _ = reader.accept(value.offset, value::name(text));
    text.to_owned()
}

/// A name that nothing else of its kind may have; empty after a mistake that makes it stand for nothing.
fn claim_name(reader: &mut Reader<'_>, value: Value<'_>, kind: Kind) -> String {
    let name = read_name(reader, value);
    if name.is_empty() || !reader.claim(kind, 0, name.as_str(), value.offset) {
        return String::new();
    }
    name
}

/// A path relative to the file, or its default.
//= spec/platform-file.md#paths
//# A relative path MUST be taken from the folder of the platform file.
fn read_path(reader: &mut Reader<'_>, value: Option<Value<'_>>, default: &str) -> PathBuf {
    let text = value.and_then(|value| {
        let text = value.string(reader)?;
        reader.accept(value.offset, value::file_path(text))
    });
    reader.folder.join(text.unwrap_or(default))
}

/// A path that no other process of the platform may have.
fn read_own_path(
    reader: &mut Reader<'_>,
    table: &mut Table<'_>,
    key: &'static str,
    default: &str,
    kind: Kind,
) -> PathBuf {
    let value = table.optional(key);
    let path = read_path(reader, value, default);
    if let Some(value) = value {
        reader.claim(kind, 0, path.to_string_lossy(), value.offset);
    }
    path
}
