//! The figures of `docs/packet-legs`: measured in the simulator, written as CSV, Markdown and plots.
//!
//! Every figure is a function of fixed seeds: measuring again on the same code gives the same files.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

mod detector;
mod order;
mod plot;
mod recovery;
mod spurious;
mod table;

pub use plot::{Plot, Series};
pub use table::Table;

use crate::checker::Violation;

/// One page of the documentation.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The name of its files.
    pub name: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// What was done, and how to read it.
    pub text: String,
    /// What was measured.
    pub table: Table,
    /// The same to look at.
    pub plot: Plot,
}

/// Measures one figure.
type Measure = fn() -> Result<Figure, Violation>;

const ALL: [(&str, Measure); 4] = [
    ("recovery", recovery::measure),
    ("detector", detector::measure),
    ("spurious", spurious::measure),
    ("order", order::measure),
];

/// Measures every figure, or the one of that name, and writes its files into `folder`.
///
/// # Errors
/// When an invariant breaks on the way, no figure has that name, or a file cannot be written.
pub fn write_all(folder: &Path, only: Option<&str>) -> Result<(), String> {
    let chosen: Vec<_> = ALL.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)).collect();
    if chosen.is_empty() {
        return Err(format!("no figure is named {}", only.unwrap_or_default()));
    }
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut index = String::from("# Packet legs, measured in the simulator\n\n");
    for (name, measure) in chosen {
        let figure = measure().map_err(|violation| format!("{name}: {violation}"))?;
        write(folder, &figure).map_err(|error| format!("{name}: {error}"))?;
        println!("{}", folder.join(format!("{name}.md")).display());
        index.push_str(&format!("- [{}]({name}.md)\n", figure.title));
    }
    if only.is_none() {
        fs::write(folder.join("README.md"), index).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn write(folder: &Path, figure: &Figure) -> io::Result<()> {
    let Figure { name, title, text, table, plot } = figure;
    let page = format!(
        "# {title}\n\n{text}\n\n{}\n![{title}]({name}.svg)\n\nMeasured by `cargo xtask docs-tables` in simulated time; \
         the same figures stand in [{name}.csv]({name}.csv).\n",
        table.markdown()
    );
    fs::write(folder.join(format!("{name}.md")), page)?;
    fs::write(folder.join(format!("{name}.csv")), table.csv())?;
    fs::write(folder.join(format!("{name}.svg")), plot.svg())
}

/// Microseconds with one decimal.
fn in_us(duration: Duration) -> String {
    format!("{:.1}", duration.as_nanos() as f64 / 1000.0)
}

/// Milliseconds with one decimal.
fn in_ms(duration: Duration) -> String {
    format!("{:.1}", duration.as_nanos() as f64 / 1e6)
}

/// A share in percent.
fn in_percent(part: u64, whole: u64) -> String {
    format!("{:.3}", part as f64 * 100.0 / whole.max(1) as f64)
}
