//! What the programs say to people.

use anyhow::{Result, ensure};
use e2e::lab::{examples, program};
use e2e::run;

/// Runs `check` on a changed example and returns what it said.
fn check(change: impl Fn(&str) -> String) -> Result<(Option<i32>, String)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("lab.toml");
    let text = std::fs::read_to_string(examples().join("two-lans.toml"))?;
    let changed = change(&text);
    ensure!(changed != text, "the change changed nothing");
    std::fs::write(&file, changed)?;
    let server = program("switch-server")?;
    let done = run(10, &[&server.to_string_lossy(), "check", &file.to_string_lossy()])?;
    Ok((done.code, done.err))
}

#[test]
fn each_mistake_in_a_platform_file_ends_with_2_and_says_where() -> Result<()> {
    type Change = (&'static str, &'static str, &'static str);
    const CHANGES: [Change; 12] = [
        ("name = \"red\"", "name = \"red\"\ncolour = 3", "colour"),
        ("id = 20", "id = 10", "10"),
        ("number = 2", "number = 1", "1"),
        ("node = \"guest\"", "node = \"gast\"", "gast"),
        ("10.1.0.2/24", "10.1.0.2/33", "33"),
        ("10.1.0.2/24", "10.1.0.1/24", "10.1.0.1"),
        ("mtu = 1500", "mtu = 20", "mtu"),
        ("mtu = 1500", "mtu = \"big\"", "mtu"),
        ("name = \"two\"", "name = \"twelve-lans\"", "twelve-lans"),
        ("serial = 1", "serial = 0", "serial"),
        ("b = \"unix\" }", "c = \"unix\" }", "c"),
        ("[[lan]]", "[[lan", "unclosed"),
    ];
    for (old, new, says) in CHANGES {
        let (code, err) = check(|text| text.replacen(old, new, 1))?;
        ensure!(code == Some(2), "{new:?}: exit {code:?}\n{err}");
        let line = err.lines().find(|line| line.contains("lab.toml:")).unwrap_or_default();
        let place: Vec<&str> = line.split("lab.toml:").nth(1).unwrap_or_default().splitn(3, ':').collect();
        let numbers = place.iter().take(2).all(|word| word.trim().parse::<u32>().is_ok());
        ensure!(place.len() == 3 && numbers, "{new:?} has no line and column:\n{err}");
        ensure!(err.contains(says) && err.contains("hint: "), "{new:?} is not explained:\n{err}");
    }
    Ok(())
}

#[test]
fn what_is_not_understood_ends_with_2_and_says_what_to_do() -> Result<()> {
    let wrong: [&[&str]; 7] = [
        &["switch-server", "fly"],
        &["switch-server", "check"],
        &["switch-server", "lab", "lab.toml", "--wait", "never"],
        &["switch-node", "run", "lab.toml"],
        &["switchctl", "status"],
        &["switchctl", "-f", "lab.toml", "fabric", "a", "sideways"],
        &["switchctl", "-f", "/nonexistent/lab.toml", "nodes"],
    ];
    for words in wrong {
        let path = program(words[0])?;
        let done = run(10, &[&[&*path.to_string_lossy()], &words[1..]].concat())?;
        let lines =
            (done.err.starts_with("error: "), done.err.lines().any(|line| line.starts_with("hint: ")));
        ensure!((done.code, lines) == (Some(2), (true, true)), "{words:?}: {:?}\n{}", done.code, done.err);
    }
    Ok(())
}

#[test]
fn the_demo_runs_to_its_result_as_root_and_without() -> Result<()> {
    let server = program("switch-server")?;
    let server = server.to_string_lossy();
    let as_root = run(100, &[&server, "demo"])?.ok()?;
    ensure!(as_root.contains("RESULT"), "{as_root}");
    // Most systems let users open the tun device; where this one does not, the test gives its own users one, in a
    // mount namespace of its own.
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("switch-server");
    std::fs::copy(&*server, &copy)?;
    let folder = folder.path().to_string_lossy();
    let script = format!(
        "chmod a+rx {folder} {folder}/switch-server && mknod -m 0666 {folder}/tun c 10 200 && \
         mount --bind {folder}/tun /dev/net/tun && \
         exec setpriv --reuid=65534 --regid=65534 --clear-groups {folder}/switch-server demo"
    );
    let as_nobody = run(100, &["unshare", "--mount", "sh", "-c", &script])?.ok()?;
    ensure!(as_nobody.contains("RESULT"), "{as_nobody}");
    Ok(())
}
