//! A running lab, found by the files that its supervisor keeps beside the platform file. No control node is asked.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use platform::failure::Failure;
use platform::management::{LabAnswer, LabFile, LabRequest};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::client::connect;

/// How long the supervisor may take to start a process.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Longest answer that is read, in octets.
const ANSWER_LEN_MAX: u64 = 64 << 10;

/// Becomes `command` in the namespace of `station`, a node or a host outside. Returns only when that fails.
///
/// The process must have one thread: the kernel moves no other into a user namespace.
pub fn exec(platform_file: &Path, station: &str, command: &[OsString]) -> Failure {
    let Some((program, arguments)) = command.split_first() else {
        return Failure::usage("no command")
            .hint("write it after `--`: switchctl -f FILE exec web1 -- ip address");
    };
    let entered = running(platform_file).and_then(|lab| enter(&lab, station, find(&lab, station)?));
    if let Err(failure) = entered {
        return failure;
    }
    let error = Command::new(program).args(arguments).exec();
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "install it, or give its path",
        _ => "",
    };
    Failure::runtime(format!("cannot run {}: {error}", program.to_string_lossy())).hint(hint)
}

/// Starts a dead process of the lab again, and gives the supervisor's answer: the new process.
pub fn restart(platform_file: &Path, name: &str) -> Result<u32, Failure> {
    let lab = running(platform_file)?;
    match ask(platform_file, &lab, &LabRequest::Restart { name: name.to_owned() })? {
        LabAnswer::Started { pid } => Ok(pid),
        answer => Err(unexpected(&answer)),
    }
}

/// Takes a fabric of the lab down or up, and gives the number of processes that it joins.
pub fn set_fabric(platform_file: &Path, name: &str, up: bool) -> Result<u32, Failure> {
    let lab = running(platform_file)?;
    match ask(platform_file, &lab, &LabRequest::Fabric { name: name.to_owned(), up })? {
        LabAnswer::Fabric { processes, .. } => Ok(processes),
        answer => Err(unexpected(&answer)),
    }
}

/// Asks the supervisor of a running lab; what it refuses is a failure.
fn ask(platform_file: &Path, lab: &LabFile, request: &LabRequest) -> Result<LabAnswer, Failure> {
    let unreachable = |error: io::Error| {
        let error = format!("the supervisor of lab {:?} (process {}): {error}", lab.name, lab.supervisor);
        Failure::runtime(error).hint("see whether it is stopped, and what it prints")
    };
    let request = serde_json::to_string(request).map_err(|error| unreachable(error.into()))?;
    let socket = beside(platform_file, "run/lab.sock");
    match order(&socket, &request).map_err(unreachable)? {
        LabAnswer::Refused(refusal) => Err(Failure::runtime(refusal.error).hint(refusal.hint)),
        answer => Ok(answer),
    }
}

fn unexpected(answer: &LabAnswer) -> Failure {
    let error = format!("the lab's supervisor answers something else: {answer:?}");
    Failure::runtime(error).hint("use a switchctl of the same version as the lab")
}

fn order(socket: &Path, request: &str) -> io::Result<LabAnswer> {
    let mut stream = connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    stream.set_write_timeout(Some(ANSWER_TIME))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_LEN_MAX)).read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::Error::other("it closed without an answer"));
    }
    Ok(serde_json::from_str(&line)?)
}

fn beside(platform_file: &Path, name: &str) -> PathBuf {
    match platform_file.parent() {
        Some(folder) => folder.join(name),
        None => PathBuf::from(name),
    }
}

/// Reads what the lab of this platform file says of itself, if it runs.
fn running(platform_file: &Path) -> Result<LabFile, Failure> {
    let path = beside(platform_file, "run/lab.json");
    let hint = format!("start it with `switch-server lab {}`", platform_file.display());
    let text = fs::read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::runtime(format!("no lab of {} runs", platform_file.display())).hint(&hint)
        }
        _ => Failure::runtime(format!("{}: {error}", path.display()))
            .hint("run as the user who started the lab"),
    })?;
    let lab: LabFile = serde_json::from_slice(&text).map_err(|error| {
        let hint = "use a switchctl of the same version as the lab";
        Failure::runtime(format!("{}: {error}", path.display())).hint(hint)
    })?;
    if !Path::new(&format!("/proc/{}", lab.supervisor)).exists() {
        return Err(Failure::runtime(format!("lab {:?} has ended without cleaning up", lab.name)).hint(hint));
    }
    Ok(lab)
}

