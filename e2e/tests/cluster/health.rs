//! Services that listen and do not answer.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::{ADDRESSES, Cluster};

/// The service in turn is checked by a request.
fn checked(text: String) -> String {
    let check = "check = { kind = \"http\", path = \"/name\", interval = \"200ms\", fall = 2, rise = 2 }";
    text.replace("balance = \"round-robin\"", &format!("balance = \"round-robin\"\n{check}"))
}

#[test]
fn a_server_whose_process_hangs_gets_no_connections_until_it_answers_again() -> Result<()> {
    let cluster = Cluster::start("e2echk", checked)?;
    let server = &cluster.servers[&("web1", 81)];
    server.signal("STOP")?;
    let stopped = Instant::now();
    cluster.wait_for_health(81, &["down", "up", "up"])?;
    println!("a server whose process hangs is avoided after {:?}", stopped.elapsed());
    let listens = cluster.lab.exec("web1", 5, &["ss", "-Htln", "sport = :81"])?.ok()?;
    ensure!(listens.contains(":81"), "the port still listens");
    cluster.lab.wait_for("the reason to be shown", || {
        Ok(cluster.lab.switchctl(&["clusters"])?.ok()?.contains("fails: no answer in time"))
    })?;
    let answers = cluster.ask_often("client", ADDRESSES[0], 81, 8)?;
    ensure!(answers.len() == 2 && !answers.contains_key("web1"), "{answers:?}");
    server.signal("CONT")?;
    let goes_on = Instant::now();
    cluster.wait_for_health(81, &["up"; 3])?;
    println!("it is used again {:?} after it goes on", goes_on.elapsed());
    let answers = cluster.ask_often("desk", ADDRESSES[1], 81, 8)?;
    ensure!(answers.len() == 3, "{answers:?}");
    cluster.lab.stop()
}

#[test]
fn a_server_that_answers_with_an_error_is_avoided() -> Result<()> {
    // The file is there on two of the three.
    let cluster = Cluster::start("e2echs", |text| checked(text).replace("\"/name\"", "\"/long\""))?;
    std::fs::remove_file(format!("{}/long", cluster.folder("web2")))?;
    cluster.wait_for_health(81, &["up", "down", "up"])?;
    let failure = cluster.servers(81)?[1]["check_failure"].clone();
    ensure!(failure == "HTTP status 404", "{failure}");
    // Who is not checked is not avoided.
    cluster.wait_for_health(82, &["up"; 3])?;
    cluster.lab.stop()
}
