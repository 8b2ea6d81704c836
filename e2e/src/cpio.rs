//! Archives as the kernel takes them for its first file system (Documentation/driver-api/early-userspace/buffer-format.rst).

/// An archive in the making.
#[derive(Default)]
pub struct Archive {
    octets: Vec<u8>,
    files: u32,
}

impl Archive {
    /// Adds a folder; those that it is in come before it.
    pub fn add_folder(&mut self, name: &str) {
        self.add(name, 0o040_755, &[]);
    }

    /// Adds a file that can be executed.
    pub fn add_program(&mut self, name: &str, content: &[u8]) {
        self.add(name, 0o100_755, content);
    }

    /// The whole archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.octets
    }

    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.files += 1;
        // Number, mode, owner, group, links, time, length, two devices of two numbers, length of the name, sum.
        let fields =
            [self.files, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        self.octets.extend_from_slice(b"070701");
        for field in fields {
            self.octets.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.octets.extend_from_slice(name.as_bytes());
        self.octets.push(0);
        self.pad();
        self.octets.extend_from_slice(content);
        self.pad();
    }

    /// Headers and contents begin at multiples of four octets.
    fn pad(&mut self) {
        self.octets.resize(self.octets.len().next_multiple_of(4), 0);
    }
}
