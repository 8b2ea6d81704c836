//! `cargo xtask break`: the tests are tested.
//!
//! `xtask/breakages.toml` lists small breakages of the code. Each is applied to a copy of the project, where a
//! named command must then fail. A breakage that stays green shows a rule that no test watches.
//!
//! Nearly all of the time goes into building. So every command runs once on the unbroken copy before anything is broken,
//! where each crate is built once for all of them, and then the breakages come by the crate that they are in and by
//! their command, so that what stands below the broken crate stays as it is.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::step::Invocation;
use crate::workspace;

/// The list, relative to the project's top folder.
const LIST: &str = "xtask/breakages.toml";

/// How long what a command builds first may take, on a machine that has much else to do.
const BUILD_TIME_MAX: Duration = Duration::from_secs(3600);

/// How long a command may take before it counts as hanging; a command that hangs has noticed the breakage.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(600);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    breakage: Vec<Breakage>,
}

/// One small change that must turn something red.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Breakage {
    /// What it breaks, as a few words joined by dashes.
    name: String,
    /// The file to change.
    file: PathBuf,
    /// The text to replace; it stands in the file exactly once.
    find: String,
    /// What to put there.
    replace: String,
    /// The command that must fail, for a shell in the project's top folder.
    must_fail: String,
}

impl Breakage {
    /// Breakages that rebuild the same follow each other: those of a crate, and among them those of a command.
    fn group(&self) -> (&Path, &str) {
        let folder = self.file.iter().next().map_or(Path::new(""), Path::new);
        (folder, &self.must_fail)
    }
}

/// Some of the breakages: the `number`th of `of` parts of the list, so that a long run can be cut into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    number: usize,
    of: usize,
}

impl FromStr for Piece {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers =
            text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { number, of }),
            _ => Err("a piece is given as 2/5, the second of five".to_owned()),
        }
    }
}

impl Piece {
    /// The part of a list of `len` that this piece is.
    fn range(self, len: usize) -> Range<usize> {
        len * (self.number - 1) / self.of..len * self.number / self.of
    }
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Green,
    /// With what it said of that.
    Red(String),
    Hanging,
    DoesNotCompile,
}

/// Applies every breakage whose name contains `name`, of those the ones of `piece`, or with `list` only names them.
///
/// # Errors
/// When a breakage stays green, does not compile, or no longer applies.
pub fn run(name: Option<&str>, piece: Option<Piece>, list: bool) -> Result<()> {
    let text =
        fs::read_to_string(workspace::root().join(LIST)).with_context(|| format!("cannot read {LIST}"))?;
    let mut breakages = parse(&text)?;
    breakages.retain(|b| name.is_none_or(|n| b.name.contains(n)));
    breakages.sort_by(|a, b| a.group().cmp(&b.group()));
    if let Some(piece) = piece {
        let range = piece.range(breakages.len());
        breakages = breakages.drain(range).collect();
    }
    ensure!(!breakages.is_empty(), "no breakage has such a name; `cargo xtask break --list` names them");
    if list {
        breakages.iter().for_each(|b| println!("{:<40} {}", b.name, b.must_fail));
        return Ok(());
    }
    let bench =
        Bench { tree: workspace::target_dir("break/tree"), target: workspace::target_dir("break/target") };
    let start = Instant::now();
    bench.copy_project()?;
    let wrong = bench.try_all(&breakages)?;
    let (count, seconds) = (breakages.len(), start.elapsed().as_secs());
    println!("{count} breakages, {} not noticed as they should be, {seconds} s", wrong.len());
    if !wrong.is_empty() {
        bail!("look at {}", wrong.join(", "));
    }
    Ok(())
}

fn parse(text: &str) -> Result<Vec<Breakage>> {
    let list: List = toml::from_str(text).with_context(|| format!("{LIST} is not as it should be"))?;
    for (i, breakage) in list.breakage.iter().enumerate() {
        let name = &breakage.name;
        ensure!(list.breakage[..i].iter().all(|b| b.name != *name), "two breakages are named {name}");
    }
    Ok(list.breakage)
}

/// A copy of the project to break, with a target folder of its own that all breakages share.
struct Bench {
    tree: PathBuf,
    target: PathBuf,
}

