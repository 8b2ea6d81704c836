//! What can be read of a fabric by whoever listens there.

use std::fs;

use anyhow::{Result, ensure};
use e2e::Lab;
use e2e::lab::examples;
use e2e::pair::{UDP, is_readable};

use crate::ether_legs::{FRAMES, MIXED, by_xdp};

fn lab(example: &str, name: &str, edit: impl Fn(String) -> String) -> Result<Lab> {
    Lab::start_text(&edit(fs::read_to_string(examples().join(example))?), name)
}

#[test]
fn what_crosses_a_fabric_can_be_read_only_where_it_is_trusted() -> Result<()> {
    let private = lab("two-hosts.toml", "e2epriv", |text| text)?;
    ensure!(!is_readable(&private, "a", &UDP, "udp")?, "a ping can be read on the wire");
    private.stop()?;
    let trusted = lab("two-hosts.toml", "e2etrust", |text| {
        text.replacen("name = \"a\"", "name = \"a\"\ntrusted = true", 1)
    })?;
    ensure!(is_readable(&trusted, "a", &UDP, "udp")?, "nothing can be read where it should");
    trusted.stop()
}

#[test]
fn what_crosses_a_fabric_in_frames_can_be_read_only_where_it_is_trusted() -> Result<()> {
    let private = lab("two-hosts-ether.toml", "e2eetprv", |text| text)?;
    ensure!(!is_readable(&private, "b", &MIXED, FRAMES)?, "a ping can be read on the wire");
    private.stop()?;
    let trusted = lab("two-hosts-ether.toml", "e2eettru", |text| {
        text.replacen("name = \"b\"", "name = \"b\"\ntrusted = true", 1)
    })?;
    ensure!(is_readable(&trusted, "b", &MIXED, FRAMES)?, "nothing can be read where it should");
    trusted.stop()
}

#[test]
fn what_leaves_by_af_xdp_can_be_read_only_where_it_is_trusted() -> Result<()> {
    // What web2 takes by AF_XDP nobody on its host sees: it has a packet socket.
    let sent_by_xdp = |text: String| match text.split_once("name = \"web2\"") {
        Some((before, rest)) => format!("{}name = \"web2\"{rest}", by_xdp(before)),
        None => text,
    };
    let private = lab("two-hosts-ether.toml", "e2exdprv", sent_by_xdp)?;
    ensure!(!is_readable(&private, "b", &MIXED, FRAMES)?, "a ping can be read on the wire");
    private.stop()?;
    let trusted = lab("two-hosts-ether.toml", "e2exdtru", |text| {
        sent_by_xdp(text.replacen("name = \"b\"", "name = \"b\"\ntrusted = true", 1))
    })?;
    ensure!(is_readable(&trusted, "b", &MIXED, FRAMES)?, "nothing can be read where it should");
    trusted.stop()
}
