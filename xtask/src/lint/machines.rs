//! The machines do no I/O, read no clock and stay close to dependency-free.

use std::path::Path;

use serde_json::Value;

use crate::lint::Finding;
use crate::source::Source;

/// Files and folders of machine code.
const MACHINES: &[&str] = &[
    "vlan-core/src",
    "arp-server/src",
    "lan-proxy/src",
    "cluster-proxy/src",
    "rvi/src",
    "switch-node/src/node.rs",
    "switch-node/src/node",
    "switch-server/src/control_node.rs",
    "switch-server/src/control_node",
];

/// Host code that lives beside machine code behind the feature `std`, with what it is for.
const HOSTS: &[&str] = &[
    // Sockets, memfds, keys.
    "rvi/src/host.rs",
    "rvi/src/host",
    // Devices of uplinks.
    "lan-proxy/src/nic.rs",
    "lan-proxy/src/nic",
];

/// What a machine must not name. `core` and `alloc` have all that it needs.
const FORBIDDEN: &[&str] = &[
    "std::",
    "rustix::",
    "libc::",
    "getrandom",
    "println!",
    "eprintln!",
    "static mut",
    "thread_local!",
    "HashMap",
    "HashSet",
];

/// Packages of machine code, and what each may depend on without a feature being asked for.
const DEPENDENCIES: &[(&str, &[&str])] = &[
    ("vlan-core", &[]),
    // Packets are sealed by the machine; all of these are `no_std` and draw no randomness.
    ("rvi", &["vlan-core", "snow", "aes-gcm", "hkdf", "hmac", "sha2"]),
    ("arp-server", &["vlan-core", "etherparse"]),
    ("lan-proxy", &["vlan-core"]),
    ("cluster-proxy", &["vlan-core"]),
    ("switch-node", &["vlan-core", "rvi"]),
    ("switch-server", &["vlan-core", "rvi", "arp-server", "cluster-proxy", "lan-proxy", "hkdf", "sha2"]),
];

/// Finds clocks, sockets, globals and maps without order in machine code; its tests may use them.
pub fn check_source(source: &Source, findings: &mut Vec<Finding>) {
    let lies_in = |folders: &[&str]| folders.iter().any(|f| source.path.starts_with(Path::new(f)));
    if !lies_in(MACHINES) || lies_in(HOSTS) {
        return;
    }
    for (line, code, test) in source.code_lines() {
        for word in FORBIDDEN.iter().filter(|word| !test && code.contains(**word)) {
            let message = format!("{word} in a machine: time, randomness and octets are given to it");
            findings.push(Finding { path: source.path.clone(), line, message });
        }
    }
}

/// Checks what the machine packages depend on when no feature is on.
pub fn check_dependencies(metadata: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = DEPENDENCIES.iter().find(|(n, _)| *n == name && package["source"].is_null())
        else {
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let dependency_name = dependency["name"].as_str().unwrap_or_default();
            let always = dependency["optional"] == false && dependency["kind"].is_null();
            if always && !allowed.contains(&dependency_name) {
                findings.push(Finding {
                    path: Path::new(name).join("Cargo.toml"),
                    line: 0,
                    message: format!("depends on {dependency_name}, which a machine does not need"),
                });
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_found_in_a_machine_and_nowhere_else() {
        let text = "fn now() { std::time::Instant::now(); }\n";
        for (path, count) in
            [("rvi/src/association.rs", 1), ("rvi/src/host/key.rs", 0), ("switch-node/src/agent.rs", 0)]
        {
            let mut findings = Vec::new();
            check_source(&Source::new(Path::new(path), text.into()), &mut findings);
            assert_eq!(findings.len(), count, "{path}");
        }
    }

    #[test]
    fn a_dependency_beyond_the_list_is_found_unless_optional() {
        let metadata = serde_json::json!({"packages": [{"name": "vlan-core", "source": null, "dependencies": [
            {"name": "smoltcp", "optional": true, "kind": null},
            {"name": "proptest", "optional": false, "kind": "dev"},
            {"name": "memchr", "optional": false, "kind": null},
        ]}]});
        let findings = check_dependencies(&metadata);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].message.contains("memchr"));
    }
}
