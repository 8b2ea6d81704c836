//! Platform files of tests, as text.

use std::fmt::Write;

/// The beginning of a platform file: one control node and these nodes, all of one host and joined by shared memory. LANs are
/// to follow.
#[must_use]
pub fn head(nodes: &[&str]) -> String {
    let mut text = "[platform]\nname = \"test\"\n[[fabric]]\nname = \"a\"\n[[control-node]]\nname = \"cn-a\"\nserial = 1\n\
                    key-file = \"keys/cn-a\"\nstate-dir = \"state/cn-a\"\nmanagement = \"unix:run/cn-a.sock\"\n\
                    legs = { a = \"unix:run/cn-a-a.sock\" }\n"
        .to_owned();
    for (number, node) in (1..).zip(nodes) {
        let _ = writeln!(
            text,
            "[[node]]\nname = \"{node}\"\nnumber = {number}\nkey-file = \"keys/{node}\"\nlegs = {{ a = \"unix\" }}"
        );
    }
    text
}

/// A LAN with these options and members, each a node and the rest of its lines.
#[must_use]
pub fn lan(name: &str, id: u16, options: &str, members: &[(&str, &str)]) -> String {
    let mut text = format!("[[lan]]\nname = \"{name}\"\nid = {id}\n{options}\n");
    for (node, lines) in members {
        let _ = writeln!(text, "[[lan.member]]\nnode = \"{node}\"\n{lines}");
    }
    text
}
