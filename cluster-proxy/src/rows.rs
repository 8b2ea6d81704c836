//! Rows: in which order the servers of a service are asked, by weighted rendezvous (Thaler, Ravishankar, 1998; with weights:
//! Schindelhauer, Schomaker, 2005).

use alloc::boxed::Box;

use crate::config::ServerConfig;
use crate::hash::{self, HashKey};

/// The place of a server in its service's configuration.
pub(crate) type Place = u16;

/// Bits behind the point of a logarithm.
const POINT: u32 = 32;
/// Steps between two powers of two in the table of logarithms, as a power of two: straight lines between them are wrong by
/// less than 2^-22.
const STEPS: u32 = 10;

/// The order of servers in each row, the first two of it looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    first_two: Box<[[Place; 2]]>,
    mask: u64,
}

impl Rows {
    /// Works out `count` rows, a power of two.
    //= spec/cluster.md#rows
    //# The rows of a service MUST follow from the key, the rows' number, the servers' node numbers and their weights alone, whatever the servers' order.
    pub fn new(key: &HashKey, count: u32, servers: &[ServerConfig]) -> Self {
        let first_two = (0..count).map(|row| first_two(key, row, servers)).collect();
        Self { first_two, mask: u64::from(count) - 1 }
    }

    /// The row that a hash names.
    #[inline]
    pub fn row_of(&self, hash: u64) -> u32 {
        // Bits between those that lines and tags are taken from.
        ((hash >> 16) & self.mask) as u32
    }

    /// The first two servers of a row; twice the same where there is only one.
    #[inline]
    pub fn first_two(&self, row: u32) -> [Place; 2] {
        self.first_two.get(row as usize).copied().unwrap_or_default()
    }

    /// The first two servers of each row.
    pub fn iter(&self) -> impl Iterator<Item = [Place; 2]> + '_ {
        self.first_two.iter().copied()
    }

    /// The first two servers of a row for which `is_wanted` holds.
    pub fn first_two_of(
        key: &HashKey,
        row: u32,
        servers: &[ServerConfig],
        is_wanted: impl Fn(Place) -> bool,
    ) -> [Option<Place>; 2] {
        let mut first: [Option<Score>; 2] = [None; 2];
        for (place, server) in servers.iter().enumerate().filter(|(place, _)| is_wanted(*place as Place)) {
            let score = Score::new(key, row, place as Place, server);
            let before = |other: Option<Score>| other.is_none_or(|other| score.is_before(&other));
            if before(first[0]) {
                first = [Some(score), first[0]];
            } else if before(first[1]) {
                first[1] = Some(score);
            }
        }
        first.map(|score| score.map(|score| score.place))
    }
}

fn first_two(key: &HashKey, row: u32, servers: &[ServerConfig]) -> [Place; 2] {
    let [first, second] = Rows::first_two_of(key, row, servers, |_| true);
    let first = first.unwrap_or_default();
    [first, second.unwrap_or(first)]
}

/// What a server has drawn in a row; the least comes first.
//= spec/cluster.md#least-change
//# When a server is added, removed or changes its weight, the order of the other servers in each row MUST stay as it is.
#[derive(Clone, Copy, Debug)]
struct Score {
    /// Minus the logarithm of a number drawn evenly from 0 to 1: an exponential variable before it is divided by the weight.
    cost: u64,
    weight: u64,
    node: u16,
    place: Place,
}

impl Score {
    fn new(key: &HashKey, row: u32, place: Place, server: &ServerConfig) -> Self {
        let drawn = hash::of_score(key, server.node.0, row);
        let cost = (64 << POINT) - log2(drawn | 1);
        Self { cost, weight: u64::from(server.weight), node: server.node.0, place }
    }

    fn is_before(&self, other: &Self) -> bool {
        let (own, others) = (self.cost * other.weight, other.cost * self.weight);
        (own, self.node) < (others, other.node)
    }
}

/// The binary logarithm of a number above zero, with [`POINT`] bits behind the point.
fn log2(number: u64) -> u64 {
    let whole = number.ilog2();
    // The number from 1 to 2 that is left, without its one.
    let rest = (number << (63 - whole)) << 1;
    let step = (rest >> (64 - STEPS)) as usize;
    let behind = (rest << STEPS) >> 32;
    let (from, to) = (LOGARITHMS[step], LOGARITHMS[step + 1]);
    (u64::from(whole) << POINT) + from + (((to - from) * behind) >> 32)
}

const LOGARITHMS: [u64; (1 << STEPS) + 1] = logarithms();

