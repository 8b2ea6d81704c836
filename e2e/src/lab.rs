//! A running lab: `switch-server lab` on a platform file in a folder of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::command::{Done, run};

/// How long anything that is waited for may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long is paused before what is waited for is looked at again.
const PACE: Duration = Duration::from_millis(1);

/// A lab that ends with this value.
pub struct Lab {
    supervisor: Child,
    folder: PathBuf,
    name: String,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

/// A program of this workspace: the tests are built beside it.
///
/// # Errors
/// When it has not been built in the same profile.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("this program has no folder")?;
    // Tests are in a folder below their programs.
    let places = [Some(folder), folder.parent()].into_iter().flatten().map(|folder| folder.join(name));
    places.clone().find(|path| path.exists()).with_context(|| {
        format!("no {name} in {}: `cargo build --release --workspace` makes it", folder.display())
    })
}

impl Lab {
    /// Starts a lab on a platform file of the `examples` folder, its name changed to `name`, and waits until
    /// it is ready.
    ///
    /// # Errors
    /// When it does not become ready, with everything it said.
    pub fn start(example: &str, name: &str, options: &[&str]) -> Result<Self> {
        Self::start_with(example, name, options, |_| Ok(()))
    }

    /// As [`Self::start`]; `prepare` may change the lab's folder after the keys are made.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(
        example: &str,
        name: &str,
        options: &[&str],
        prepare: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        let folder = folder_of(&fs::read_to_string(examples().join(example))?, name)?;
        prepare(&folder)?;
        let mut command = Command::new(program("switch-server")?);
        command.arg("lab").arg(folder.join("lab.toml")).args(options);
        Self::supervised_by(command, folder, name)
    }

    /// Starts a lab on the platform file `text`, its name changed to `name`, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_text(text: &str, name: &str) -> Result<Self> {
        Self::start_text_with(text, name, &[])
    }

    /// As [`Self::start_text`], with options of `switch-server lab`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_text_with(text: &str, name: &str, options: &[&str]) -> Result<Self> {
        let folder = folder_of(text, name)?;
        let mut command = Command::new(program("switch-server")?);
        command.arg("lab").arg(folder.join("lab.toml")).args(options);
        Self::supervised_by(command, folder, name)
    }

    /// The same as a user who is not root. Most systems let users open the tun device; where this one does not, the
    /// lab gets one of its own, in a mount namespace of its own.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_text_without_root(text: &str, name: &str) -> Result<Self> {
        let folder = folder_of(text, name)?;
        for name in ["switch-server", "switchctl"] {
            fs::copy(program(name)?, folder.join(name))?;
        }
        let script = "chown -R 65534:65534 . && mknod -m 0666 tun c 10 200 && mount --bind tun /dev/net/tun && \
                      exec setpriv --reuid=65534 --regid=65534 --clear-groups ./switch-server lab lab.toml";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).current_dir(&folder);
        Self::supervised_by(command, folder, name)
    }

    fn supervised_by(mut command: Command, folder: PathBuf, name: &str) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut supervisor = command.spawn()?;
        let log = Arc::new(Mutex::new(String::new()));
        let out = supervisor.stdout.take().context("no standard output")?;
        let err = supervisor.stderr.take().context("no standard error")?;
        let readers = vec![collect(out, &log), collect(err, &log)];
        let lab = Self { supervisor, folder, name: name.into(), log, readers };
        lab.wait_for("the lab to be ready", || Ok(lab.log().lines().any(|line| line == "ready")))?;
        Ok(lab)
    }

    /// Everything that the lab has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().map(|log| log.clone()).unwrap_or_default()
    }

    /// The platform file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.join("lab.toml")
    }

    /// Process id of the supervisor.
    #[must_use]
    pub fn supervisor(&self) -> u32 {
        self.supervisor.id()
    }

    /// The namespace of a node, by name.
    #[must_use]
    pub fn namespace(&self, node: &str) -> String {
        format!("{}-{node}", self.name)
    }

    /// Runs a command inside a node's namespace.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn exec(&self, node: &str, seconds: u32, words: &[&str]) -> Result<Done> {
        let namespace = self.namespace(node);
        run(seconds, &[&["ip", "netns", "exec", &namespace], words].concat())
    }

    /// Runs a command where a process of the lab runs: in its underlay.
    ///
    /// # Errors
    /// When there is no such process, or the command cannot be started.
    pub fn exec_in_underlay(&self, process: &str, seconds: u32, words: &[&str]) -> Result<Done> {
        let underlay = format!("--net=/proc/{}/ns/net", self.pid(process)?);
        run(seconds, &[&["nsenter", &underlay], words].concat())
    }

    /// The name that the kernel gives a process's underlay, `net:[INODE]`.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn underlay(&self, process: &str) -> Result<String> {
        let path = format!("/proc/{}/ns/net", self.pid(process)?);
        Ok(fs::read_link(&path).context(path)?.to_string_lossy().into_owned())
    }

    /// Starts a command inside a node's namespace and leaves it running.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, node: &str, seconds: u32, words: &[&str]) -> Result<Child> {
        self.spawn_from(Stdio::null(), node, seconds, words)
    }

    /// The same for a command that is told more while it runs.
    ///
    /// # Errors
    /// As [`Self::spawn`].
    pub fn spawn_with_input(&self, node: &str, seconds: u32, words: &[&str]) -> Result<Child> {
        self.spawn_from(Stdio::piped(), node, seconds, words)
    }

    fn spawn_from(&self, input: Stdio, node: &str, seconds: u32, words: &[&str]) -> Result<Child> {
        let namespace = self.namespace(node);
        let mut command = Command::new("timeout");
        command.args(["--kill-after=2", &seconds.to_string(), "ip", "netns", "exec", &namespace]);
        Ok(command.args(words).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    /// Runs `switchctl` on this lab.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn switchctl(&self, words: &[&str]) -> Result<Done> {
        let (program, file) = (program("switchctl")?, self.file());
        run(20, &[&[&*program.to_string_lossy(), "-f", &file.to_string_lossy()], words].concat())
    }

    /// Runs `switchctl` on a lab that was started without root, as its user does.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn switchctl_without_root(&self, words: &[&str]) -> Result<Done> {
        let (program, file) = (self.folder.join("switchctl"), self.file());
        let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        run(20, &[&user[..], &[&*program.to_string_lossy(), "-f", &file.to_string_lossy()], words].concat())
    }

    /// Applies another platform file, `text`.
    ///
    /// # Errors
    /// When it cannot be written, or `switchctl` not be started.
    pub fn apply(&self, text: &str, options: &[&str]) -> Result<Done> {
        let path = self.file().with_file_name("changed.toml");
        fs::write(&path, text)?;
        self.switchctl(&[&["apply", &path.to_string_lossy()], options].concat())
    }

    /// What `switchctl ... --json` says.
    ///
    /// # Errors
    /// When it fails or prints no JSON.
    pub fn json(&self, words: &[&str]) -> Result<Value> {
        let out = self.switchctl(&[words, &["--json"]].concat())?.ok()?;
        serde_json::from_str(&out).with_context(|| out.clone())
    }

    /// The sum of the counters of `switchctl counters` for which `matches` says yes to their name.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn counter(&self, matches: impl Fn(&str) -> bool) -> Result<u64> {
        let counters = self.json(&["counters"])?;
        let counters = counters.as_array().context("counters are no list")?;
        let values = counters.iter().filter(|c| c["name"].as_str().is_some_and(&matches));
        Ok(values.filter_map(|c| c["value"].as_u64()).sum())
    }

    /// Process ids by name, as the lab's own file says.
    ///
    /// # Errors
    /// When the file cannot be read or does not name it.
    pub fn pid(&self, name: &str) -> Result<u32> {
        let text = fs::read_to_string(self.folder.join("run/lab.json"))?;
        let lab: Value = serde_json::from_str(&text)?;
        let all = ["nodes", "control_nodes"].into_iter().filter_map(|kind| lab[kind].as_array()).flatten();
        let pid = all.filter(|entry| entry["name"] == name).find_map(|entry| entry["pid"].as_u64());
        Ok(u32::try_from(pid.with_context(|| format!("no process {name} in {text}"))?)?)
    }

    /// Sends SIGKILL to a process of the lab.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn kill(&self, name: &str) -> Result<()> {
        self.signal_to(name, rustix::process::Signal::KILL)
    }

    /// Sends SIGTERM to a process of the lab: it is asked to end.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn terminate(&self, name: &str) -> Result<()> {
        self.signal_to(name, rustix::process::Signal::TERM)
    }

    /// Sends SIGHUP to a process of the lab: a control node reads its file again.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn hang_up(&self, name: &str) -> Result<()> {
        self.signal_to(name, rustix::process::Signal::HUP)
    }

    fn signal_to(&self, name: &str, signal: rustix::process::Signal) -> Result<()> {
        let pid = i32::try_from(self.pid(name)?)?;
        let pid = rustix::process::Pid::from_raw(pid).context("pid 0")?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// Asks `condition` again and again until it holds.
    ///
    /// # Errors
    /// When it fails, or does not hold within 30 s.
    pub fn wait_for(&self, what: &str, condition: impl Fn() -> Result<bool>) -> Result<()> {
        self.wait_for_long(what, PATIENCE, condition)
    }

    /// As [`Self::wait_for`], with more patience.
    ///
    /// # Errors
    /// When it fails, or does not hold in time.
    pub fn wait_for_long(
        &self,
        what: &str,
        patience: Duration,
        condition: impl Fn() -> Result<bool>,
    ) -> Result<()> {
        let until = Instant::now() + patience;
        while !condition()? {
            if Instant::now() > until {
                bail!("waited in vain for {what}\n{}", self.log());
            }
            // The lab needs the processors more than whoever waits for it.
            std::thread::park_timeout(PACE);
        }
        Ok(())
    }

    /// Ends the lab as an administrator does, and checks that nothing is left behind.
    ///
    /// # Errors
    /// When the supervisor fails or leaves a namespace behind.
    pub fn stop(mut self) -> Result<()> {
        self.interrupt()?;
        let status = self.supervisor.wait()?;
        ensure!(status.success(), "the lab ended with {status}\n{}", self.log());
        let left = run(5, &["ip", "netns", "list"])?.ok()?;
        let prefix = format!("{}-", self.name);
        ensure!(!left.lines().any(|line| line.starts_with(&prefix)), "left behind: {left}");
        Ok(())
    }

    /// Ends the supervisor by SIGKILL, and gives what it has said.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill_supervisor(mut self) -> Result<String> {
        self.signal(rustix::process::Signal::KILL)?;
        self.supervisor.wait()?;
        Ok(self.log())
    }

    fn interrupt(&self) -> Result<()> {
        self.signal(rustix::process::Signal::INT)
    }

    fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.supervisor.id())?).context("pid 0")?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Ok(None) = self.supervisor.try_wait() {
            let _ = self.interrupt();
            let _ = self.supervisor.wait();
        }
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            eprintln!("--- the lab said:\n{}", self.log());
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Makes the folder of a lab: a platform file with its name changed, and its keys.
fn folder_of(text: &str, name: &str) -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("weft-e2e-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let first = text.lines().find(|line| line.starts_with("name = ")).context("no platform name")?;
    let file = folder.join("lab.toml");
    fs::write(&file, text.replacen(first, &format!("name = \"{name}\""), 1))?;
    let server = program("switch-server")?;
    run(20, &[&server.to_string_lossy(), "keys", &file.to_string_lossy()])?.ok()?;
    Ok(folder)
}

fn collect(stream: impl Read + Send + 'static, log: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if let Ok(mut log) = log.lock() {
                log.push_str(&line);
                log.push('\n');
            }
        }
    })
}

/// The folder of example platform files.
#[must_use]
pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}
