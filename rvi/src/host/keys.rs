//! Keys: an X25519 pair per node and per control node, in files of one line each.

use core::fmt;
use std::ffi::OsString;
use std::format;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use snow::resolvers::{CryptoResolver, DefaultResolver};
use vlan_core::SecretKey;

use vlan_core::key::{KEY_DIGITS, parse_digits};

use crate::keys::{KEY_LEN, PrivateKey, PublicKey};

/// A key file is read no further than this: the digits and an end of line.
const KEY_FILE_LEN_MAX: u64 = KEY_DIGITS as u64 + 8;

/// A key file is of no use.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyError {
    /// The file could not be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others than the owner may read the private key.
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode's permission bits.
        mode: u32,
    },
    /// The file is not one line of 64 hexadecimal digits.
    Form(PathBuf),
    /// A private key is there already.
    Exists(PathBuf),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "key file {}: {error}", path.display()),
            Self::Exposed { path, mode } => write!(
                f,
                "key file {} can be read by others (mode {mode:04o}): make it 0600, and replace the key if others had access",
                path.display()
            ),
            Self::Form(path) => {
                write!(f, "key file {} is not one line of {KEY_DIGITS} hexadecimal digits", path.display())
            }
            Self::Exists(path) => write!(f, "key file {} exists already", path.display()),
        }
    }
}

impl core::error::Error for KeyError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Reads a public key: a file that [`PrivateKey::create`] wrote beside the private one.
///
/// # Errors
///
/// The file cannot be read or holds something else.
pub fn load_public(path: &Path) -> Result<PublicKey, KeyError> {
    let mut file = File::open(path).map_err(|error| io_error(path, error))?;
    read_key(path, &mut file).map(PublicKey)
}

impl PrivateKey {
    /// Draws a new key from the kernel's random numbers.
    ///
    /// # Panics
    ///
    /// When the kernel has no random numbers.
    #[must_use]
    pub fn generate() -> Self {
        let mut octets = [0; KEY_LEN];
        fill_random(&mut octets);
        Self::from_octets(octets)
    }

    /// Reads a private key.
    ///
    /// # Errors
    ///
    /// The file cannot be read, others may read it too, or it holds something else.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        read_secret(path).map(Self::from_octets)
    }

    /// Makes a key and writes it to `path`, with the public half in `path` + `.pub`. Either file appears whole
    /// or not at all.
    ///
    /// # Errors
    ///
    /// [`KeyError::Exists`] when there is a file at `path`; it stays as it is.
    //= spec/leg-setup.md#keys
    //# A private key's file MUST be created with mode 0600 and MUST NOT replace another.
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        let key = Self::generate();
        let mut digits = hexadecimal(key.octets());
        let temporary = write_temporary(path, 0o600, &digits)?;
        digits.clear();
        // A link, unlike a rename, never replaces.
        let linked = std::fs::hard_link(&temporary, path);
        let _ = std::fs::remove_file(&temporary);
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(KeyError::Exists(path.to_path_buf()));
            }
            linked => linked.map_err(|error| io_error(path, error))?,
        }
        key.write_public(path)?;
        Ok(key)
    }

    /// Where [`PrivateKey::create`] puts the public half of the key at `path`.
    #[must_use]
    pub fn public_path(path: &Path) -> PathBuf {
        let mut public = OsString::from(path);
        public.push(".pub");
        PathBuf::from(public)
    }

    /// Writes the public half to `path` + `.pub`, where `path` is the private key's file; replaces what is there.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write_public(&self, path: &Path) -> Result<(), KeyError> {
        let public = Self::public_path(path);
        let temporary = write_temporary(&public, 0o644, &hexadecimal(&self.public().0))?;
        std::fs::rename(&temporary, &public).map_err(|error| io_error(&public, error))
    }
}

/// Reads a secret that is no private key: a file of the same form, under the same rules.
///
/// # Errors
///
/// The file cannot be read, others may read it too, or it holds something else.
pub fn load_secret(path: &Path) -> Result<SecretKey, KeyError> {
    let mut octets = read_secret(path)?;
    let secret = SecretKey::filled(|key| key.copy_from_slice(&octets));
    octets.fill(0);
    core::hint::black_box(&octets);
    Ok(secret)
}

//= spec/leg-setup.md#keys
//# A private key MUST NOT be used when others than its owner may read or write its file.
fn read_secret(path: &Path) -> Result<[u8; KEY_LEN], KeyError> {
    let mut file = File::open(path).map_err(|error| io_error(path, error))?;
    let metadata = file.metadata().map_err(|error| io_error(path, error))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_path_buf(), mode });
    }
    read_key(path, &mut file)
}

fn io_error(path: &Path, error: io::Error) -> KeyError {
    KeyError::Io { path: path.to_path_buf(), error }
}

/// A line of digits that can be cleared.
struct Digits([u8; KEY_DIGITS + 1]);

impl Digits {
    fn clear(&mut self) {
        self.0.fill(0);
        core::hint::black_box(&self.0);
    }
}

fn hexadecimal(key: &[u8; KEY_LEN]) -> Digits {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut line = [b'\n'; KEY_DIGITS + 1];
    for (pair, octet) in line.chunks_exact_mut(2).zip(key) {
        pair[0] = DIGITS[usize::from(octet >> 4)];
        pair[1] = DIGITS[usize::from(octet & 15)];
    }
    Digits(line)
}

