//! What a lab leaves on disk while it runs: `run/lab.json` for `switchctl`, and locks that end with it.
//!
//! A lock is a kernel lock on an open file, so it is gone with the process however that ends; what the file says
//! then belongs to a dead lab and is cleaned up by the next one.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use platform::management::LabFile;
use rustix::fs::{FlockOperation, flock};

use crate::failure::{Doing, Failure};

/// Where labs with named namespaces say which ones they have made, one file for each platform name.
const NAMES_DIR: &str = "/run/weft";

/// The folder `run` beside a platform file, locked by one lab.
pub struct RunDirectory {
    path: PathBuf,
    /// True when this lab made the folder.
    made: bool,
    lock: File,
}

impl RunDirectory {
    /// Makes `run` in `directory`, if it is missing, and locks it.
    ///
    /// # Errors
    ///
    /// When another lab of the same file is running, or the folder cannot be written.
    pub fn lock(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join("run");
        let made = !path.exists();
        fs::create_dir_all(&path).doing(format_args!("cannot make {}", path.display()))?;
        let lock_path = path.join("lab.lock");
        let lock = File::create(&lock_path).doing(format_args!("cannot open {}", lock_path.display()))?;
        //= spec/lab.md#one-lab-at-a-time
        //# A lab MUST be refused while another one of the same platform file, or as root of the same platform name,
        //# is running.
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Failure::runtime(format_args!("a lab of this platform file is running ({})", path.display()))
                .hint("end it with Ctrl-C where it runs")
        })?;
        Ok(Self { path, made, lock })
    }

    /// The path of a file in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes `lab.json` whole under another name and renames it into place.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written.
    //= spec/lab.md#lab-file
    //# The lab file MUST be replaced as a whole each time a process starts or ends, or a fabric goes down or up.
    pub fn write_lab(&self, lab: &LabFile) -> Result<(), Failure> {
        let write = || {
            let draft = self.join("lab.json.new");
            fs::write(&draft, serde_json::to_vec_pretty(lab)?)?;
            fs::rename(&draft, self.join("lab.json"))
        };
        write().doing(format_args!("cannot write {}", self.join("lab.json").display()))
    }

    /// Removes what the lab wrote, and the folder itself when the lab made it and nothing else is in it.
    pub fn remove(self) {
        for name in ["lab.json", "lab.json.new", "lab.sock", "lab.lock"] {
            let _ = fs::remove_file(self.join(name));
        }
        if self.made {
            // Fails when somebody else's file is in it, which is then left alone.
            let _ = fs::remove_dir(&self.path);
        }
        drop(self.lock);
    }
}

/// The list of named namespaces of one platform name, locked by one lab of this machine.
pub struct NameList {
    path: PathBuf,
    file: File,
}

impl NameList {
    /// Locks the platform name and gives the namespaces that a dead lab of this name left behind.
    ///
    /// # Errors
    ///
    /// When a lab of this name is running, or the list cannot be read.
    pub fn lock(platform: &str) -> Result<(Self, Vec<String>), Failure> {
        Self::lock_in(Path::new(NAMES_DIR), platform)
    }

    fn lock_in(directory: &Path, platform: &str) -> Result<(Self, Vec<String>), Failure> {
        fs::create_dir_all(directory).doing(format_args!("cannot make {}", directory.display()))?;
        let path = directory.join(format!("{platform}.lab"));
        let opening = format!("cannot open {}", path.display());
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .doing(&opening)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Failure::runtime(format_args!("another lab with the platform name {platform} is running"))
                .hint("end it, or change `name` under [platform]")
        })?;
        let mut text = String::new();
        file.read_to_string(&mut text).doing(&opening)?;
        Ok((Self { path, file }, text.lines().map(str::to_owned).collect()))
    }

    /// Writes down the namespaces that are about to be made.
    ///
    /// # Errors
    ///
    /// When the list cannot be written.
    pub fn write(&mut self, names: &[String]) -> Result<(), Failure> {
        let mut write = || -> io::Result<()> {
            self.file.rewind()?;
            self.file.set_len(0)?;
            self.file.write_all(names.join("\n").as_bytes())
        };
        write().doing(format_args!("cannot write {}", self.path.display()))
    }

    /// Removes the list: the namespaces are gone.
    pub fn remove(self) {
        let _ = fs::remove_file(&self.path);
        if let Some(directory) = self.path.parent() {
            let _ = fs::remove_dir(directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::management::LabNode;

    #[test]
    fn lab_json_is_written_whole_and_read_back() {
        //= spec/lab.md#lab-file
        //= type=test
        //# The lab file MUST be replaced as a whole each time a process starts or ends, or a fabric goes down or up.
        let dir = tempfile::tempdir().unwrap();
        let run = RunDirectory::lock(dir.path()).unwrap();
        let node = LabNode { name: "web1".into(), pid: Some(7), netns: "/proc/4/fd/9".into() };
        let lab = LabFile { name: "lab".into(), supervisor: 4, nodes: vec![node], ..LabFile::default() };
        run.write_lab(&lab).unwrap();
        let read: LabFile = serde_json::from_slice(&fs::read(run.join("lab.json")).unwrap()).unwrap();
        assert_eq!(read, lab);
        assert!(!run.join("lab.json.new").exists());
        run.remove();
        assert!(!dir.path().join("run").exists());
    }

    #[test]
    fn a_second_lab_of_the_same_file_is_refused() {
        //= spec/lab.md#one-lab-at-a-time
        //= type=test
        //# A lab MUST be refused while another one of the same platform file, or as root of the same platform name,
        //# is running.
        let dir = tempfile::tempdir().unwrap();
        let _run = RunDirectory::lock(dir.path()).unwrap();
        let refused = RunDirectory::lock(dir.path()).err().unwrap();
        assert!(refused.error.contains("is running"), "{refused}");
    }

    #[test]
    fn files_of_others_in_the_run_folder_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDirectory::lock(dir.path()).unwrap();
        fs::write(run.join("notes.txt"), "mine").unwrap();
        run.remove();
        assert!(dir.path().join("run/notes.txt").exists());
    }

    #[test]
    fn the_next_lab_learns_which_namespaces_a_dead_one_left() {
        //= spec/lab.md#leftovers
        //= type=test
        //# A lab MUST remove the namespaces that a dead lab of the same platform name has left behind.
        let dir = tempfile::tempdir().unwrap();
        let (mut names, stale) = NameList::lock_in(dir.path(), "lab").unwrap();
        assert!(stale.is_empty());
        names.write(&["lab-web1".into(), "lab-web2".into()]).unwrap();
        assert!(NameList::lock_in(dir.path(), "lab").is_err());
        drop(names);
        let (names, stale) = NameList::lock_in(dir.path(), "lab").unwrap();
        assert_eq!(stale, ["lab-web1", "lab-web2"]);
        names.remove();
        assert!(!dir.path().exists());
        std::mem::forget(dir);
    }
}