/// The logarithms of the numbers from 1 to 2 in even steps, bit by bit: a square has twice the logarithm.
const fn logarithms() -> [u64; (1 << STEPS) + 1] {
    let mut table = [0; (1 << STEPS) + 1];
    let mut step = 0;
    while step < 1 << STEPS {
        let mut number = (1_u128 << 62) + ((step as u128) << (62 - STEPS));
        let mut bit = 0;
        while bit < POINT {
            number = (number * number) >> 62;
            table[step] <<= 1;
            if number >= 1 << 63 {
                number >>= 1;
                table[step] |= 1;
            }
            bit += 1;
        }
        step += 1;
    }
    table[step] = 1 << POINT;
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use vlan_core::NodeNumber;
    use vlan_core::random::Random;
    use vlan_core::server::MemberSlot;

    const KEY: HashKey = HashKey([11, 22]);
    const ROWS: u32 = 65_536;

    fn server(node: u16, weight: u16) -> ServerConfig {
        ServerConfig { slot: MemberSlot(node), node: NodeNumber(node), weight }
    }

    /// All nodes of a row in their order.
    fn order(row: u32, servers: &[ServerConfig]) -> Vec<u16> {
        let mut left: Vec<_> = (0..servers.len() as Place).collect();
        let mut order = Vec::new();
        while let [Some(place), _] = Rows::first_two_of(&KEY, row, servers, |place| left.contains(&place)) {
            left.retain(|other| *other != place);
            order.push(servers[usize::from(place)].node.0);
        }
        order
    }

    #[test]
    fn rows_are_the_same_whoever_works_them_out() {
        //= spec/cluster.md#rows
        //= type=test
        //# The rows of a service MUST follow from the key, the rows' number, the servers' node numbers and their weights alone, whatever the servers' order.
        let servers: Vec<_> = (1..9).map(|node| server(node, node)).collect();
        let mut others: Vec<_> = servers.iter().rev().copied().collect();
        others.iter_mut().for_each(|server| server.slot.0 += 1000);
        let (one, other) = (Rows::new(&KEY, 1024, &servers), Rows::new(&KEY, 1024, &others));
        let nodes = |rows: &Rows, servers: &[ServerConfig], row| {
            rows.first_two(row).map(|place| servers[usize::from(place)].node)
        };
        assert!((0..1024).all(|row| nodes(&one, &servers, row) == nodes(&other, &others, row)));
        let with_another_key = Rows::new(&HashKey([1, 2]), 1024, &servers);
        let same = (0..1024).filter(|row| one.first_two(*row) == with_another_key.first_two(*row)).count();
        assert!(same < 100, "{same} rows of 1024 do not depend on the key");
        assert!((0..1024).all(|row| nodes(&one, &servers, row)[..]
            == order(row, &servers)[..2].iter().map(|n| NodeNumber(*n)).collect::<Vec<_>>()));
    }

    #[test]
    fn a_change_moves_nothing_but_the_server_that_changes() {
        //= spec/cluster.md#least-change
        //= type=test
        //# When a server is added, removed or changes its weight, the order of the other servers in each row MUST stay as it is.
        let before: Vec<_> = (1..8).map(|node| server(node, node)).collect();
        let without = |order: Vec<u16>| -> Vec<u16> { order.into_iter().filter(|node| *node != 4).collect() };
        let removed: Vec<_> = before.iter().filter(|server| server.node.0 != 4).copied().collect();
        let heavier: Vec<_> =
            before.iter().map(|s| if s.node.0 == 4 { server(4, 200) } else { *s }).collect();
        for row in 0..500 {
            let left = without(order(row, &before));
            assert_eq!((&left, &left), (&order(row, &removed), &without(order(row, &heavier))));
        }
    }

    #[test]
    fn servers_get_their_shares() {
        //= spec/cluster.md#hash
        //= type=test
        //# A service that balances by hash MUST choose the first server of the flow's row that takes new flows.
        let share = |servers: &[ServerConfig], place: Place, of: usize| {
            let rows = Rows::new(&KEY, ROWS, servers);
            (0..ROWS).filter(|row| rows.first_two(*row)[of] == place).count() as f64 / f64::from(ROWS)
        };
        let equal: Vec<_> = (1..5).map(|node| server(node, 1)).collect();
        let weighted = [server(1, 1), server(2, 2), server(3, 5), server(4, 8)];
        let far = [server(1, 1), server(2, 256)];
        for place in 0..4 {
            for of in 0..2 {
                let equal = share(&equal, place, of);
                assert!((equal - 0.25).abs() < 0.0125, "server {place} has {equal} of the rows");
            }
            let (got, due) = (share(&weighted, place, 0), [1., 2., 5., 8.][usize::from(place)] / 16.);
            assert!((got - due).abs() < 0.006, "server {place} has {got} instead of {due}");
        }
        let least = share(&far, 0, 0) * 257.;
        assert!((0.7..1.3).contains(&least), "the light one has {least} of its share");
    }

    #[test]
    fn logarithms_are_right() {
        assert_eq!([1, 2, 1 << 63].map(log2), [0, 1 << POINT, 63 << POINT]);
        let mut random = Random::new(1);
        for _ in 0..10_000 {
            let number = random.next_u64() >> random.below(60) | 1;
            // Exact as the host has it; of a straight line's error the worst is 1.72e-7.
            let (got, right) = (log2(number) as f64 / (1_u64 << POINT) as f64, (number as f64).log2());
            assert!((got - right).abs() < 2e-7, "{number}: {got}, not {right}");
        }
    }
}
