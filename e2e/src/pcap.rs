//! Files of captured frames, as tcpreplay reads them (draft-ietf-opsawg-pcap).

/// A file with these Ethernet frames, in microseconds one behind the other.
#[must_use]
pub fn file_of(frames: &[Vec<u8>]) -> Vec<u8> {
    const SNAP_LEN: u32 = 65_536;
    const ETHERNET: u32 = 1;
    let mut file = Vec::new();
    // Magic number, version 2.4, two fields of 0, the longest frame and the kind of link.
    for word in [0xa1b2_c3d4, 2 | 4 << 16, 0, 0, SNAP_LEN, ETHERNET] {
        file.extend_from_slice(&u32::to_le_bytes(word));
    }
    for (micros, frame) in (0_u32..).zip(frames) {
        let len = frame.len() as u32;
        for word in [0, micros, len, len] {
            file.extend_from_slice(&u32::to_le_bytes(word));
        }
        file.extend_from_slice(frame);
    }
    file
}
