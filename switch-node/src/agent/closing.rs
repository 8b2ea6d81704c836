//! Devices that are being taken away. The kernel makes whoever closes a TAP wait until nothing uses it any more, 15 to 25 ms on a
//! machine at rest, and the pump carries the frames of all other interfaces.

use std::thread::{Builder, JoinHandle};

use crate::agent::tap::Tap;

/// The devices that threads of their own are closing, by name.
#[derive(Default)]
pub(super) struct Closing(Vec<(String, JoinHandle<()>)>);

impl Closing {
    /// Takes the device `name` away.
    pub fn close(&mut self, name: &str, tap: Tap) {
        self.0.retain(|(_, thread)| !thread.is_finished());
        // Where there can be no further thread, the device is closed here, with the closure.
        if let Ok(thread) = Builder::new().name("closes a TAP".to_owned()).spawn(move || drop(tap)) {
            self.0.push((name.to_owned(), thread));
        }
    }

    /// True while the kernel may still have a device `name` that was closed here: no other one of that name can be made then.
    pub fn is_closing(&mut self, name: &str) -> bool {
        self.0.retain(|(_, thread)| !thread.is_finished());
        self.0.iter().any(|(closing, _)| closing == name)
    }
}
