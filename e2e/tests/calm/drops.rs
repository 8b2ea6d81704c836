//! `switchctl drops` after frames that a rule refuses.

use anyhow::{Context, Result, ensure};
use e2e::Lab;
use serde_json::Value;

/// What the control node says of frames for a station that nobody is.
fn unknown(lab: &Lab, words: &[&str]) -> Result<Option<Value>> {
    let drops = lab.json(&[&["drops"], words].concat())?;
    let drops = drops.as_array().context("no list")?;
    let is_it = |drop: &&Value| drop["where"] == "cn-a" && drop["reason"] == "unknown-destination";
    Ok(drops.iter().find(is_it).cloned())
}

#[test]
fn each_kind_of_drop_has_its_count_its_rate_and_its_last_frame_without_its_payload() -> Result<()> {
    let lab = Lab::start("two-lans.toml", "e2edrop", &[])?;
    ensure!(unknown(&lab, &[])?.is_none());
    let neighbour = ["ip", "neigh", "add", "10.1.0.99", "lladdr", "02:99:99:99:99:99", "dev", "red"];
    lab.exec("web1", 5, &neighbour)?.ok()?;
    // Its payload is made of 5a.
    lab.exec("web1", 5, &["ping", "-q", "-c", "3", "-i", "0.05", "-W", "0.1", "-p", "5a", "10.1.0.99"])?;
    let drop = unknown(&lab, &[])?.context("nothing was dropped")?;
    ensure!(drop["frames"] == 3 && drop["per_second"].is_null(), "{drop}");
    let example = &drop["example"];
    let text = example["text"].as_str().context("no text")?;
    ensure!(text.ends_with("> 02:99:99:99:99:99, icmp 10.1.0.1 > 10.1.0.99, 98 octets"), "{drop}");
    // Ethernet 14, IPv4 20, ICMP 8.
    let headers = example["headers"].as_str().context("no headers")?;
    ensure!(headers.len() == 2 * 42 && !headers.contains("5a5a") && example["octets"] == 98, "{drop}");
    ensure!(example["age_ms"].as_u64().is_some_and(|age| age < 30_000), "{drop}");
    let shown = lab.switchctl(&["drops"])?.ok()?;
    ensure!(shown.contains("icmp 10.1.0.1 > 10.1.0.99, 98 octets") && shown.contains(" ago"), "{shown}");

    let mut flood =
        lab.spawn("web1", 20, &["ping", "-q", "-c", "400", "-i", "0.01", "-W", "0.1", "10.1.0.99"])?;
    let mut rates = Vec::new();
    while flood.try_wait()?.is_none() && rates.last().is_none_or(|rate| *rate == 0) {
        let drop = unknown(&lab, &["--rates"])?.context("nothing was dropped")?;
        rates.push(drop["per_second"].as_u64().context("no rate")?);
    }
    flood.kill()?;
    flood.wait()?;
    ensure!(rates.last().is_some_and(|rate| *rate > 0), "{rates:?}");
    lab.stop()
}