impl Bench {
    /// Brings the copy up to date: files that git knows or would add. A file that has not changed keeps its
    /// time, so that cargo builds little.
    fn copy_project(&self) -> Result<()> {
        let words = "ls-files --cached --others --exclude-standard".split(' ').map(String::from);
        let listed = Invocation::program("git").args(words).output()?;
        let wanted: Vec<PathBuf> = listed.lines().map(PathBuf::from).collect();
        for file in wanted.iter().filter(|f| workspace::root().join(f).is_file()) {
            let (from, to) = (workspace::root().join(file), self.tree.join(file));
            let octets = fs::read(&from)?;
            if fs::read(&to).ok().as_ref() != Some(&octets) {
                fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
                fs::write(&to, octets)?;
            }
        }
        for file in workspace::files(&self.tree, &["rs", "toml", "md"])? {
            if !wanted.contains(&file) {
                fs::remove_file(self.tree.join(file))?;
            }
        }
        Ok(())
    }

    /// Tries each breakage and returns the names of those that were not noticed.
    fn try_all(&self, breakages: &[Breakage]) -> Result<Vec<String>> {
        // A command that fails anyhow notices nothing.
        let mut unbroken: BTreeMap<&str, Ending> = BTreeMap::new();
        for command in breakages.iter().map(|breakage| breakage.must_fail.as_str()) {
            if !unbroken.contains_key(command) {
                unbroken.insert(command, self.run_command(command)?);
            }
        }
        println!("{} commands tried without any breakage", unbroken.len());
        let mut wrong = Vec::new();
        for breakage in breakages {
            let (command, start) = (breakage.must_fail.as_str(), Instant::now());
            let verdict = match &unbroken[command] {
                Ending::Green => self.try_one(breakage)?,
                ending => format!("WRONG: `{command}` is {ending:?} without any breakage"),
            };
            println!("{:<50} {:>3} s  {verdict}", breakage.name, start.elapsed().as_secs());
            if verdict.starts_with("WRONG") {
                wrong.push(breakage.name.clone());
            }
        }
        Ok(wrong)
    }

    fn try_one(&self, breakage: &Breakage) -> Result<String> {
        let file = self.tree.join(&breakage.file);
        let whole = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let count = whole.matches(&breakage.find).count();
        if count != 1 {
            return Ok(format!("WRONG: its text stands in {} {count} times", breakage.file.display()));
        }
        fs::write(&file, whole.replacen(&breakage.find, &breakage.replace, 1))?;
        let ending = self.run_command(&breakage.must_fail);
        fs::write(&file, whole)?;
        Ok(match ending? {
            Ending::Red(said) => format!("noticed: {said}"),
            Ending::Hanging => format!("noticed: still running after {} s", COMMAND_TIME_MAX.as_secs()),
            Ending::Green => format!("WRONG: `{}` stays green", breakage.must_fail),
            Ending::DoesNotCompile => "WRONG: does not compile, so no test has seen it".into(),
        })
    }

    fn run_command(&self, command: &str) -> Result<Ending> {
        if let Some(build) = build_of(command) {
            let built = self.run_for(&build, BUILD_TIME_MAX)?;
            if built != Ending::Green {
                return Ok(built);
            }
        }
        self.run_for(command, COMMAND_TIME_MAX)
    }

    /// Runs a command line, and ends it when it takes longer than `time`.
    fn run_for(&self, command: &str, time: Duration) -> Result<Ending> {
        fs::create_dir_all(&self.target)?;
        let log_path = self.target.join("last-command.log");
        let log = fs::File::create(&log_path)?;
        let mut child = Command::new("bash")
            .args(["-c", command])
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target)
            // Nobody debugs what is broken on purpose, and little changes from one build to the next.
            .env("CARGO_PROFILE_DEV_DEBUG", "none")
            .env("CARGO_INCREMENTAL", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A group of its own, so that all of it can be ended.
            .process_group(0)
            .spawn()
            .context("cannot start bash")?;
        let Some(success) = wait(&mut child, time)? else { return Ok(Ending::Hanging) };
        let output = fs::read_to_string(&log_path).unwrap_or_default();
        Ok(match success {
            true => Ending::Green,
            false if does_not_compile(&output) => Ending::DoesNotCompile,
            false => Ending::Red(said_of_failure(&output)),
        })
    }
}

/// The command that builds what `command` runs, where it is one of cargo's: building is no hanging.
fn build_of(command: &str) -> Option<String> {
    let command = command.split(" -- ").next().unwrap_or(command);
    match command.strip_prefix("cargo run ") {
        Some(arguments) => Some(format!("cargo build {arguments}")),
        None => command.starts_with("cargo test ").then(|| format!("{command} --no-run")),
    }
}

