//! Where the project's files are.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The project's top folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the project's top folder")
}

/// A folder under cargo's target folder, for builds with flags of their own: they would otherwise throw away
/// the ordinary build each time.
pub fn target_dir(name: &str) -> PathBuf {
    target().join(name)
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    root().join(target)
}

/// Every file of the project whose name ends in one of `extensions`, relative to the top folder, sorted.
///
/// Build folders, fuzz artefacts and hidden folders are left out.
///
/// # Errors
/// When a folder cannot be read.
pub fn files(top: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    collect(top, Path::new(""), extensions, &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(top: &Path, folder: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) -> Result<()> {
    let full = top.join(folder);
    for entry in fs::read_dir(&full).with_context(|| format!("cannot read {}", full.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = folder.join(&*name);
        if entry.file_type()?.is_dir() {
            let skipped = ["target", "artifacts", "corpus", "coverage"].contains(&&*name);
            if !skipped && !name.starts_with('.') {
                collect(top, &path, extensions, found)?;
            }
        } else if path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)) {
            found.push(path);
        }
    }
    Ok(())
}
