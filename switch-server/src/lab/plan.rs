//! What a lab runs, from the platform file.

use std::path::{Path, PathBuf};

use platform::{Leg, Management, Platform};

use super::namespace::Privilege;
use crate::failure::{Doing, Failure};

/// What a lab runs.
#[derive(Clone, Debug)]
pub struct LabPlan {
    /// The platform's name: prefix of the namespaces.
    pub name: String,
    /// The platform file, absolute.
    pub file: PathBuf,
    /// The folder it is in.
    pub folder: PathBuf,
    /// Names of the control nodes.
    pub control_nodes: Vec<String>,
    /// Names of the nodes.
    pub nodes: Vec<String>,
    /// Every unix socket that a control node listens on, absolute: what a killed one leaves behind.
    pub sockets: Vec<PathBuf>,
    /// Whether a process that dies is started again.
    pub restart: bool,
    /// Whether namespaces get names that `ip netns` knows; needs root.
    pub named_namespaces: bool,
    /// Whether the lab made a user namespace for itself, which others must enter first.
    pub own_user_namespace: bool,
    /// Where each process writes its messages, as `NAME.log`; to the lab's own standard error when absent.
    pub logs: Option<PathBuf>,
}

impl LabPlan {
    /// The name of a node's namespace, when namespaces have names.
    #[must_use]
    pub fn namespace_name(&self, node: &str) -> String {
        format!("{}-{node}", self.name)
    }
}

/// What a lab of `platform` runs.
///
/// # Errors
///
/// When the platform file has been moved away.
pub fn plan_of(platform: &Platform, restart: bool, privilege: Privilege) -> Result<LabPlan, Failure> {
    let file = platform.path.canonicalize().doing(format_args!("cannot find {}", platform.path.display()))?;
    let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
    let sockets = platform.control_nodes.iter().flat_map(|control_node| {
        let legs = control_node.legs.iter().flatten().filter_map(|leg| match leg {
            Leg::Unix { path } => path.clone(),
            Leg::Udp { .. } | Leg::Ether { .. } => None,
        });
        let management = match &control_node.management {
            Management::Unix(path) => Some(path.clone()),
            Management::Tcp(_) => None,
        };
        legs.chain(management)
    });
    Ok(LabPlan {
        name: platform.name.clone(),
        sockets: sockets.collect(),
        control_nodes: platform.control_nodes.iter().map(|control_node| control_node.name.clone()).collect(),
        nodes: platform.nodes.iter().map(|node| node.name.clone()).collect(),
        folder,
        file,
        restart,
        named_namespaces: privilege == Privilege::Root,
        own_user_namespace: privilege == Privilege::None,
        logs: None,
    })
}
