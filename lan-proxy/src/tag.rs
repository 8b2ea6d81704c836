//! 802.1Q tags: whose a frame from outside is, and how one that goes outside is marked.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use vlan_core::DropReason;
use vlan_core::checksum::word;
use vlan_core::counters::DropCounters;
use vlan_core::ethernet::{ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN};
use vlan_core::wire::Vnet;

/// Octets of a tag.
pub(crate) const TAG_LEN: usize = 4;
/// Where a tag stands: behind the two addresses.
const TAG_AT: usize = 12;

/// An 802.1Q VLAN id that a tag may name: 1 to 4094 (IEEE 802.1Q-2018, table 9-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vid(u16);

impl Vid {
    /// The largest.
    pub const MAX: u16 = 4094;

    /// The id `number`, if it is one.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number >= 1 && number <= Self::MAX { Some(Self(number)) } else { None }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Vid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// True for frames with a tag, of a customer or a provider.
pub(crate) const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN)
}

/// Puts the tag of an uplink into an untagged frame, and moves what its state points at.
//= spec/uplink.md#tags
//# A frame that goes outside MUST have the 802.1Q tag of its LAN's uplink and no other, or none where the uplink has none.
pub(crate) fn insert(vid: Option<Vid>, frame: &mut Vec<u8>, vnet: Vnet) -> Vnet {
    let Some(vid) = vid else { return vnet };
    let [a, b] = ETHERTYPE_VLAN.to_be_bytes();
    let [c, d] = vid.0.to_be_bytes();
    frame.splice(TAG_AT..TAG_AT, [a, b, c, d]);
    behind_a_tag(vnet)
}

/// The state of a frame that has got a tag.
pub(crate) fn behind_a_tag(vnet: Vnet) -> Vnet {
    let moved = |at: u16| if at == 0 { 0 } else { at.saturating_add(TAG_LEN as u16) };
    Vnet { csum_start: moved(vnet.csum_start), hdr_len: moved(vnet.hdr_len), ..vnet }
}

/// Which uplinks share a device: one for each tag, and one without.
///
/// What an uplink is called is the caller's business, such as its place in a list.
#[derive(Clone, Debug, Default)]
pub struct Trunk {
    untagged: Option<u16>,
    tagged: BTreeMap<Vid, u16>,
    drops: DropCounters,
}

/// Why an uplink was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrunkError {
    /// Another uplink of the device has the tag, or has none either.
    Taken {
        /// What the other one is called.
        by: u16,
    },
}

impl fmt::Display for TrunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { by } => write!(f, "uplink {by} of the device has the same tag"),
        }
    }
}

impl core::error::Error for TrunkError {}

impl Trunk {
    /// Gives `uplink` the frames with the tag `vid`, or those without one.
    ///
    /// # Errors
    /// When another uplink gets them.
    pub fn add(&mut self, vid: Option<Vid>, uplink: u16) -> Result<(), TrunkError> {
        let taken = match vid {
            None => self.untagged,
            Some(vid) => self.tagged.get(&vid).copied(),
        };
        if let Some(by) = taken {
            return Err(TrunkError::Taken { by });
        }
        match vid {
            None => self.untagged = Some(uplink),
            Some(vid) => _ = self.tagged.insert(vid, uplink),
        }
        Ok(())
    }

    /// Takes all uplinks away; what was counted stays.
    pub fn clear(&mut self) {
        self.untagged = None;
        self.tagged.clear();
    }

