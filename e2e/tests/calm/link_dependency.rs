//! An uplink takes the members' carrier with it, where the platform file says so.

use std::fs;

use anyhow::Result;
use e2e::Lab;
use e2e::lab::examples;
use e2e::stock::is_answered;

const MEMBERS: [&str; 3] = ["web1", "web2", "web3"];

fn has_carrier(lab: &Lab, node: &str) -> Result<bool> {
    Ok(lab.exec(node, 5, &["cat", "/sys/class/net/red/carrier"])?.out.trim() == "1")
}

#[test]
fn members_lose_their_carrier_with_the_uplink_and_get_it_back_with_it() -> Result<()> {
    let text = fs::read_to_string(examples().join("uplink.toml"))?;
    let dependent = text.replacen("[lan.uplink]", "[lan.uplink]\nlink-dependency = true", 1);
    let lab = Lab::start_text(&dependent, "e2elink")?;
    for (word, is_up) in [("down", false), ("up", true), ("down", false)] {
        lab.exec_in_underlay("cn-a", 5, &["ip", "link", "set", "eth1", word])?.ok()?;
        for node in MEMBERS {
            let what = format!("{node} to notice that the uplink is {word}");
            lab.wait_for(&what, || Ok(has_carrier(&lab, node)? == is_up))?;
        }
    }
    // One that starts meanwhile has none, and a control node that starts again says the same.
    for process in ["web1", "cn-a"] {
        let before = lab.pid(process)?;
        lab.kill(process)?;
        lab.wait_for("it to be started again", || Ok(lab.pid(process)? != before))?;
        lab.wait_for("the node to be attached", || {
            Ok(lab.json(&["nodes"]).is_ok_and(|nodes| nodes[0]["attached"] == true))
        })?;
        lab.wait_for("its interface without a carrier", || Ok(!has_carrier(&lab, "web1")?))?;
    }
    lab.exec_in_underlay("cn-a", 5, &["ip", "link", "set", "eth1", "up"])?.ok()?;
    for (from, to) in [("web1", "10.1.0.200"), ("client", "fd00:1::1"), ("web2", "10.1.0.1")] {
        lab.wait_for(&format!("{from} to reach {to} again"), || is_answered(&lab, from, to))?;
    }
    lab.stop()
}
