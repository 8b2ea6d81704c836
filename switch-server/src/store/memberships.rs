//! What tells one membership from every other, also from a former one of the same node on the same LAN: the number of its
//! interface and its MAC.

use std::collections::BTreeSet;

use redb::{ReadableTable, Table, WriteTransaction};
use vlan_core::limits::VIFS_PER_NODE_MAX;
use vlan_core::{ControlNodeSerial, LanId, MacAddress, NodeNumber, VifNumber};

use super::{ASSIGNMENTS, COUNTERS, FIRST_COUNT, LAST_NUMBERS, NUMBERS, StoreError, mac_from_bits, refused};

/// No node has this number.
const UPLINK: NodeNumber = NodeNumber(0);

/// A membership as the platform file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Its node.
    pub node: NodeNumber,
    /// Its LAN.
    pub lan: LanId,
    /// The MAC that the file gives it; the counter does where it gives none.
    pub mac: Option<MacAddress>,
}

/// What a membership has for as long as it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The number of its interface in its node; 0 of an uplink.
    pub vif: VifNumber,
    /// Its MAC.
    pub mac: MacAddress,
}

/// The identity of each membership in `wanted`, which are all there are; a new one gets what none had before it.
//= spec/control-node.md#memberships
//# A member that is added to a LAN, also one that has been a member of it before, MUST get a MAC that was never given and the
//# number of an interface that its node has none of and has not had for the longest time.
pub(super) fn identify(
    transaction: &WriteTransaction,
    wanted: &[Membership],
    serial: ControlNodeSerial,
) -> Result<Vec<Identity>, StoreError> {
    let mut numbers = transaction.open_table(NUMBERS).map_err(refused("read the interfaces"))?;
    let mut macs = transaction.open_table(ASSIGNMENTS).map_err(refused("read the MACs"))?;
    forget_former(&mut numbers, wanted)?;
    forget_former(&mut macs, wanted)?;
    let mut last = transaction.open_table(LAST_NUMBERS).map_err(refused("read the interfaces"))?;
    let macs = identify_macs(transaction, &mut macs, wanted, serial)?;
    let identity = |(membership, mac): (&Membership, MacAddress)| {
        let vif = match membership.node {
            UPLINK => VifNumber(0),
            _ => number_of(&mut numbers, &mut last, membership)?,
        };
        Ok(Identity { vif, mac })
    };
    wanted.iter().zip(macs).map(identity).collect()
}

/// Membership that are in use no more have no identity: when they come again, they get others.
fn forget_former<V: redb::Value + 'static>(
    table: &mut Table<'_, (u16, u16), V>,
    wanted: &[Membership],
) -> Result<(), StoreError> {
    let wanted: BTreeSet<(u16, u16)> = wanted.iter().map(Membership::key).collect();
    table.retain(|key, _| wanted.contains(&key)).map_err(refused("forget memberships"))
}

fn identify_macs(
    transaction: &WriteTransaction,
    assignments: &mut Table<'_, (u16, u16), u64>,
    wanted: &[Membership],
    serial: ControlNodeSerial,
) -> Result<Vec<MacAddress>, StoreError> {
    let fixed: Vec<MacAddress> = wanted.iter().filter_map(|membership| membership.mac).collect();
    let mut counters = transaction.open_table(COUNTERS).map_err(refused("read the counter"))?;
    let stored = counters.get(serial.0).map_err(refused("read the counter"))?.map(|c| c.value());
    let mut counter = stored.unwrap_or(FIRST_COUNT);
    let mut macs = Vec::with_capacity(wanted.len());
    for membership in wanted {
        let held = assignments.get(membership.key()).map_err(refused("read the MACs"))?.map(|m| m.value());
        let mac = match (membership.mac, held.and_then(mac_from_bits)) {
            (Some(mac), _) => mac,
            (None, Some(mac)) if fixed.contains(&mac) => {
                return Err(StoreError::MacTaken { mac, node: membership.node, lan: membership.lan });
            }
            (None, Some(mac)) => mac,
            (None, None) => {
                let mac = next_mac(serial, &mut counter, &fixed)?;
                assignments.insert(membership.key(), mac.to_bits()).map_err(refused("write a MAC"))?;
                mac
            }
        };
        macs.push(mac);
    }
    counters.insert(serial.0, counter).map_err(refused("write the counter"))?;
    Ok(macs)
}

/// Takes the counter's next value whose MAC is not in `fixed`.
pub(super) fn next_mac(
    serial: ControlNodeSerial,
    counter: &mut u32,
    fixed: &[MacAddress],
) -> Result<MacAddress, StoreError> {
    loop {
        let mac =
            MacAddress::from_counter(serial, *counter).ok_or(StoreError::CounterExhausted { serial })?;
        *counter += 1;
        if !fixed.contains(&mac) {
            return Ok(mac);
        }
    }
}

/// The number of a membership's interface: the one that it has, or the next in the round that its node has no interface of.
fn number_of(
    numbers: &mut Table<'_, (u16, u16), u16>,
    last: &mut Table<'_, u16, u16>,
    membership: &Membership,
) -> Result<VifNumber, StoreError> {
    let reading = "read the interfaces";
    if let Some(number) = numbers.get(membership.key()).map_err(refused(reading))? {
        return Ok(VifNumber(number.value()));
    }
    let node = membership.node;
    let of_node = numbers.range((node.0, 0)..=(node.0, u16::MAX)).map_err(refused(reading))?;
    let taken = of_node.map(|row| row.map(|(_, number)| number.value()));
    let taken: BTreeSet<u16> = taken.collect::<Result<_, _>>().map_err(refused(reading))?;
    let before = last.get(node.0).map_err(refused(reading))?.map_or(0, |number| number.value());
    let most = VIFS_PER_NODE_MAX as u16;
    let mut round = (0..most).map(|step| (before + step) % most + 1);
    let number = round.find(|number| !taken.contains(number)).ok_or(StoreError::NoInterfaceLeft { node })?;
    numbers.insert(membership.key(), number).map_err(refused("write an interface"))?;
    last.insert(node.0, number).map_err(refused("write an interface"))?;
    Ok(VifNumber(number))
}

impl Membership {
    /// That of a LAN's uplink, which has no node, for its system MAC.
    //= spec/uplink.md#the-system-mac-of-an-uplink
    //# The system MAC of a LAN MUST come from the control node's counter, and stay the LAN's for as long as it has an uplink in
    //# filtered mode.
    #[must_use]
    pub const fn of_uplink(lan: LanId) -> Self {
        Self { node: UPLINK, lan, mac: None }
    }

    fn key(&self) -> (u16, u16) {
        (self.node.0, self.lan.0)
    }
}
