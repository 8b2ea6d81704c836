//! A namespace of its own for each test that needs the kernel's network stack.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::thread::UnshareFlags;

/// Set in the process that a test runs its body in.
const INSIDE: &str = "WEFT_TEST_INSIDE";

/// Runs `body` in a process of its own with a network namespace (and, without root, a user namespace) of its
/// own: this test binary once more, with only the test `name`. Everything made there goes with the process.
pub fn in_own_namespace(name: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let maps = [
        (c"/proc/self/setgroups", CString::new("deny").unwrap()),
        (c"/proc/self/uid_map", CString::new(format!("0 {} 1", uid.as_raw())).unwrap()),
        (c"/proc/self/gid_map", CString::new(format!("0 {} 1", gid.as_raw())).unwrap()),
    ];
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(INSIDE, "1").stdin(Stdio::null());
    let before_exec = move || {
        if uid.is_root() {
            return unshare(UnshareFlags::NEWNET);
        }
        unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET)?;
        for (path, text) in &maps {
            let file = rustix::fs::open(*path, rustix::fs::OFlags::WRONLY, rustix::fs::Mode::empty())?;
            rustix::io::write(&file, text.as_bytes())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only.
    unsafe { command.pre_exec(before_exec) };
    let output = command.output().expect(
        "this test needs namespaces: run it as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)",
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "in its namespace:\n{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: only namespaces are unshared, in a process or thread that ends with the test.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// A namespace beside the one this process is in, as a tenant's is.
pub fn tenant() -> OwnedFd {
    let made = std::thread::spawn(|| {
        unshare(UnshareFlags::NEWNET)?;
        File::open("/proc/thread-self/ns/net")
    });
    OwnedFd::from(made.join().unwrap().expect("this test needs network namespaces"))
}