/// Waits for the child, at most this long; `None` when it had to be ended.
fn wait(child: &mut Child, time: Duration) -> Result<Option<bool>> {
    let start = Instant::now();
    while start.elapsed() < time {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let group = format!("-{}", child.id());
    Command::new("kill").args(["-KILL", "--", &group]).status()?;
    child.wait()?;
    Ok(None)
}

/// The line that tells what went red: the first panic, or else the last word.
fn said_of_failure(output: &str) -> String {
    let lines = || output.lines().map(str::trim).filter(|line| !line.is_empty());
    let said = lines().find(|line| line.contains("panicked at")).or_else(|| lines().next_back());
    said.unwrap_or("nothing").to_owned()
}

fn does_not_compile(output: &str) -> bool {
    ["error: could not compile", "error: failed to parse manifest"].iter().any(|text| output.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_breakage_applies_to_the_code_as_it_is() {
        let list = fs::read_to_string(workspace::root().join(LIST)).unwrap();
        for breakage in parse(&list).unwrap() {
            let text = fs::read_to_string(workspace::root().join(&breakage.file)).unwrap();
            assert_eq!(text.matches(&breakage.find).count(), 1, "{}", breakage.name);
        }
    }

    #[test]
    fn a_list_with_an_unknown_key_or_a_name_twice_is_refused() {
        let one = "[[breakage]]\nname = 'a'\nfile = 'b'\nfind = 'c'\nreplace = 'd'\nmust_fail = 'e'\n";
        assert!(parse(one).is_ok());
        assert!(parse(&one.repeat(2)).is_err());
        assert!(parse(&format!("{one}more = 1\n")).is_err());
    }

    #[test]
    fn pieces_make_the_whole_list_and_what_is_none_is_refused() {
        let ranges = (1..=3).map(|number| Piece { number, of: 3 }.range(10));
        assert_eq!(ranges.flatten().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert_eq!("2/5".parse(), Ok(Piece { number: 2, of: 5 }));
        for wrong in ["", "2", "0/5", "6/5", "1/0", "a/b", "-1/2"] {
            assert!(wrong.parse::<Piece>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_command_runs_is_built_first() {
        let cases = [
            ("cargo test -q -p rvi --lib name", Some("cargo test -q -p rvi --lib name --no-run")),
            (
                "cargo run -q -p sim --bin weft-sim -- packet run",
                Some("cargo build -q -p sim --bin weft-sim"),
            ),
            ("grep good a.txt", None),
        ];
        for (command, build) in cases {
            assert_eq!(build_of(command).as_deref(), build);
        }
    }

    #[test]
    fn what_went_red_is_told() {
        let output =
            "running 1 test\nthread 'x' (7) panicked at a.rs:1:2:\nno\n\ntest result: FAILED. 0 passed\n\n";
        assert_eq!(said_of_failure(output), "thread 'x' (7) panicked at a.rs:1:2:");
        assert_eq!(said_of_failure("one\nerror: two\n\n"), "error: two");
    }

    #[test]
    fn a_breakage_is_noticed_only_when_a_test_goes_red() {
        let folder = workspace::target_dir(&format!("break-test-{}", std::process::id()));
        let bench = Bench { tree: folder.join("tree"), target: folder.join("target") };
        fs::create_dir_all(&bench.tree).unwrap();
        fs::write(bench.tree.join("a.txt"), "good").unwrap();
        let breakage = |name: &str, find: &str, must_fail: &str| Breakage {
            name: name.into(),
            file: "a.txt".into(),
            find: find.into(),
            replace: "bad".into(),
            must_fail: must_fail.into(),
        };
        let wrong = bench
            .try_all(&[
                breakage("seen", "good", "grep good a.txt"),
                breakage("not-seen", "good", "test -f a.txt"),
                breakage("always-red", "good", "false"),
                breakage("gone", "fine", "grep good a.txt"),
                breakage("no-code", "good", "grep good a.txt || { echo error: could not compile; false; }"),
            ])
            .unwrap();
        assert_eq!(wrong, ["not-seen", "always-red", "gone", "no-code"]);
        assert_eq!(fs::read_to_string(bench.tree.join("a.txt")).unwrap(), "good");
        fs::remove_dir_all(folder).unwrap();
    }
}
