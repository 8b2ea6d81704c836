//! The project's recurring jobs. `cargo xtask` lists them.

mod breakages;
mod citations;
mod guest_kernel;
mod lint;
mod no_std;
mod programs;
mod source;
mod step;
mod test_job;
mod timers;
mod wire_table;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

use crate::step::{Invocation, UsageError};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Recurring jobs of the project", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    job: Option<Job>,
}

#[derive(Subcommand)]
enum Job {
    /// Build and run every test: units, properties, loom, corpus, no_std, simulator, citations, end to end
    Test {
        /// Install the programs that the end-to-end tests drive (Debian packages; says which first)
        #[arg(long)]
        install: bool,
        /// Leave out loom, the simulator, the examples and the end-to-end tests
        #[arg(long)]
        quick: bool,
        /// Seeds for the simulator
        #[arg(long, default_value_t = 200)]
        seeds: u32,
    },
    /// Check format, clippy, the house rules, licences and the machine crates' dependencies
    Lint {
        /// Only the project's own rules: no rustfmt, no clippy
        #[arg(long)]
        own: bool,
    },
    /// Prove that the machine crates build where no standard library exists
    NoStd,
    /// Check that every MUST of spec/ is cited by code and by a test
    Citations {
        /// Also write the whole report as Markdown
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
    },
    /// Break the code in known ways and see that each breakage turns a test red
    Break {
        /// Only the breakages whose names contain this
        name: Option<String>,
        /// Only this part of them, as 2/5 for the second of five
        #[arg(long)]
        piece: Option<breakages::Piece>,
        /// Name them and stop
        #[arg(long)]
        list: bool,
    },
    /// Run the simulator: arguments go to weft-sim, `run --seeds 200` without any
    Sim {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure the simulator's tables and plots again and write them into docs/packet-legs
    DocsTables {
        /// Only the figure of this name
        only: Option<String>,
    },
    /// Run switch-bench with these arguments, or all criterion benches without any
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Fuzz one target, or all in turn (needs cargo-fuzz and a nightly toolchain)
    Fuzz {
        /// The target; all of them when absent
        target: Option<String>,
        /// How long each target runs
        #[arg(long, default_value_t = 30)]
        seconds: u32,
    },
    /// Break the legs between two hosts of a lab under load and count what is lost (needs root; --help says more)
    Drill {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run the demonstration: real processes, real IP stacks, things killed under load
    Demo {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let Some(job) = Arguments::parse().job else {
        // Without a job this is a question, not a mistake.
        let _ = Arguments::command().print_help();
        return ExitCode::SUCCESS;
    };
    match run(job) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            match error.downcast_ref::<UsageError>() {
                Some(usage) => {
                    eprintln!("hint: {}", usage.hint);
                    ExitCode::from(2)
                }
                None => ExitCode::FAILURE,
            }
        }
    }
}

fn run(job: Job) -> Result<()> {
    match job {
        Job::Test { install, quick, seeds } => test_job::run(&test_job::Options { install, quick, seeds }),
        Job::Lint { own } => lint::run(own),
        Job::NoStd => no_std::run(),
        Job::Citations { report } => citations::run(report.as_deref()),
        Job::Break { name, piece, list } => breakages::run(name.as_deref(), piece, list),
        Job::Sim { arguments } => {
            let default = ["run", "--seeds", "200"].map(String::from).to_vec();
            let arguments = if arguments.is_empty() { default } else { arguments };
            binary("sim", "weft-sim").args(arguments).run()
        }
        Job::DocsTables { only } => {
            let out = workspace::root().join("docs/packet-legs").display().to_string();
            let arguments = ["packet".into(), "tables".into(), "--out".into(), out];
            let only = only.into_iter().flat_map(|name| ["--only".to_string(), name]);
            binary("sim", "weft-sim").args(arguments.into_iter().chain(only)).run()
        }
        Job::Bench { arguments } if arguments.is_empty() => Invocation::cargo("bench -p benches").run(),
        Job::Bench { arguments } => binary("benches", "switch-bench").args(arguments).run(),
        Job::Fuzz { target, seconds } => fuzz(target, seconds),
        Job::Drill { arguments } => {
            Invocation::cargo("build --release --workspace --bins --exclude xtask").run()?;
            binary("e2e", "weft-drill").args(arguments).run()
        }
        Job::Demo { arguments } => {
            Invocation::cargo("run --quiet --release --bin switch-server -- demo").args(arguments).run()
        }
    }
}

/// A run of one of the workspace's own programs, in release.
fn binary(package: &str, name: &str) -> Invocation {
    Invocation::cargo(&format!("run --quiet --release -p {package} --bin {name} --"))
}

/// Fuzzes `target`, or every target. What is found is kept apart from the corpus that is under version control.
fn fuzz(target: Option<String>, seconds: u32) -> Result<()> {
    let files = workspace::files(&workspace::root().join("fuzz/fuzz_targets"), &["rs"])?;
    let all =
        files.iter().filter_map(|file| file.file_stem()).map(|stem| stem.to_string_lossy().into_owned());
    let targets: Vec<_> = all.filter(|name| target.as_ref().is_none_or(|t| t == name)).collect();
    if targets.is_empty() {
        let what = format!("there is no fuzz target {}", target.unwrap_or_default());
        let hint = "the targets are the files of fuzz/fuzz_targets".into();
        return Err(UsageError { what, hint }.into());
    }
    for target in targets {
        println!("== fuzz {target}, {seconds} s");
        let found = workspace::target_dir("fuzz-found").join(&target);
        std::fs::create_dir_all(&found)?;
        let found = found.display();
        let words = format!("+nightly fuzz run --features fuzz {target} {found} fuzz/corpus/{target}");
        Invocation::cargo(&format!("{words} -- -max_total_time={seconds}")).run()?;
    }
    Ok(())
}
