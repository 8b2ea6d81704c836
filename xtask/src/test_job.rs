//! `cargo xtask test`: everything that can be wrong, cheapest first where nothing else orders it.

use anyhow::Result;

use crate::step::{Invocation, Steps};
use crate::{citations, no_std, programs, workspace};

/// What to run.
pub struct Options {
    /// Install missing programs.
    pub install: bool,
    /// Leave out what takes minutes.
    pub quick: bool,
    /// Seeds for the simulator.
    pub seeds: u32,
}

/// Runs every step in order and stops at the first that fails.
///
/// # Errors
/// What the failing step says, with the command to repeat it.
pub fn run(options: &Options) -> Result<()> {
    let mut steps = Steps::default();
    if !options.quick {
        programs::require(options.install)?;
    }
    // The end-to-end tests drive these binaries.
    steps
        .command("release build", &Invocation::cargo("build --release --workspace --bins --exclude xtask"))?;
    steps.command("unit, property and documentation tests", &Invocation::cargo("test --workspace"))?;
    for example in example_names()? {
        let words = format!("run --quiet -p examples --example {example}");
        steps.command(&format!("example {example}"), &Invocation::cargo(&words))?;
    }
    if !options.quick {
        // Its flags change every crate, so it gets a target folder of its own.
        let loom = Invocation::cargo("test -p rvi --release --test loom_* --no-default-features");
        let target = workspace::target_dir("loom");
        steps.command(
            "rings and arenas under loom",
            &loom.env("RUSTFLAGS", "--cfg loom").target_dir(&target),
        )?;
    }
    // Built with the flags of the workspace and in its folder, so that what both need is there already.
    let corpus = Invocation::cargo("test --manifest-path fuzz/Cargo.toml");
    steps.command("fuzz corpus replay", &corpus.target_dir(&workspace::target()))?;
    steps.step("no_std", "cargo xtask no-std", no_std::run)?;
    if !options.quick {
        let words = format!("run --quiet --release -p sim --bin weft-sim -- run --seeds {}", options.seeds);
        steps.command("simulator", &Invocation::cargo(&words))?;
        let seeds = options.seeds.div_ceil(10);
        let words = format!("run --quiet --release -p sim --bin weft-sim -- packet run --seeds {seeds}");
        steps.command("simulator of packet legs", &Invocation::cargo(&words))?;
    }
    steps.step("citations", "cargo xtask citations", || citations::run(None))?;
    if !options.quick {
        // With the whole workspace's features, as the programs were built.
        let words = "test --release --workspace --exclude xtask --test e2e --";
        let (calm, alone) = ("--test-threads=4 calm::", "--test-threads=1 --skip calm::");
        steps.command("end to end, what waits", &Invocation::cargo(&format!("{words} {calm}")))?;
        steps.command("end to end", &Invocation::cargo(&format!("{words} {alone}")))?;
    }
    steps.print_times();
    Ok(())
}

/// The examples, by the names of their files.
fn example_names() -> Result<Vec<String>> {
    let files = workspace::files(&workspace::root().join("examples/examples"), &["rs"])?;
    Ok(files.iter().filter_map(|f| f.file_stem()).map(|s| s.to_string_lossy().into_owned()).collect())
}
