//! `switchctl trace` on a running lab, compared with what frames of that kind then do.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use e2e::Lab;
use e2e::pair::wait_for_direct;
use serde_json::Value;

/// The places and rules of a trace's steps, and where the frame would arrive.
type Seen = (Vec<(String, String)>, Vec<String>);

fn trace(lab: &Lab, from: &str, frame: &str) -> Result<(Seen, String)> {
    let answer = lab.json(&["trace", "--lan", "red", "--from", from, frame])?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let steps = answer["steps"].as_array().context("no steps")?;
    let all = steps.iter().map(|step| text(&step["what"])).collect::<Vec<_>>().join("\n");
    for step in steps {
        expect_rule(&text(&step["rule"]))?;
    }
    let steps = steps.iter().map(|step| (text(&step["where"]), text(&step["rule"]))).collect();
    let delivered = answer["delivered"].as_array().context("no list")?.iter().map(text).collect();
    Ok(((steps, delivered), all))
}

/// Each rule is a heading of the specification.
fn expect_rule(rule: &str) -> Result<()> {
    let (file, anchor) = rule.split_once('#').with_context(|| format!("{rule:?} is no place"))?;
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file))?;
    let heading = |line: &str| -> Option<String> {
        let words = line.strip_prefix("## ")?.to_lowercase().replace('\'', "").replace(' ', "-");
        Some(words)
    };
    ensure!(text.lines().filter_map(heading).any(|heading| heading == anchor), "{rule} is nowhere");
    Ok(())
}

#[test]
fn reasons_for_drops_name_rules_that_are_there() -> Result<()> {
    let rules = vlan_core::DropReason::ALL.iter().map(|reason| reason.rule()).filter(|rule| !rule.is_empty());
    let mut count = 0;
    for rule in rules {
        expect_rule(rule)?;
        count += 1;
    }
    ensure!(count > 15, "{count} reasons with a rule");
    Ok(())
}

fn places(seen: &Seen) -> Vec<&str> {
    let mut places: Vec<&str> = seen.0.iter().map(|(place, _)| place.as_str()).collect();
    places.dedup();
    places
}

#[test]
fn a_trace_says_what_frames_then_do_and_changes_nothing() -> Result<()> {
    //= spec/trace.md#no-trace-is-left
    //= type=test
    //# A trace MUST change nothing: no counter, no number, no binding and no frame of anybody.
    let lab = Lab::start("two-lans.toml", "e2etrac", &[])?;
    let count = || lab.counter(|name| name.contains(".red.") && name.contains("frames"));
    let before = count()?;

    // By the control node, while the pair has no direct RVI.
    let (relayed, said) = trace(&lab, "web1", "icmp 10.1.0.2")?;
    ensure!(places(&relayed) == ["web1/red", "cn-a", "web2/red"] && relayed.1 == ["web2/red"], "{said}");
    // To everybody else, once each.
    let (group, said) = trace(&lab, "web1", "arp 10.1.0.2")?;
    ensure!(places(&group) == ["web1/red", "cn-a", "web2/red", "web3/red"], "{said}");
    ensure!(group.1 == ["web2/red", "web3/red"] && said.contains("the ARP server"), "{said}");
    // To nobody, of somebody else, too long.
    let octets = |to: &str, from: &str, len: usize| format!("{to}{from}88b6{}", "00".repeat(len - 14));
    let own = lab.json(&["lans"])?;
    let lans = own.as_array().context("no list")?;
    let red = lans.iter().find(|lan| lan["name"] == "red").context("no red")?;
    let mac = |place: usize| red["members"][place]["mac"].as_str().map(|mac| mac.replace(':', ""));
    let (web1, web2) = (mac(0).context("no MAC")?, mac(1).context("no MAC")?);
    let ends = [
        (octets("029999999999", &web1, 60), "unknown-destination"),
        (octets(&web2, "029999999999", 60), "source-mac"),
        (octets(&web1, &web1, 60), "hairpin"),
        (web1.clone(), "too-short"),
    ];
    // What the kernels do meanwhile may be dropped or bound: but a trace that leaves something leaves it each time.
    let drops_and_bindings = || -> Result<_> {
        let drops = lab.json(&["drops"])?;
        // Their examples become older.
        let count = |drop: &Value| [&drop["where"], &drop["reason"], &drop["frames"]].map(Value::to_string);
        let counts: Vec<_> = drops.as_array().into_iter().flatten().map(count).collect();
        Ok((counts, lab.json(&["bindings"])?))
    };
    lab.wait_for("traces after which drops and bindings are what they were", || {
        let before = drops_and_bindings()?;
        for (frame, reason) in &ends {
            let (seen, said) = trace(&lab, "web1", frame)?;
            ensure!(seen.1.is_empty() && said.ends_with(reason), "{frame}: {said}");
        }
        Ok(before == drops_and_bindings()?)
    })?;
    // Heartbeats and the kernel's own group frames come between.
    let after = count()?;
    ensure!(after < before + 60, "{before} frames before, {after} after");

    // Directly, when the pair has a direct RVI, and the drop that was foretold happens.
    lab.exec("web1", 20, &["ping", "-q", "-i", "0.02", "-c", "50", "10.1.0.2"])?.ok()?;
    wait_for_direct(&lab)?;
    let (direct, said) = trace(&lab, "web1", "udp 10.1.0.2:53")?;
    ensure!(places(&direct) == ["web1/red", "web2/red"] && direct.1 == ["web2/red"], "{said}");
    lab.exec("web1", 5, &["ip", "neigh", "add", "10.1.0.99", "lladdr", "02:99:99:99:99:99", "dev", "red"])?
        .ok()?;
    lab.exec("web1", 5, &["ping", "-q", "-c", "1", "-W", "0.1", "10.1.0.99"])?;
    let drops = lab.switchctl(&["drops"])?.ok()?;
    ensure!(drops.contains("unknown-destination"), "{drops}");

    let shown = lab.switchctl(&["trace", "--lan", "red", "--from", "web1", "icmp", "10.1.0.2"])?.ok()?;
    ensure!(shown.contains("RULE") && shown.ends_with("it would arrive at web2/red\n"), "{shown}");
    for (words, said) in [
        (["--lan", "mauve", "--from", "web1", "icmp 10.1.0.2"], "no such LAN"),
        (["--lan", "red", "--from", "guest", "icmp 10.1.0.2"], "no member of red"),
        (["--lan", "red", "--from", "web1", "icmp 10.1.0.77"], "nobody on red has 10.1.0.77"),
        (["--lan", "red", "--from", "web1", "xyz"], "no hexadecimal digit"),
    ] {
        let done = lab.switchctl(&[&["trace"][..], &words].concat())?;
        ensure!(done.code == Some(1) && done.err.contains(said), "{words:?}: {done:?}");
    }
    lab.stop()
}
