//! What may stand only once in a platform: names, numbers, addresses, paths. Remembers where each was first.

use std::collections::BTreeMap;

/// What kind of thing must be unique; the text says it in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Fabric,
    Process,
    NodeNumber,
    Serial,
    KeyFile,
    StateDir,
    Socket,
    TcpAddress,
    UdpAddress,
    LanName,
    LanId,
    Member,
    Interface,
    Mac,
    Address,
    Outside,
}

impl Kind {
    /// The kind in words, as in "the WORDS "web1" is already used".
    pub fn words(self) -> &'static str {
        match self {
            Self::Fabric => "fabric name",
            Self::Process => "name",
            Self::NodeNumber => "node number",
            Self::Serial => "serial",
            Self::KeyFile => "key file",
            Self::StateDir => "state directory",
            Self::Socket => "socket",
            Self::TcpAddress => "TCP address",
            Self::UdpAddress => "UDP address",
            Self::LanName => "LAN name",
            Self::LanId => "LAN id",
            Self::Member => "member",
            Self::Interface => "interface name",
            Self::Mac => "MAC address",
            Self::Address => "address",
            Self::Outside => "tag and device",
        }
    }
}

/// Everything unique so far, by kind, scope (a LAN, a node or 0) and text.
#[derive(Debug, Default)]
pub struct Registry {
    first: BTreeMap<(Kind, usize, String), usize>,
}

impl Registry {
    /// Claims `text` for the place at `offset`.
    ///
    /// # Errors
    ///
    /// The offset of the place that claimed it first.
    pub fn claim(&mut self, kind: Kind, scope: usize, text: String, offset: usize) -> Result<(), usize> {
        match self.first.entry((kind, scope, text)) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(offset);
                Ok(())
            }
            std::collections::btree_map::Entry::Occupied(entry) => Err(*entry.get()),
        }
    }
}
