//! `switch-node`: one node of the fabric on Linux. All of it is in the library, so that a supervisor can play this
//! part from its own binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    switch_node::cli::main_from(std::env::args_os())
}
