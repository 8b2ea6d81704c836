//! The programs that the end-to-end tests drive, and the Debian packages that have them.

use std::path::Path;

use anyhow::Result;

use crate::guest_kernel;
use crate::step::{Invocation, UsageError};

/// A program and the Debian package that has it.
struct Program {
    name: &'static str,
    package: &'static str,
}

const PROGRAMS: &[Program] = &[
    Program { name: "ip", package: "iproute2" },
    Program { name: "nsenter", package: "util-linux" },
    Program { name: "ping", package: "iputils-ping" },
    Program { name: "iperf3", package: "iperf3" },
    Program { name: "tcpdump", package: "tcpdump" },
    Program { name: "ethtool", package: "ethtool" },
    Program { name: "arping", package: "arping" },
    Program { name: "ndisc6", package: "ndisc6" },
    Program { name: "tshark", package: "tshark" },
    Program { name: "socat", package: "socat" },
    Program { name: "nft", package: "nftables" },
    Program { name: "dnsmasq", package: "dnsmasq-base" },
    Program { name: "udhcpc", package: "udhcpc" },
    Program { name: "dbus-daemon", package: "dbus-daemon" },
    Program { name: "avahi-daemon", package: "avahi-daemon" },
    Program { name: "avahi-browse", package: "avahi-utils" },
    Program { name: "curl", package: "curl" },
    Program { name: "nginx", package: "nginx-light" },
    Program { name: "wrk", package: "wrk" },
    Program { name: "traceroute", package: "traceroute" },
    Program { name: "tcpreplay", package: "tcpreplay" },
    Program { name: "scapy3", package: "python3-scapy" },
    Program { name: "qemu-system-x86_64", package: "qemu-system-x86" },
    Program { name: "busybox", package: "busybox" },
];

/// Makes sure that every program is there, and the kernel of the guest, getting what is missing when `install` says so.
///
/// # Errors
/// A [`UsageError`] that lists what is missing when nothing may be installed; whatever apt-get fails with.
pub fn require(install: bool) -> Result<()> {
    require_programs(install)?;
    guest_kernel::require(install)
}

fn require_programs(install: bool) -> Result<()> {
    let missing: Vec<_> = PROGRAMS.iter().filter(|p| !is_there(p.name)).collect();
    if missing.is_empty() {
        println!("programs for the end-to-end tests: all there");
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|p| p.name).collect();
    let packages: Vec<_> = missing.iter().map(|p| p.package).collect();
    if !install {
        return Err(UsageError {
            what: format!("the end-to-end tests need programs that are missing: {}", names.join(", ")),
            hint: format!(
                "`cargo xtask test --install` installs the Debian packages {}; `cargo xtask test --quick` runs what needs none",
                packages.join(" ")
            ),
        }
        .into());
    }
    println!("installing the Debian packages {}", packages.join(" "));
    apt_get(&["update"])?;
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    apt_get(&arguments)?;
    match PROGRAMS.iter().find(|p| !is_there(p.name)) {
        None => Ok(()),
        Some(p) => anyhow::bail!("the package {} was installed, but there is still no {}", p.package, p.name),
    }
}

/// True when the program is in the search path or where Debian keeps what is for administrators.
fn is_there(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(Into::into));
    folders.map(|folder| folder.join(name)).any(|file| file.is_file())
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let root = Invocation::program("id").args(["-u".into()]).output()?.trim() == "0";
    let program =
        if root { Invocation::program("env") } else { Invocation::program("sudo").args(["env".into()]) };
    // Another apt may be at work: wait for its lock.
    let words = ["DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300", "-q"];
    if !Path::new("/usr/bin/apt-get").exists() {
        return Err(UsageError {
            what: "there is no apt-get here to install programs with".into(),
            hint: "install what `cargo xtask test` lists by your own package manager".into(),
        }
        .into());
    }
    program.args(words.iter().chain(arguments).map(|w| (*w).to_owned())).run()
}
