//! The main job on a built-in platform, with everything killed under load that can be killed.
//!
//! Real processes, real IP stacks in network namespaces, numbered datagrams between all pairs. Frames between
//! nodes that both live must arrive once and in order whatever else dies; the exit code says whether they did.

pub mod ledger;
pub mod management_client;
pub mod screen;
mod script;
pub mod traffic;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use platform::Platform;

use self::script::Script;
use crate::failure::{Doing, Failure};
use crate::lab::namespace::{self, Privilege};
use crate::lab::{self, Lab};
use crate::{cli, keys};

/// The built-in platform file.
pub const PLATFORM: &str = include_str!("demo/platform.toml");

/// Runs the demo; what `switch-server demo` does.
///
/// # Errors
///
/// When the system refuses what a lab needs, or the result is not clean.
pub fn run() -> Result<(), Failure> {
    let privilege = Privilege::of_this_process();
    if privilege == Privilege::None {
        namespace::enter_own_user_namespace()?;
    }
    namespace::check_tun()?;
    let folder = Folder::make()?;
    let platform = write_platform(&folder.path)?;
    let mut plan = lab::plan_of(&platform, false, privilege)?;
    plan.named_namespaces = false;
    let logs = folder.path.join("logs");
    fs::create_dir(&logs).doing("cannot make a folder for logs")?;
    plan.logs = Some(logs.clone());
    cli::say(format_args!(
        "Weft demo: 1 control node, {} nodes, {} fabrics, every process in {}",
        platform.nodes.len(),
        platform.fabrics.len(),
        folder.path.display()
    ));
    let lab = match Lab::start(plan) {
        Ok(lab) => lab,
        Err(failure) => {
            folder.remove();
            return Err(failure);
        }
    };
    let mut script = Script::new(lab, &platform);
    let result = script.play();
    let keeps_logs = result.is_err() && !script.is_interrupted();
    script.stop();
    if !keeps_logs {
        folder.remove();
        return result;
    }
    result.map_err(|failure| match failure.hint {
        Some(_) => failure,
        None => failure.hint(format_args!("what each process said is in {}", logs.display())),
    })
}

fn write_platform(folder: &Path) -> Result<Platform, Failure> {
    let file = folder.join("demo.toml");
    fs::write(&file, PLATFORM).doing(format_args!("cannot write {}", file.display()))?;
    let platform = Platform::parse(PLATFORM, &file).map_err(|error| Failure::from_report(&error.report()))?;
    keys::make_missing(&platform)?;
    Ok(platform)
}

/// The demo's own folder, which others cannot enter.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn make() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("weft-demo-{:016x}", rvi::host::random_u64()));
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700).create(&path).doing(format_args!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }

    fn remove(self) {
        // Whatever cannot be removed is in a folder for temporary files.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_platform_has_no_mistake_and_nothing_that_is_not_built() {
        let platform = Platform::parse(PLATFORM, Path::new("/tmp/demo.toml")).unwrap();
        assert!(platform.not_built_yet().is_empty(), "{:?}", platform.not_built_yet());
        assert_eq!((platform.nodes.len(), platform.fabrics.len()), (3, 2));
    }
}
