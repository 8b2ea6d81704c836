//! What becomes of `switch-bench` when nobody reads what it prints.

use std::process::{Command, Stdio};

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    for options in [&["--json"][..], &[]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let program = env!("CARGO_BIN_EXE_switch-bench");
        let mut bench = Command::new(program);
        bench.args(["idle", "--associations", "1", "--seconds", "1"]).args(options);
        let out = bench.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && said.is_empty(), "{}: {said}", out.status);
    }
}
