//! Texts into the parser of the platform file: any octets, or a right file with changed lines and values.

use std::collections::BTreeSet;
use std::path::Path;

use platform::{Platform, PlatformError, Position};

use crate::script::Script;

/// A file that uses every part of the format once.
const BASE: &str = include_str!("../data/platform.toml");

/// Values to put in place of others: edges of every kind of value.
const VALUES: [&str; 25] = [
    "0",
    "-1",
    "65535",
    "65536",
    "9223372036854775807",
    "1.5",
    "true",
    "\"\"",
    "\"web1\"",
    "\"cn-a\"",
    "\"red\"",
    "\"unix\"",
    "\"udp:[::1]:0\"",
    "\"ether:eth0\"",
    "\"ether::af-xdp\"",
    "\"unix:/run/x\"",
    "\"10.1.0.1/24\"",
    "\"fe80::1/129\"",
    "\"224.0.0.1\"",
    "\"02:00:01:00:00:2a\"",
    "[]",
    "{}",
    "[\"unix\", \"unix\"]",
    "{ a = \"unix\", c = \"unix\" }",
    "1979-05-27",
];

/// Reads the text that `data` stands for. With a first octet below 128 that is the octets themselves.
pub fn run(data: &[u8]) {
    if data.first().is_some_and(|first| *first >= 128) {
        check(&changed(&mut Script::new(&data[1..])));
    } else if let Ok(text) = core::str::from_utf8(data) {
        check(text);
    }
}

fn check(text: &str) {
    let path = Path::new("platform.toml");
    match Platform::parse(text, path) {
        Ok(platform) => {
            assert_eq!(Platform::parse(text, path).ok().as_ref(), Some(&platform), "two readings differ");
            check_references(&platform);
            platform.not_built_yet().iter().for_each(|part| check_position(text, part.position));
        }
        Err(error) => {
            let mistakes = error.mistakes();
            assert!(!mistakes.is_empty() && matches!(error, PlatformError::Mistakes { .. }));
            assert!(mistakes.is_sorted_by_key(|mistake| mistake.position), "mistakes out of order");
            for mistake in mistakes {
                check_position(text, mistake.position);
                assert!(!mistake.what.is_empty() && !mistake.hint.is_empty(), "a mistake without words");
            }
            assert_eq!(error.report().matches("\nhint: ").count(), mistakes.len());
        }
    }
}

fn check_position(text: &str, position: Position) {
    let lines = text.matches('\n').count() as u32 + 1;
    assert!((1..=lines).contains(&position.line), "line {} of {lines}", position.line);
    let line = text.split('\n').nth(position.line as usize - 1).unwrap_or("");
    let columns = line.chars().count() as u32 + 1;
    assert!((1..=columns).contains(&position.column), "column {} of {columns} in {line:?}", position.column);
}

/// What a platform that was accepted may rely on.
fn check_references(platform: &Platform) {
    assert!(!platform.fabrics.is_empty() && !platform.control_nodes.is_empty());
    for lan in &platform.lans {
        for member in &lan.members {
            assert!(platform.node_by_number(member.node).is_some(), "a member that is no node");
        }
    }
    for node in &platform.nodes {
        assert!(platform.memberships(node.number).count() <= vlan_core::limits::VIFS_PER_NODE_MAX);
    }
    let control_nodes = platform.control_nodes.iter().map(|control_node| control_node.name.as_str());
    let processes: Vec<&str> = control_nodes.chain(platform.nodes.iter().map(|n| n.name.as_str())).collect();
    for fabric in platform.fabrics.iter().filter(|fabric| fabric.lab_network.is_some()) {
        let own = |name| platform.lab_address(name, fabric.index);
        let addresses: BTreeSet<_> = processes.iter().filter_map(|name| own(name)).collect();
        assert_eq!(addresses.len(), processes.len(), "a process without an address of its own");
    }
}

/// The base file with lines left out, doubled or swapped, and with values and octets replaced.
fn changed(script: &mut Script<'_>) -> String {
    let mut lines: Vec<String> = BASE.lines().map(String::from).collect();
    while let Some(()) = change(script, &mut lines) {}
    lines.join("\n")
}

fn change(script: &mut Script<'_>, lines: &mut Vec<String>) -> Option<()> {
    let operation = script.below(6)?;
    let at = usize::from(script.octet()?) % lines.len();
    match operation {
        0 if lines.len() > 1 => {
            lines.remove(at);
        }
        1 if lines.len() < 200 => lines.insert(at, lines[at].clone()),
        2 => {
            let other = usize::from(script.octet()?) % lines.len();
            lines.swap(at, other);
        }
        3 | 4 => {
            let value = VALUES[usize::from(script.octet()?) % VALUES.len()];
            if let Some((key, _)) = lines[at].split_once('=') {
                lines[at] = format!("{key}= {value}");
            }
        }
        _ => {
            let octet = char::from(script.octet()?);
            let place = usize::from(script.octet()?);
            let place = lines[at].char_indices().map(|(place, _)| place).nth(place).unwrap_or(0);
            if octet != '\n' {
                lines[at].insert(place, octet);
            }
        }
    }
    Some(())
}

/// The base file as it is, changed, and a few texts that are no platform.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        vec![128],
        vec![128, 0, 3, 3, 9, 0, 4, 40, 8],
        BASE.into(),
        b"[platform]\nname = \"lab\"\n".to_vec(),
        b"[[node]]\nlegs = { a = ".to_vec(),
        "# \u{fe0f}\r\n[platform\u{e9}]\r\n".into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_file_is_right() {
        let report = Platform::parse(BASE, Path::new("platform.toml")).err().map(|error| error.report());
        assert_eq!(report, None);
    }
}
