//! `switchctl`: reads everything back from a running fabric, and acts on it.
//!
//! | file | is |
//! |---|---|
//! | `cli.rs` | the command line and what each command does |
//! | `client.rs` | one HTTP request over the management socket of a control node |
//! | `rates.rs` | how fast legs go: two answers, a second apart |
//! | `lab.rs` | `exec`, `restart` and `fabric`: a running lab, without any control node |
//! | `show.rs`, `table.rs` | answers as text for people |

#![forbid(unsafe_code)]

mod capture;
mod cli;
mod client;
mod clusters;
mod lab;
mod pcapng;
mod rates;
mod show;
mod table;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            failure.exit.into()
        }
    }
}
