//! The demo's books: every numbered datagram that was sent and every one that arrived, and what follows from
//! them. Nothing is decided while traffic runs; the counts are made from the whole record.

use std::time::Duration;

/// Index of a flow: one direction of one pair of nodes over one IP version.
pub type FlowIndex = usize;

/// One direction of one pair of nodes over one IP version.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    /// Place of the sending node in the platform file.
    pub from: usize,
    /// Place of the receiving node.
    pub to: usize,
    /// True for IPv6.
    pub is_ipv6: bool,
    /// When each datagram was sent, by number, in microseconds of the demo's clock.
    pub sent: Vec<u32>,
    /// The number of each datagram that arrived, in order of arrival.
    pub arrived: Vec<u32>,
}

/// A span of the demo's clock in which what some flows carry is counted apart.
#[derive(Clone, Debug)]
pub struct Apart {
    /// The node that was dead, by its place; `None` for the control node, which concerns every pair that had no
    /// direct RVI.
    pub node: Option<usize>,
    /// Pairs that went direct, lower place first: not concerned when the control node is dead.
    pub direct_pairs: Vec<(usize, usize)>,
    /// From here on; a little before the kill, for what was under way.
    pub from_us: u32,
    /// Up to here; `None` while it lasts.
    pub to_us: Option<u32>,
}

impl Apart {
    /// True when a datagram that this flow sent at `sent_us` is counted apart.
    #[must_use]
    pub fn concerns(&self, flow: &Flow, sent_us: u32) -> bool {
        let pair = (flow.from.min(flow.to), flow.from.max(flow.to));
        let is_flow = match self.node {
            Some(node) => pair.0 == node || pair.1 == node,
            None => !self.direct_pairs.contains(&pair),
        };
        is_flow && sent_us >= self.from_us && self.to_us.is_none_or(|to| sent_us < to)
    }
}

/// What became of the datagrams of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sent.
    pub sent: u64,
    /// Arrived at least once.
    pub received: u64,
    /// Never arrived, of those that had time to.
    pub lost: u64,
    /// Further arrivals of one that had arrived.
    pub duplicated: u64,
    /// First arrivals after one with a higher number (RFC 4737, section 3.3).
    pub reordered: u64,
}

impl Tally {
    /// True when nothing was lost, duplicated or reordered.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.reordered == 0
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
    }
}

/// The two classes of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowTally {
    /// Between nodes that both lived, with a way between them: must be clean.
    pub living: Tally,
    /// To or from a dead node, or with no way while no control node lived.
    pub apart: Tally,
}

/// How long a datagram may be on its way before the live table calls it lost.
pub const LATE: Duration = Duration::from_millis(500);

/// Makes the counts of `flow` as of `now_us`. A datagram sent less than [`LATE`] ago that has not arrived is
/// not lost yet.
#[must_use]
pub fn tally(flow: &Flow, apart: &[Apart], now_us: u32) -> FlowTally {
    let is_apart = |sent_us: u32| apart.iter().any(|span| span.concerns(flow, sent_us));
    let mut result = FlowTally::default();
    let mut seen = vec![false; flow.sent.len()];
    let mut highest = None;
    for &number in &flow.arrived {
        let Some(&sent_us) = flow.sent.get(number as usize) else { continue };
        let class = if is_apart(sent_us) { &mut result.apart } else { &mut result.living };
        if std::mem::replace(&mut seen[number as usize], true) {
            class.duplicated += 1;
            continue;
        }
        class.received += 1;
        if highest.is_some_and(|highest| number < highest) {
            class.reordered += 1;
        } else {
            highest = Some(number);
        }
    }
    let late_us = u32::try_from(LATE.as_micros()).unwrap_or(u32::MAX);
    for (&sent_us, &seen) in flow.sent.iter().zip(&seen) {
        let class = if is_apart(sent_us) { &mut result.apart } else { &mut result.living };
        class.sent += 1;
        class.lost += u64::from(!seen && now_us.saturating_sub(sent_us) >= late_us);
    }
    result
}

/// True when a datagram of `flow` that was sent at `since_us` or later has arrived.
#[must_use]
pub fn has_arrived_since(flow: &Flow, since_us: u32) -> bool {
    flow.arrived
        .iter()
        .rev()
        .any(|&number| flow.sent.get(number as usize).is_some_and(|&sent| sent >= since_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u32 = 10_000_000;

    fn flow(arrived: &[u32]) -> Flow {
        Flow { from: 0, to: 2, is_ipv6: false, sent: vec![100, 200, 300, 400], arrived: arrived.to_vec() }
    }

    #[test]
    fn what_arrives_once_and_in_order_is_clean() {
        let all = tally(&flow(&[0, 1, 2, 3]), &[], END).living;
        assert_eq!(all, Tally { sent: 4, received: 4, ..Tally::default() });
        assert!(all.is_clean());
    }

    #[test]
    fn loss_duplication_and_reordering_are_told_apart() {
        let all = tally(&flow(&[2, 1, 1]), &[], END).living;
        assert_eq!(all, Tally { sent: 4, received: 2, lost: 2, duplicated: 1, reordered: 1 });
    }

    #[test]
    fn a_datagram_under_way_is_not_lost_yet() {
        assert_eq!(tally(&flow(&[0, 1]), &[], 500).living.lost, 0);
        assert_eq!(tally(&flow(&[0, 1]), &[], END).living.lost, 2);
    }

    #[test]
    fn only_the_flows_of_a_dead_node_and_only_while_it_is_dead_are_counted_apart() {
        let dead = |node| Apart { node: Some(node), direct_pairs: vec![], from_us: 200, to_us: Some(400) };
        let counted = tally(&flow(&[0, 3]), &[dead(2)], END);
        assert_eq!((counted.living.sent, counted.living.lost), (2, 0));
        assert_eq!((counted.apart.sent, counted.apart.lost), (2, 2));
        assert_eq!(tally(&flow(&[0, 3]), &[dead(1)], END).living.lost, 2);
    }

    #[test]
    fn without_a_control_node_only_pairs_that_are_not_direct_are_counted_apart() {
        let dead = |pairs: &[(usize, usize)]| Apart {
            node: None,
            direct_pairs: pairs.to_vec(),
            from_us: 0,
            to_us: None,
        };
        assert_eq!(tally(&flow(&[]), &[dead(&[(0, 2)])], END).living.lost, 4);
        assert_eq!(tally(&flow(&[]), &[dead(&[(0, 1)])], END).living.lost, 0);
    }
}
