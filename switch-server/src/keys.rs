//! The key files of a platform: who has one, making those that are missing, and reading those a control node needs.

use std::fs;
use std::path::{Path, PathBuf};

use platform::Platform;
use rvi::host::{KeyError, PrivateKey, PublicKey, load_secret};
use vlan_core::SecretKey;

use crate::failure::{Doing, Failure};

/// Makes every private key that `platform` names and that is missing, and every public half that is missing.
/// Gives the files that were made.
///
/// # Errors
///
/// When a file cannot be written or is not a key. What was made before stays.
pub fn make_missing(platform: &Platform) -> Result<Vec<PathBuf>, Failure> {
    let mut made = make_grant_key(&platform.grant_key_file)?;
    for path in pair_files(platform) {
        make_folder_of(path)?;
        let public = PrivateKey::public_path(path);
        if !path.exists() {
            PrivateKey::create(path).map_err(refuse_key)?;
            made.extend([path.to_owned(), public]);
        } else if !public.exists() {
            PrivateKey::load(path).map_err(refuse_key)?.write_public(path).map_err(refuse_key)?;
            made.push(public);
        }
    }
    Ok(made)
}

/// Makes sure that every key of `platform` is there, before processes are started that would each miss one.
///
/// # Errors
///
/// When one is missing; the hint says how to make it.
pub fn check_present(platform: &Platform) -> Result<(), Failure> {
    let pairs = pair_files(platform).flat_map(|path| [path.to_owned(), PrivateKey::public_path(path)]);
    let mut needed = pairs.chain([platform.grant_key_file.clone()]);
    match needed.find(|path| !path.exists()) {
        Some(path) => Err(Failure::usage(format_args!("there is no key {}", path.display()))
            .hint(format_args!("make it: `switch-server keys {}`", platform.path.display()))),
        None => Ok(()),
    }
}

/// Reads a private key.
///
/// # Errors
///
/// When it is missing, open to others, or no key.
pub fn private(path: &Path) -> Result<PrivateKey, Failure> {
    PrivateKey::load(path).map_err(refuse_key)
}

/// Reads a secret that is no private key: the grant key.
///
/// # Errors
///
/// When it is missing, open to others, or no key.
pub fn secret(path: &Path) -> Result<SecretKey, Failure> {
    load_secret(path).map_err(refuse_key)
}

/// Reads a public key.
///
/// # Errors
///
/// When it is missing or no key.
pub fn public(path: &Path) -> Result<PublicKey, Failure> {
    rvi::host::load_public(path).map_err(refuse_key)
}

/// The private key of each control node and node; its public half stands beside it.
fn pair_files(platform: &Platform) -> impl Iterator<Item = &Path> {
    let control_nodes = platform.control_nodes.iter().map(|control_node| control_node.key_file.as_path());
    control_nodes.chain(platform.nodes.iter().map(|node| node.key_file.as_path()))
}

/// Makes the grant key if it is missing: a secret of control nodes alone, without a public half.
fn make_grant_key(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if path.exists() {
        return Ok(Vec::new());
    }
    make_folder_of(path)?;
    PrivateKey::create(path).map_err(refuse_key)?;
    let public = PrivateKey::public_path(path);
    fs::remove_file(&public).doing(format_args!("cannot remove {}", public.display()))?;
    Ok(vec![path.to_owned()])
}

fn make_folder_of(path: &Path) -> Result<(), Failure> {
    let Some(folder) = path.parent() else { return Ok(()) };
    fs::create_dir_all(folder).doing(format_args!("cannot make {}", folder.display()))
}

fn refuse_key(error: KeyError) -> Failure {
    let hint = match &error {
        KeyError::Exposed { path, .. } => format!("`chmod 0600 {}`", path.display()),
        KeyError::Form(path) => {
            format!("remove {} and make a new one: `switch-server keys FILE`", path.display())
        }
        _ => "`switch-server keys FILE` makes missing keys".to_owned(),
    };
    Failure::usage(&error).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(folder: &Path) -> Platform {
        let text = crate::demo::PLATFORM;
        Platform::parse(text, &folder.join("demo.toml")).unwrap()
    }

    #[test]
    fn missing_keys_are_made_once_and_never_changed() {
        let dir = tempfile::tempdir().unwrap();
        let platform = platform(dir.path());
        assert!(check_present(&platform).unwrap_err().hint.unwrap().contains("switch-server keys"));
        let made = make_missing(&platform).unwrap();
        assert_eq!(made.len(), 1 + 2 * (platform.nodes.len() + platform.control_nodes.len()));
        check_present(&platform).unwrap();
        let key = private(&platform.nodes[0].key_file).unwrap();
        let grant_key = secret(&platform.grant_key_file).unwrap();
        assert!(make_missing(&platform).unwrap().is_empty());
        assert_eq!(secret(&platform.grant_key_file).unwrap(), grant_key);
        assert_eq!(private(&platform.nodes[0].key_file).unwrap().public(), key.public());
        let public_file = platform.nodes[0].public_key_file();
        fs::remove_file(&public_file).unwrap();
        assert_eq!(make_missing(&platform).unwrap(), std::slice::from_ref(&public_file));
        assert_eq!(public(&public_file).unwrap(), key.public());
    }
}
