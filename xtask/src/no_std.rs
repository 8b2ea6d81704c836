//! Proof that the machine crates need no standard library.
//!
//! An ordinary build proves nothing: a dependency with its `std` feature on links the standard library
//! silently. So a sysroot is made that holds `core` and `alloc` alone, and the crates are checked against it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::step::Invocation;
use crate::workspace;

/// The crates that must build without the standard library, one build each: a build of several at once would
/// unify their features.
const CRATES: &[&str] =
    &["vlan-core", "rvi", "arp-server", "lan-proxy", "cluster-proxy", "switch-node", "switch-server"];

/// What of the standard library's folder is there without an operating system.
const LIBRARIES: &[&str] =
    &["core", "alloc", "compiler_builtins", "rustc_std_workspace_core", "rustc_std_workspace_alloc"];

/// Checks every machine crate against a sysroot without `std`.
///
/// # Errors
/// When a crate needs `std`, or when the sysroot does not keep `std` out.
pub fn run() -> Result<()> {
    let host = host_triple()?;
    let sysroot = workspace::target_dir("no-std-sysroot");
    make_sysroot(&host, &sysroot)?;
    refuse_std(&sysroot)?;
    // Cargo cuts RUSTFLAGS at spaces; the other variable is less readable but takes any path.
    let (variable, separator) = match sysroot.to_string_lossy().contains(' ') {
        false => ("RUSTFLAGS", ' '),
        true => ("CARGO_ENCODED_RUSTFLAGS", '\u{1f}'),
    };
    for name in CRATES {
        println!("{name}");
        Invocation::cargo(&format!("check --quiet -p {name} --no-default-features --target {host}"))
            .env(variable, format!("--sysroot{separator}{}", sysroot.display()))
            .target_dir(&workspace::target_dir("no-std"))
            .run()
            .with_context(|| format!("{name} does not build without the standard library"))?;
    }
    println!("{} crates build with core and alloc alone", CRATES.len());
    Ok(())
}

fn host_triple() -> Result<String> {
    let version = Invocation::program("rustc").args(["-vV".into()]).output()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(String::from).context("`rustc -vV` names no host")
}

/// Copies `core` and `alloc` of the compiler in use into a sysroot of their own, anew each time: the compiler
/// may be another one than yesterday.
fn make_sysroot(host: &str, sysroot: &Path) -> Result<()> {
    let real = Invocation::program("rustc").args(["--print".into(), "sysroot".into()]).output()?;
    let libraries = Path::new("lib/rustlib").join(host).join("lib");
    let from = Path::new(real.trim()).join(&libraries);
    let to = sysroot.join(&libraries);
    if sysroot.exists() {
        fs::remove_dir_all(sysroot)?;
    }
    fs::create_dir_all(&to)?;
    let mut copied = 0;
    for entry in fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))? {
        let file: PathBuf = entry?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if LIBRARIES.iter().any(|library| name.starts_with(&format!("lib{library}-"))) {
            fs::copy(&file, to.join(&name))?;
            copied += 1;
        }
    }
    if copied < LIBRARIES.len() {
        bail!("found {copied} of {} libraries in {}", LIBRARIES.len(), from.display());
    }
    Ok(())
}

/// Compiles a program that uses `std`, which must fail: otherwise the checks after it prove nothing.
fn refuse_std(sysroot: &Path) -> Result<()> {
    let mut child = Command::new("rustc")
        .args(["--crate-type", "lib", "--crate-name", "uses_std", "--emit", "metadata", "-o", "/dev/null"])
        .arg("--sysroot")
        .arg(sysroot)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start rustc")?;
    child.stdin.take().context("rustc has no input")?.write_all(b"#![no_std]\nextern crate std;\n")?;
    let output = child.wait_with_output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.success() || !errors.contains("E0463") {
        bail!("a crate that uses std was not refused as one that cannot find it: {errors}");
    }
    Ok(())
}