fn read_key(path: &Path, file: &mut File) -> Result<[u8; KEY_LEN], KeyError> {
    let mut text = std::vec::Vec::with_capacity(KEY_FILE_LEN_MAX as usize + 1);
    file.take(KEY_FILE_LEN_MAX + 1).read_to_end(&mut text).map_err(|error| io_error(path, error))?;
    let line = text.trim_ascii_end();
    let key = parse_digits(line).ok_or_else(|| KeyError::Form(path.to_path_buf()));
    text.fill(0);
    core::hint::black_box(&text);
    key
}

/// Writes a line to a new file beside `path`, down to the disk.
fn write_temporary(path: &Path, mode: u32, line: &Digits) -> Result<PathBuf, KeyError> {
    let mut name = OsString::from(path);
    name.push(format!(".{:016x}.new", random_u64()));
    let temporary = PathBuf::from(name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let written = options.open(&temporary).and_then(|mut file| {
        file.write_all(&line.0)?;
        file.sync_all()
    });
    match written {
        Ok(()) => Ok(temporary),
        Err(error) => {
            let _ = std::fs::remove_file(&temporary);
            Err(io_error(path, error))
        }
    }
}

fn fill_random(octets: &mut [u8]) {
    let mut source = DefaultResolver.resolve_rng().expect("the handshake library has a random source");
    source.try_fill_bytes(octets).expect("the kernel has random numbers");
}

/// 32 octets from the kernel's random numbers.
///
/// # Panics
///
/// When the kernel has no random numbers.
#[must_use]
pub fn random_octets() -> [u8; KEY_LEN] {
    let mut octets = [0; KEY_LEN];
    fill_random(&mut octets);
    octets
}

/// Draws a number from the kernel's random numbers: for process ids and seeds.
///
/// # Panics
///
/// When the kernel has no random numbers.
#[must_use]
pub fn random_u64() -> u64 {
    let mut octets = [0; 8];
    fill_random(&mut octets);
    u64::from_le_bytes(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};

    fn fresh(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("weft-{name}-{:016x}", random_u64()))
    }

    fn remove(path: &Path) {
        let _ = std::fs::remove_file(path);
        let _ = std::fs::remove_file(PrivateKey::public_path(path));
    }

    #[test]
    fn a_created_key_is_private_and_loads_again_and_is_not_replaced() {
        //= spec/leg-setup.md#keys
        //= type=test
        //# A private key's file MUST be created with mode 0600 and MUST NOT replace another.
        let path = fresh("key");
        let key = PrivateKey::create(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let loaded = PrivateKey::load(&path).unwrap();
        assert_eq!(loaded.octets(), key.octets());
        assert_eq!(load_secret(&path).unwrap().octets(), key.octets());
        assert_eq!(load_public(&PrivateKey::public_path(&path)).unwrap(), key.public());
        assert!(matches!(PrivateKey::create(&path), Err(KeyError::Exists(_))));
        assert_eq!(PrivateKey::load(&path).unwrap().octets(), key.octets());
        let name = path.file_name().unwrap().to_str().unwrap();
        let left = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
        let mut left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with(name));
        assert!(left.all(|entry| !entry.file_name().to_string_lossy().ends_with(".new")));
        remove(&path);
    }

    #[test]
    fn a_private_key_that_others_can_read_is_refused() {
        //= spec/leg-setup.md#keys
        //= type=test
        //# A private key MUST NOT be used when others than its owner may read or write its file.
        let path = fresh("exposed");
        PrivateKey::create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o644] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = PrivateKey::load(&path).unwrap_err();
            assert!(matches!(error, KeyError::Exposed { mode: seen, .. } if seen == mode));
            assert!(matches!(load_secret(&path), Err(KeyError::Exposed { mode: seen, .. }) if seen == mode));
            assert!(error.to_string().contains("0600"), "{error}");
        }
        remove(&path);
    }

    #[test]
    fn a_file_that_is_not_a_key_is_refused() {
        let path = fresh("form");
        let digits = "ab".repeat(KEY_LEN);
        let longer = format!("{digits}00");
        let two_lines = format!("{digits}\n{digits}\n");
        let wrong = format!("{}g", &digits[1..]);
        for text in ["", "\n", &digits[2..], &longer, &two_lines, &wrong, &"0".repeat(1 << 20)] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(load_public(&path), Err(KeyError::Form(_))));
        }
        std::fs::write(&path, format!("{}\n", digits.to_uppercase())).unwrap();
        assert_eq!(load_public(&path).unwrap().to_string(), digits);
        assert_eq!(digits.parse(), Ok(PublicKey([0xab; KEY_LEN])));
        remove(&path);
        assert!(matches!(load_public(&path), Err(KeyError::Io { .. })));
    }

    #[test]
    fn a_private_key_has_one_public_key_and_never_shows_itself() {
        let key = PrivateKey::generate();
        assert_eq!(key.public(), key.clone().public());
        assert_ne!(key.public(), PrivateKey::generate().public());
        let digits = String::from_utf8(hexadecimal(key.octets()).0.to_vec()).unwrap();
        assert!(!format!("{key:?}").contains(digits.trim_end()));
    }
}
