//! `switch-server`: the control node, and with it whole labs and the demo.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_default();
    let all = std::iter::once(program.clone()).chain(arguments);
    // A lab starts its nodes from this same binary: the name it gives them says what they are.
    if Path::new(&program).file_name().is_some_and(|name| name == "switch-node") {
        switch_node::cli::main_from(all)
    } else {
        switch_server::cli::main_from(all)
    }
}
