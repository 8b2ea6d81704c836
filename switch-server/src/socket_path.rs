//! Unix sockets at paths of any length.
//!
//! A socket address holds 107 octets of path. A longer one is reached through a descriptor of its folder:
//! `/proc/self/fd/N/NAME`.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Runs `with` on a path that names the same file as `path` and fits into a socket address while it runs.
///
/// # Errors
///
/// What `with` says, or when the folder of `path` cannot be opened.
pub fn with_short_path<T>(path: &Path, with: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = File::open(folder)?;
    with(&PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))
}

/// Listens for streams on `path`, making its folder when it is missing and replacing a socket that a dead process left there.
/// The socket has the permissions `mode` before anybody can connect.
///
/// # Errors
///
/// What the system says; `AlreadyExists` when something else than a socket has the path.
pub fn bind_stream(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    remove_socket(path)?;
    //= spec/control-node.md#management-socket
    //# The management socket MUST have its permissions before anybody can connect to it.
    // Bound under a name that nobody knows, given its permissions, and only then its own name: at no time can
    // somebody connect whom the permissions would refuse.
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    remove_socket(&draft)?;
    let listener = with_short_path(&draft, |short| UnixListener::bind(short))?;
    fs::set_permissions(&draft, Permissions::from_mode(mode))?;
    fs::rename(&draft, path)?;
    Ok(listener)
}

/// Removes the socket at `path`, if there is one.
///
/// # Errors
///
/// `AlreadyExists` when something else than a socket is there, or what the system says.
pub fn remove_socket(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_path_over_107_octets_is_listened_on_and_connected_to_by_its_owner() {
        //= spec/control-node.md#management-socket
        //= type=test
        //# The management socket MUST have its permissions before anybody can connect to it.
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("d".repeat(120));
        let path = folder.join("cn-a.sock");
        let _listener = bind_stream(&path, 0o600).unwrap();
        with_short_path(&path, |short| UnixStream::connect(short)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_dead_socket_is_replaced_and_another_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(bind_stream(&path, 0o600).unwrap());
        drop(bind_stream(&path, 0o600).unwrap());
        let file = dir.path().join("f");
        fs::write(&file, "precious").unwrap();
        assert_eq!(bind_stream(&file, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    }
}