/// The network namespace of a node or host outside.
fn find<'l>(lab: &'l LabFile, name: &str) -> Result<&'l Path, Failure> {
    let nodes = lab.nodes.iter().map(|node| (node.name.as_str(), &*node.netns));
    let stations = nodes.chain(lab.outside.iter().map(|host| (host.name.as_str(), &*host.netns)));
    let found = stations.clone().find(|(station, _)| *station == name).map(|(_, netns)| netns);
    found.ok_or_else(|| {
        let names: Vec<_> = stations.map(|(station, _)| station).collect();
        let error = if lab.control_nodes.iter().any(|process| process.name == name) {
            format!("{name} is a control node: it has no interfaces on the LANs")
        } else {
            format!("lab {:?} has no node or host {name}", lab.name)
        };
        Failure::runtime(error).hint(format!("it has {}", names.join(", ")))
    })
}

/// Moves this process into a station's namespaces. Both are opened first: from inside the user namespace, the
/// supervisor's descriptors may look different.
fn enter(lab: &LabFile, station: &str, netns: &Path) -> Result<(), Failure> {
    let open = |path: &Path| {
        File::open(path).map_err(|error| {
            let hint = "run as the user who started the lab; `ip netns exec` works for root";
            Failure::runtime(format!("cannot open the namespace {}: {error}", path.display())).hint(hint)
        })
    };
    let netns = open(netns)?;
    let user_ns = lab.user_ns.as_deref().map(open).transpose()?;
    let refused = |what: &str, error: rustix::io::Errno| {
        let error = format!("cannot enter the {what} namespace of {station}: {}", io::Error::from(error));
        Failure::runtime(error).hint("run as the user who started the lab, or as root")
    };
    // The kernel refuses to enter the user namespace that one is in already, as in a container that holds both.
    if let Some(user_ns) = user_ns.filter(|user_ns| !is_own(user_ns, "/proc/self/ns/user")) {
        move_into_link_name_space(user_ns.as_fd(), Some(LinkNameSpaceType::User))
            .map_err(|error| refused("user", error))?;
    }
    move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| refused("network", error))
}

/// True when `namespace` is the one at `own`: a namespace is named by its device and inode.
fn is_own(namespace: &File, own: &str) -> bool {
    let names = |of: &fs::Metadata| (of.dev(), of.ino());
    let pair = namespace.metadata().and_then(|there| Ok((there, fs::metadata(own)?)));
    pair.is_ok_and(|(there, here)| names(&there) == names(&here))
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::management::{LabHost, LabNode, LabProcess};

    fn lab_in(folder: &Path, supervisor: u32) -> PathBuf {
        let node = LabNode { name: "web1".into(), pid: None, netns: "/nowhere".into() };
        let control_node = LabProcess { name: "cn-a".into(), pid: None };
        let lab = LabFile {
            name: "lab".into(),
            supervisor,
            user_ns: None,
            nodes: vec![node],
            control_nodes: vec![control_node],
            fabrics: Vec::new(),
            outside: vec![LabHost { name: "client".into(), netns: "/outside".into() }],
        };
        fs::create_dir(folder.join("run")).unwrap();
        fs::write(folder.join("run/lab.json"), serde_json::to_vec(&lab).unwrap()).unwrap();
        folder.join("p.toml")
    }

    #[test]
    fn a_lab_that_does_not_run_is_said_so() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        let failure = exec(&file, "web1", &["true".into()]).to_string();
        assert!(failure.starts_with("error: no lab of "), "{failure}");
        assert!(failure.contains("switch-server lab "), "{failure}");
    }

    #[test]
    fn a_lab_whose_supervisor_is_dead_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        // Process ids end at 2^22 (PID_MAX_LIMIT).
        let file = lab_in(folder.path(), 1 << 30);
        for failure in [restart(&file, "cn-a").unwrap_err(), set_fabric(&file, "a", true).unwrap_err()] {
            let failure = failure.to_string();
            assert!(failure.contains("has ended without cleaning up"), "{failure}");
        }
    }

    #[test]
    fn a_node_that_the_lab_does_not_have_is_refused_with_those_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let file = lab_in(folder.path(), std::process::id());
        let failure = exec(&file, "web9", &["true".into()]).to_string();
        assert!(failure.contains("has no node or host web9"), "{failure}");
        assert!(failure.contains("it has web1, client"), "{failure}");
        let failure = exec(&file, "cn-a", &["true".into()]).to_string();
        assert!(failure.contains("is a control node"), "{failure}");
    }

    #[test]
    fn ones_own_namespace_is_known() {
        let own = File::open("/proc/self/ns/user").unwrap();
        assert!(is_own(&own, "/proc/self/ns/user"));
        assert!(!is_own(&own, "/proc/self/ns/net"));
        assert!(!is_own(&own, "/nowhere"));
    }

    #[test]
    fn a_namespace_that_cannot_be_opened_names_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let file = lab_in(folder.path(), std::process::id());
        for (station, path) in [("web1", "/nowhere"), ("client", "/outside")] {
            let failure = exec(&file, station, &["true".into()]).to_string();
            assert!(failure.contains(path), "{failure}");
        }
    }
}
