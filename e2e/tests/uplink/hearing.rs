//! What the device of an uplink is made to hear.

use std::fs;

use anyhow::{Context, Result, ensure};
use e2e::Lab;
use e2e::lab::examples;

/// How often the kernel was asked that the device hear everything, and every group.
fn asked(lab: &Lab) -> Result<[u64; 2]> {
    let shown = lab.exec_in_underlay("cn-a", 5, &["ip", "-d", "-j", "link", "show", "dev", "eth1"])?.ok()?;
    let shown: serde_json::Value = serde_json::from_str(&shown)?;
    let count = |name: &str| shown[0][name].as_u64().with_context(|| format!("no {name}: {shown}"));
    Ok([count("promiscuity")?, count("allmulti")?])
}

#[test]
fn a_filtered_lans_device_hears_every_group_and_everything_while_somebody_listens() -> Result<()> {
    //= spec/uplink.md#promiscuous-devices
    //= type=test
    //# While a LAN has a promiscuous listener, the device of its uplink MUST be promiscuous, and each listener MUST get a copy of a
    //# unicast frame from outside that is for nobody of the LAN.
    //= spec/uplink.md#what-a-device-hears
    //= type=test
    //# The device of an uplink MUST be made to hear the uplink's system MAC and every group in filtered mode, and everything in
    //# unfiltered mode.
    let text = fs::read_to_string(examples().join("uplink.toml"))?;
    let text = text.replace("node = \"web3\"\naddress", "node = \"web3\"\npromiscuous = true\naddress");
    let lab = Lab::start_text(&text, "e2euphe")?;
    // A veth interface has to hear everything for the system MAC alone.
    let [without, groups] = asked(&lab)?;
    ensure!(groups == 1, "asked {groups} times for every group");
    let (without, with) = ([without, 1], [without + 1, 1]);
    for (state, expected) in [("on", with), ("off", without), ("on", with)] {
        lab.exec("web3", 5, &["ip", "link", "set", "red", "promisc", state])?.ok()?;
        lab.wait_for(&format!("the device to be asked {expected:?} times"), || Ok(asked(&lab)? == expected))?;
    }
    // What the process asked for goes with it, and the next one asks again: by then the listener has said so.
    let pid = lab.pid("cn-a")?;
    lab.kill("cn-a")?;
    lab.wait_for("another control node", || Ok(lab.pid("cn-a").is_ok_and(|now| now != pid)))?;
    lab.wait_for("the device to be asked again", || Ok(asked(&lab).is_ok_and(|asked| asked == with)))?;
    lab.stop()
}
