//! The TAP devices of a node's interfaces, which are made in its tenant's namespace.

pub use rvi::host::tap::{Tap, TapBuffer, TapError, Written};

use crate::agent::namespace::Namespace;

/// Makes the device `name` in `namespace`, down and without addresses.
///
/// # Errors
/// When the namespace cannot be entered, or the kernel refuses the device or its vnet header.
pub fn create(namespace: &Namespace, name: &str) -> Result<Tap, TapError> {
    namespace.run(|| Ok(Tap::create(name))).unwrap_or_else(|error| Err(TapError::Open(error)))
}