    /// Takes the tag off a frame from outside, in place, and says whose it is: the uplink, the frame's state and the frame.
    ///
    /// # Errors
    /// With the reason why it is dropped, which has been counted.
    pub fn untag<'f>(
        &mut self,
        vnet: &Vnet,
        frame: &'f mut [u8],
    ) -> Result<(u16, Vnet, &'f mut [u8]), DropReason> {
        match self.place(vnet, frame) {
            Ok((uplink, vnet, at)) => {
                if at > 0 {
                    frame.copy_within(..TAG_AT, at);
                }
                Ok((uplink, vnet, &mut frame[at..]))
            }
            Err(reason) => {
                self.drops.add(reason);
                Err(reason)
            }
        }
    }

    /// Frames that were dropped because no uplink is to have them.
    #[must_use]
    pub fn drops(&self) -> &DropCounters {
        &self.drops
    }

    /// The uplink, the state without the tag, and how many octets the frame becomes shorter.
    //= spec/uplink.md#which-lan
    //# A frame from outside MUST go to the LAN whose uplink has its tag, without that tag; it MUST be dropped when no LAN has
    //# it or when there is another tag behind it.
    fn place(&self, vnet: &Vnet, frame: &[u8]) -> Result<(u16, Vnet, usize), DropReason> {
        let ethertype = word(frame, TAG_AT).ok_or(DropReason::TooShort)?;
        if !is_tag(ethertype) {
            return Ok((self.untagged.ok_or(DropReason::WrongTag)?, *vnet, 0));
        }
        let inner = word(frame, TAG_AT + TAG_LEN).ok_or(DropReason::TooShort)?;
        let tag = word(frame, TAG_AT + 2).ok_or(DropReason::TooShort)?;
        let uplink = match tag & 0x0fff {
            _ if ethertype != ETHERTYPE_VLAN || is_tag(inner) => None,
            0 => self.untagged,
            number => Vid::new(number).and_then(|vid| self.tagged.get(&vid).copied()),
        };
        let moved = |at: u16| if at == 0 { Some(0) } else { at.checked_sub(TAG_LEN as u16) };
        let (Some(csum_start), Some(hdr_len)) = (moved(vnet.csum_start), moved(vnet.hdr_len)) else {
            return Err(DropReason::Malformed);
        };
        Ok((uplink.ok_or(DropReason::WrongTag)?, Vnet { csum_start, hdr_len, ..*vnet }, TAG_LEN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tags: &[[u8; 4]]) -> Vec<u8> {
        let mut frame = [7; 12].to_vec();
        tags.iter().for_each(|tag| frame.extend_from_slice(tag));
        frame.extend_from_slice(&[8, 0, 1, 2, 3]);
        frame
    }

    fn trunk() -> Trunk {
        let mut trunk = Trunk::default();
        trunk.add(None, 0).unwrap();
        trunk.add(Vid::new(100), 1).unwrap();
        trunk.add(Vid::new(200), 2).unwrap();
        trunk
    }

    #[test]
    fn a_frame_goes_to_the_lan_with_its_tag() {
        //= spec/uplink.md#which-lan
        //= type=test
        //# A frame from outside MUST go to the LAN whose uplink has its tag, without that tag; it MUST be dropped when no LAN has
        //# it or when there is another tag behind it.
        let mut trunk = trunk();
        let mut check = |tags: &[[u8; 4]], expected| {
            let mut octets = frame(tags);
            let taken =
                trunk.untag(&Vnet::default(), &mut octets).map(|(uplink, _, rest)| (uplink, rest.to_vec()));
            assert_eq!(taken, expected, "{tags:?}");
        };
        check(&[], Ok((0, frame(&[]))));
        check(&[[0x81, 0, 0x60, 0]], Ok((0, frame(&[]))));
        check(&[[0x81, 0, 0x20, 100]], Ok((1, frame(&[]))));
        check(&[[0x81, 0, 0, 200]], Ok((2, frame(&[]))));
        for tags in [&[[0x81, 0, 0, 101]][..], &[[0x81, 0, 0x0f, 0xff]], &[[0x88, 0xa8, 0, 100]]] {
            check(tags, Err(DropReason::WrongTag));
        }
        check(&[[0x81, 0, 0, 100], [0x81, 0, 0, 200]], Err(DropReason::WrongTag));
        check(&[[0x81, 0, 0, 0], [0x88, 0xa8, 0, 200]], Err(DropReason::WrongTag));
        assert_eq!(trunk.drops().of(DropReason::WrongTag), 5);
        assert_eq!(trunk.untag(&Vnet::default(), &mut [0x81; 15]).map(|_| ()), Ok(()));
        assert_eq!(
            trunk.untag(&Vnet::default(), &mut frame(&[[0x81, 0, 0, 100]])[..17]).map(|_| ()),
            Err(DropReason::TooShort)
        );
        assert_eq!(trunk.untag(&Vnet::default(), &mut [0; 13]).map(|_| ()), Err(DropReason::TooShort));
        let mut none = Trunk::default();
        assert_eq!(none.untag(&Vnet::default(), &mut frame(&[])).map(|_| ()), Err(DropReason::WrongTag));
    }

    #[test]
    fn a_tag_goes_in_and_out_with_what_the_state_points_at() {
        //= spec/uplink.md#tags
        //= type=test
        //# A frame that goes outside MUST have the 802.1Q tag of its LAN's uplink and no other, or none where the uplink has none.
        let vnet = Vnet { flags: 1, csum_start: 14, csum_offset: 1, ..Vnet::default() };
        let mut octets = frame(&[]);
        assert_eq!((insert(None, &mut octets, vnet), &octets), (vnet, &frame(&[])));
        let moved = insert(Vid::new(200), &mut octets, vnet);
        assert_eq!((moved.csum_start, moved.hdr_len), (18, 0));
        assert_eq!(octets, frame(&[[0x81, 0, 0, 200]]));
        let (uplink, back, rest) = trunk().untag(&moved, &mut octets).unwrap();
        assert_eq!((uplink, back, &*rest), (2, vnet, &frame(&[])[..]));
        let inside_the_tag = Vnet { csum_start: 3, ..vnet };
        let refused = trunk().untag(&inside_the_tag, &mut frame(&[[0x81, 0, 0, 200]])).map(|_| ());
        assert_eq!(refused, Err(DropReason::Malformed));
    }

    #[test]
    fn a_tag_has_one_uplink() {
        let mut trunk = trunk();
        assert_eq!(trunk.add(Vid::new(100), 5), Err(TrunkError::Taken { by: 1 }));
        assert_eq!(trunk.add(None, 5), Err(TrunkError::Taken { by: 0 }));
        assert_eq!((Vid::new(0), Vid::new(4095)), (None, None));
        assert_eq!(Vid::new(4094).map(Vid::number), Some(4094));
    }
}
