//! The kernel of the virtual machine that an end-to-end test has for a network outside: Debian's own, unpacked in cargo's target
//! folder. It is not installed, since this machine is not to start with it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::step::{Invocation, UsageError};
use crate::workspace;

/// Names the package with the newest kernel for virtual machines.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// Makes sure that the kernel is there, getting it when `install` says so.
///
/// # Errors
/// A [`UsageError`] when it is not and may not be got; whatever apt-get or dpkg-deb fail with.
pub fn require(install: bool) -> Result<()> {
    // Where `e2e/src/guest.rs` looks for it.
    let folder = workspace::target_dir("guest");
    if folder.join("boot").is_dir() {
        return Ok(());
    }
    if !install {
        return Err(UsageError {
            what: format!("the end-to-end tests need a kernel for a guest, in {}", folder.display()),
            hint: format!(
                "`cargo xtask test --install` unpacks that of the Debian package {META_PACKAGE} there; `cargo xtask test --quick` \
                 runs what needs none"
            ),
        }
        .into());
    }
    println!("unpacking the kernel of {META_PACKAGE} in {}", folder.display());
    let archive = download(&folder.with_extension("deb"))?;
    let unpacked = folder.with_extension("part");
    let words = ["--extract".into(), shown(&archive), shown(&unpacked)];
    Invocation::program("dpkg-deb").args(words).run()?;
    // Whole or not at all: whoever is interrupted begins again.
    fs::rename(&unpacked, &folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Gets the package's file into a folder of its own.
fn download(folder: &Path) -> Result<PathBuf> {
    let dependencies = Invocation::program("apt-cache").args(["depends".into(), META_PACKAGE.into()]);
    let listed = dependencies.output()?;
    let package = kernel_of(&listed).with_context(|| format!("{META_PACKAGE} names no kernel: {listed}"))?;
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let words = ["--chdir", &shown(folder), "apt-get", "-q", "download", package];
    Invocation::program("env").args(words.map(String::from)).run()?;
    let mut files = fs::read_dir(folder)?;
    Ok(files.next().with_context(|| format!("apt-get has left nothing of {package}"))??.path())
}

/// The package that has the kernel, of what `apt-cache depends` says.
fn kernel_of(listed: &str) -> Option<&str> {
    listed
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .filter(|name| name.starts_with("linux-image-"))
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_what_the_meta_package_depends_on() {
        let listed = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(kernel_of(listed), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(kernel_of("linux-image-cloud-amd64\n"), None);
    }
}
