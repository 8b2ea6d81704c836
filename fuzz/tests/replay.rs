//! Runs every seed and every corpus file through its target's body: what a fuzzer once found stays found.

use std::fs;
use std::path::Path;

fn replay(name: &str) {
    let target = weft_fuzz::TARGETS.iter().find(|t| t.name == name).expect("a target of this name");
    for seed in (target.seeds)() {
        (target.run)(&seed);
        // Each seed cut short, and with each octet changed: the cheapest of mutations, on stable too.
        for at in (0..seed.len()).step_by(seed.len() / 64 + 1) {
            (target.run)(&seed[..at]);
            let mut changed = seed.clone();
            changed[at] ^= 0x81;
            (target.run)(&changed);
        }
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    for entry in fs::read_dir(&folder).expect("a corpus folder for each target") {
        let path = entry.expect("a readable corpus folder").path();
        println!("{}", path.display());
        (target.run)(&fs::read(&path).expect("a readable corpus file"));
    }
}

macro_rules! targets {
    ($($test:ident = $name:literal),+ $(,)?) => {
        $(#[test] fn $test() { replay($name); })+

        #[test]
        fn every_target_is_replayed() {
            let names: Vec<_> = weft_fuzz::TARGETS.iter().map(|t| t.name).collect();
            assert_eq!(names, [$($name),+]);
        }
    };
}

targets! {
    the_tlv_corpus_breaks_no_rule = "tlv",
    the_registration_corpus_breaks_no_rule = "registration",
    the_arp_corpus_breaks_no_rule = "arp",
    the_driver_corpus_breaks_no_rule = "driver",
    the_lan_server_corpus_breaks_no_rule = "lan_server",
    the_platform_file_corpus_breaks_no_rule = "platform_file",
    the_ring_corpus_breaks_no_rule = "ring",
    the_control_node_corpus_breaks_no_rule = "control_node",
    the_session_corpus_breaks_no_rule = "session",
    the_packet_payload_corpus_breaks_no_rule = "packet_payload",
    the_ether_frame_corpus_breaks_no_rule = "ether_frame",
    the_capture_filter_corpus_breaks_no_rule = "capture_filter",
    the_groups_corpus_breaks_no_rule = "groups",
    the_packet_transport_corpus_breaks_no_rule = "packet_transport",
    the_super_frame_corpus_breaks_no_rule = "super_frame",
    the_arena_corpus_breaks_no_rule = "arena",
    the_lan_proxy_corpus_breaks_no_rule = "lan_proxy",
    the_cluster_proxy_corpus_breaks_no_rule = "cluster_proxy",
}
