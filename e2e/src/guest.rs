//! A virtual machine with Debian's own kernel on a network outside: its 8021q module knows tags, which many a host's kernel does not.
//!
//! It has the host's busybox for a system, and reads commands from its serial line.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cpio::Archive;
use crate::{Done, Lab, run};

/// What it is started with, in the order in which each finds what it needs.
const MODULES: [&str; 13] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
    "llc",
    "stp",
    "garp",
    "mrp",
    "8021q",
];

/// The first program of the guest: it answers each line with what the shell says of it, and `ended` with the exit code. The addresses that it
/// is given are nobody else's, so it does not probe for them.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod $module; done
echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
ip link set lo up
ip link set eth0 up
stty -echo
echo ready
while read -r line; do sh -c \"$line\" 2>&1; echo \"ended $?\"; done
";

/// A whole PC: a `microvm` has one clock to measure another by, and does not start where the measurement was disturbed.
const QEMU: [&str; 19] = [
    "qemu-system-x86_64",
    "-M",
    "pc",
    "-accel",
    "tcg",
    "-m",
    "128",
    "-display",
    "none",
    "-nodefaults",
    "-no-reboot",
    "-serial",
    "stdio",
    "-netdev",
    "tap,id=n0,ifname=tap0,script=no,downscript=no",
    "-device",
    "virtio-net-pci,netdev=n0,romfile=",
    "-append",
    "console=ttyS0 panic=-1 quiet",
];

/// How long all of it may take, in seconds: it starts in three, and is emulated.
const TIME: u32 = 60;
/// How long one line may be waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A guest that ends with this value.
pub struct Guest {
    qemu: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Guest {
    /// Starts one whose interface `eth0` is on the network of a host outside, in whose namespace it becomes the port `tap0` of a bridge with
    /// the host's `eth0`: it sees every frame there, tagged as it is.
    ///
    /// # Errors
    /// When the kernel is not there, or the guest does not become ready, with what it said.
    pub fn start(lab: &Lab, host: &str) -> Result<Self> {
        let script = "ip link add br0 type bridge mcast_snooping 0 && sysctl -qw net.ipv6.conf.br0.disable_ipv6=1 && \
                      ip tuntap add tap0 mode tap && ip link set tap0 master br0 up && ip link set eth0 master br0 && \
                      ip link set br0 up";
        lab.exec(host, 5, &["sh", "-c", script])?.ok()?;
        let kernel = kernel()?;
        let system = lab.file().with_file_name("guest.cpio");
        fs::write(&system, initial_system(&kernel)?)?;
        let image = file_in(&kernel.join("boot"), "vmlinuz-")?;
        let files =
            ["-kernel", &image.to_string_lossy(), "-initrd", &system.to_string_lossy()].map(str::to_owned);
        let words: Vec<&str> = QEMU.into_iter().chain(files.iter().map(String::as_str)).collect();
        let mut qemu = lab.spawn_with_input(host, TIME, &words)?;
        let input = qemu.stdin.take().context("no input")?;
        let lines = lines_of(qemu.stdout.take().context("no output")?);
        let guest = Self { qemu, input, lines };
        // What comes by the serial line before is lost.
        guest.until("ready")?;
        Ok(guest)
    }

    /// Has the guest's shell do something.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn exec(&mut self, line: &str) -> Result<Done> {
        writeln!(self.input, "{line}")?;
        self.input.flush()?;
        let (out, code) = self.until("ended ")?;
        Ok(Done { code: Some(code.parse()?), out, err: String::new() })
    }

    /// What it says until a line begins so, and the rest of that line.
    fn until(&self, mark: &str) -> Result<(String, String)> {
        let mut said = String::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                bail!("the guest says nothing more; it said: {said}");
            };
            if let Some(rest) = line.strip_prefix(mark) {
                return Ok((said, rest.to_owned()));
            }
            said.push_str(&line);
            said.push('\n');
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It is `timeout`, which passes the signal on.
        let _ = run(5, &["kill", "-TERM", &self.qemu.id().to_string()]);
        let _ = self.qemu.wait();
    }
}

/// The lines that are said, as they come.
fn lines_of(out: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    // Ends with the guest, or with whoever listens.
    std::thread::spawn(move || {
        let mut reader = BufReader::new(out);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|octets| octets > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    lines
}

/// The folder in which `cargo xtask test --install` has unpacked the kernel: `guest`, beside those of the builds.
fn kernel() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let places = own.ancestors().map(|folder| folder.join("guest"));
    places
        .into_iter()
        .find(|folder| folder.join("boot").is_dir())
        .context("no kernel for a guest: `cargo xtask test --install` unpacks one")
}

/// The files with which the guest starts.
fn initial_system(kernel: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "modules"] {
        archive.add_folder(folder);
    }
    archive.add_program("init", INIT.as_bytes());
    let busybox = run(5, &["sh", "-c", "command -v busybox"])?.ok()?;
    archive.add_program("bin/busybox", &fs::read(busybox.trim())?);
    for library in libraries(busybox.trim())? {
        let name = library.trim_start_matches('/');
        for (end, _) in name.match_indices('/') {
            archive.add_folder(&name[..end]);
        }
        archive.add_program(name, &fs::read(&library)?);
    }
    let modules = run(5, &["find", &kernel.to_string_lossy(), "-name", "*.ko"])?.ok()?;
    for (place, name) in MODULES.iter().enumerate() {
        let file = format!("/{name}.ko");
        let path = modules.lines().find(|path| path.ends_with(&file));
        let path = path.with_context(|| format!("the kernel has no module {name}"))?;
        // The shell takes them in the order of their names.
        archive.add_program(&format!("modules/{place:02}"), &fs::read(path)?);
    }
    Ok(archive.finish())
}

/// The shared libraries of a program, if it has any.
fn libraries(program: &str) -> Result<Vec<String>> {
    let listed = run(5, &["ldd", program])?.out;
    let paths = listed.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(paths.map(str::to_owned).collect())
}

fn file_in(folder: &Path, start: &str) -> Result<PathBuf> {
    let files = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut found = files.flatten().filter(|file| file.file_name().to_string_lossy().starts_with(start));
    let found = found.next().with_context(|| format!("no {start} in {}", folder.display()))?;
    ensure!(found.path().is_file());
    Ok(found.path())
}
