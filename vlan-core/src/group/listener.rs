//! The driver's side of multicast: who behind an interface has joined which groups.
//!
//! It takes the memberships of the interface's own stack from its host, and hears IGMP and MLD on the interface: a
//! bridge, a virtual machine or a router may be behind it. What changes goes to the control nodes. Where nobody else
//! asks, it is the querier of its interface; its queries go to the interface alone.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use crate::address::VifNumber;
use crate::ethernet::EthernetHeader;
use crate::group::message::{Change, GroupMessage, Query};
use crate::group::querier::Querier;
use crate::group::query::{LAST_MEMBER_INTERVAL, QUERIER_IPV6, ROBUSTNESS, query};
use crate::group::{Audience, Group, audience};
use crate::limits::GROUPS_PER_VIF_MAX;
use crate::time::Instant;
use crate::wire::control::{GroupCause, GroupNotice, GroupPolicy, JoinedGroup};

pub use crate::group::querier::{FIRST_QUERY, OTHER_QUERIER_PRESENT, STARTUP_INTERVAL};

/// How long a multicast router that is not heard any more is taken to be there: as long as another querier.
pub const ROUTER_PRESENT: Duration = Duration::from_secs(255);
/// How long an interface that has joined more groups than there is room for gets all of them: two queries and the
/// time for answers (RFC 3376, 8.4).
pub const OVERFLOW_LASTS: Duration = Duration::from_secs(260);
/// What an answer may take beyond the time that hosts are given: a host under load answers late.
pub const ANSWER_SLACK: Duration = Duration::from_millis(500);
/// Items of one notice: at most 18 octets each, so 512 stay below the 16 KiB of a control message.
pub const NOTICE_ITEMS_MAX: usize = 512;
/// Queries that wait for the interface: as many as a hostile tenant may make the driver write for one batch.
pub const QUERIES_MAX: usize = 64;

/// What is known of one group at an interface.
#[derive(Clone, Copy, Debug, Default)]
struct Membership {
    is_own: bool,
    reported: Option<Reported>,
    /// What the control nodes have been told.
    told: Option<GroupCause>,
}

/// What reports say of a group.
#[derive(Clone, Copy, Debug, Default)]
struct Reported {
    /// General queries since the last report.
    unanswered: u8,
    /// When it is given up.
    until: Option<Instant>,
    /// When hosts are asked once more, as somebody has left.
    ask_at: Option<Instant>,
    is_leaving: bool,
}

impl Membership {
    fn cause(&self) -> Option<GroupCause> {
        match (self.is_own, self.reported.is_some()) {
            (true, true) => Some(GroupCause::Both),
            (true, false) => Some(GroupCause::Own),
            (false, true) => Some(GroupCause::Reported),
            (false, false) => None,
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Listener {
    vif: VifNumber,
    policy: Option<GroupPolicy>,
    groups: BTreeMap<Group, Membership>,
    router_until: Option<Instant>,
    overflow_until: Option<Instant>,
    told_every_group: bool,
    has_news: bool,
    /// Of IPv4 and IPv6; none while groups are not sorted.
    queriers: Option<[Querier; 2]>,
    queries: VecDeque<Vec<u8>>,
    next: Option<Instant>,
}

impl Listener {
    /// Makes the listener of an interface: it knows of nobody, and lets everything through.
    #[must_use]
    pub fn new(vif: VifNumber) -> Self {
        Self {
            vif,
            policy: None,
            groups: BTreeMap::new(),
            router_until: None,
            overflow_until: None,
            told_every_group: false,
            has_news: false,
            queriers: None,
            queries: VecDeque::new(),
            next: None,
        }
    }

    /// Takes what the LAN does with groups. What is known of them stays.
    pub fn handle_policy(&mut self, now: Instant, policy: GroupPolicy) {
        if self.policy == Some(policy) {
            return;
        }
        self.policy = Some(policy);
        let asks = policy.snoops && policy.querier.is_ipv4();
        let querier = |source| Querier::new(now, source);
        self.queriers = asks.then(|| [querier(policy.querier), querier(IpAddr::V6(QUERIER_IPV6))]);
        self.reckon();
    }

    // --- what is joined -------------------------------------------------------------------------------------

    //= spec/multicast.md#own-memberships
    //# The driver MUST take the memberships of its interface's own stack as joined for as long as the stack has them.
    /// Takes the complete list of groups that the interface's own stack has joined now. Groups of the link are passed
    /// over.
    pub fn handle_own(&mut self, now: Instant, addresses: &[IpAddr]) {
        let own: Vec<Group> = addresses.iter().copied().filter_map(Group::new).collect();
        for (group, membership) in &mut self.groups {
            membership.is_own &= own.contains(group);
            self.has_news |= membership.cause() != membership.told;
        }
        for group in own {
            if let Some(membership) = self.room_for(now, group) {
                membership.is_own = true;
                self.has_news |= self.groups[&group].cause() != self.groups[&group].told;
            }
        }
        self.reckon();
    }

    /// Takes a group frame that the interface sends.
    pub fn handle_outgoing(&mut self, now: Instant, frame: &[u8]) {
        match GroupMessage::parse(frame) {
            Some(GroupMessage::Report(changes)) => {
                for change in changes {
                    match change {
                        Change::Join(group) => self.joined(now, group),
                        Change::Leave(group) => self.left(now, group),
                    }
                }
            }
            Some(GroupMessage::Query(query)) => {
                // Its own, which a bridge has carried round, says nothing.
                let own =
                    self.queriers.is_some_and(|queriers| queriers.iter().any(|q| q.source == query.source));
                if !own && !query.source.is_unspecified() {
                    self.router_heard(now);
                }
                self.query_heard(now, &query);
            }
            Some(GroupMessage::RouterHello) => self.router_heard(now),
            None => return,
        }
        self.reckon();
    }

    /// Takes the first octets of a group frame that comes from the fabric: another member may ask.
    pub fn handle_incoming(&mut self, now: Instant, head: &[u8]) {
        if let Some(GroupMessage::Query(query)) = GroupMessage::parse(head) {
            self.query_heard(now, &query);
            self.reckon();
        }
    }

    //= spec/multicast.md#reports-from-the-interface
    //# The driver MUST take a snooped group as joined when a report of IGMP or MLD for it comes from its interface.
    fn joined(&mut self, now: Instant, group: Group) {
        if let Some(membership) = self.room_for(now, group) {
            membership.reported = Some(Reported::default());
            let is_news = membership.cause() != membership.told;
            self.has_news |= is_news;
        }
    }

    //= spec/multicast.md#bounds
    //# The driver MUST hold at most 512 groups of an interface, and ask for every group when one more is joined.
    fn room_for(&mut self, now: Instant, group: Group) -> Option<&mut Membership> {
        if self.groups.len() >= GROUPS_PER_VIF_MAX && !self.groups.contains_key(&group) {
            self.overflow_until = Some(now + OVERFLOW_LASTS);
            self.has_news |= !self.told_every_group;
            return None;
        }
        Some(self.groups.entry(group).or_default())
    }

    //= spec/multicast.md#leaving
    //# The driver MUST ask its interface twice, a second apart, for a group whose leave it hears, and give the report
    //# up when nobody has answered 2.5 s after the leave.
    fn left(&mut self, now: Instant, group: Group) {
        let Some(reported) = self.groups.get_mut(&group).and_then(|m| m.reported.as_mut()) else { return };
        if reported.is_leaving {
            // Hosts say so twice (RFC 3376, 5.1).
            return;
        }
        let until = now + LAST_MEMBER_INTERVAL * u32::from(ROBUSTNESS) + ANSWER_SLACK;
        *reported = Reported {
            until: Some(until),
            ask_at: Some(now + LAST_MEMBER_INTERVAL),
            is_leaving: true,
            unanswered: reported.unanswered,
        };
        self.ask_for(group);
    }

    //= spec/multicast.md#multicast-routers
    //# The driver MUST ask for every group while a query with a source address, or a hello of PIM, has come from its
    //# interface within 255 s.
    fn router_heard(&mut self, now: Instant) {
        self.router_until = Some(now + ROUTER_PRESENT);
        self.has_news |= !self.told_every_group;
    }

    //= spec/multicast.md#ageing
    //# The driver MUST give a reported group up when two general queries in a row have found no report of it, and not
    //# for want of queries.
    fn query_heard(&mut self, now: Instant, query: &Query) {
        if let Some(queriers) = &mut self.queriers {
            queriers[usize::from(query.source.is_ipv6())].hear(now, query.source);
        }
        let Some(asked) = query.group else {
            self.all_asked(now, query.source.is_ipv4(), query.max_response);
            return;
        };
        let membership = Group::new(asked).and_then(|group| self.groups.get_mut(&group));
        if let Some(reported) = membership.and_then(|m| m.reported.as_mut()) {
            let response = query.max_response.max(LAST_MEMBER_INTERVAL);
            let until = now + response * u32::from(ROBUSTNESS) + ANSWER_SLACK;
            reported.until = Some(reported.until.map_or(until, |at| at.min(until)));
        }
    }

    fn all_asked(&mut self, now: Instant, ipv4: bool, max_response: Duration) {
        let of_family = self.groups.iter_mut().filter(|(group, _)| group.is_ipv4() == ipv4);
        for reported in of_family.filter_map(|(_, membership)| membership.reported.as_mut()) {
            reported.unanswered = reported.unanswered.saturating_add(1);
            if reported.unanswered >= ROBUSTNESS && reported.until.is_none() {
                reported.until = Some(now + max_response + ANSWER_SLACK);
            }
        }
    }

    // --- what comes from the fabric -------------------------------------------------------------------------

    //= spec/multicast.md#not-joined
    //# The driver MUST discard a frame for a snooped group that nobody behind its interface has joined, unless it asks
    //# for every group or listens promiscuously.
    /// True when somebody behind the interface wants the group frame whose first octets are `head`.
    #[must_use]
    pub fn admits(&self, head: &[u8]) -> bool {
        if self.wants_every_group() || !self.policy.is_some_and(|policy| policy.snoops) {
            return true;
        }
        let Some(ethernet) = EthernetHeader::parse(head) else { return true };
        match audience(&ethernet, head) {
            Audience::Everybody => true,
            Audience::Routers => false,
            Audience::Joined(group) => self.groups.get(&group).is_some_and(|m| m.cause().is_some()),
        }
    }

    /// True when the interface wants every group: a router is behind it, or it has joined more than it can say.
    #[must_use]
    pub fn wants_every_group(&self) -> bool {
        self.router_until.is_some() || self.overflow_until.is_some()
    }

    /// The groups that are joined.
    pub fn groups(&self) -> impl Iterator<Item = Group> + '_ {
        self.groups.iter().filter(|(_, membership)| membership.cause().is_some()).map(|(group, _)| *group)
    }

    // --- what the control nodes are told --------------------------------------------------------------------

    //= spec/multicast.md#announcements
    //# A node MUST tell each control node that accepts it every group that its interfaces have joined, and every change
    //# after that.
    /// Lets everything be told anew: another control node is there.
    pub fn announce(&mut self) {
        self.groups.values_mut().for_each(|membership| membership.told = None);
        self.groups.retain(|_, membership| membership.cause().is_some());
        self.has_news = true;
    }

    /// True when there is something to tell.
    #[inline]
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.has_news
    }

    /// The next notice for the control nodes.
    pub fn poll_notice(&mut self) -> Option<GroupNotice> {
        if !core::mem::take(&mut self.has_news) {
            return None;
        }
        self.told_every_group = self.wants_every_group();
        let mut notice = GroupNotice {
            vif: self.vif,
            more: false,
            every_group: self.told_every_group,
            joined: Vec::new(),
            left: Vec::new(),
        };
        for (group, membership) in self.groups.iter_mut().filter(|(_, m)| m.cause() != m.told) {
            if notice.joined.len() + notice.left.len() == NOTICE_ITEMS_MAX {
                notice.more = true;
                break;
            }
            membership.told = membership.cause();
            match membership.told {
                Some(cause) => notice.joined.push(JoinedGroup { group: group.address(), cause }),
                None => notice.left.push(group.address()),
            }
        }
        self.groups.retain(|_, membership| membership.cause().is_some() || membership.told.is_some());
        self.has_news = notice.more;
        Some(notice)
    }

    // --- time -----------------------------------------------------------------------------------------------

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        let is_over = |until: Option<Instant>| until.is_some_and(|until| until <= now);
        if is_over(self.router_until) {
            self.router_until = None;
        }
        if is_over(self.overflow_until) {
            self.overflow_until = None;
        }
        self.has_news |= self.told_every_group != self.wants_every_group();
        self.groups_due(now);
        for family in 0..2 {
            let Some(querier) = self.queriers.as_mut().map(|queriers| &mut queriers[family]) else { break };
            if querier.is_due(now) {
                let (source, response) = (querier.source, crate::group::query::QUERY_RESPONSE);
                self.push_query(query(source, None));
                self.all_asked(now, source.is_ipv4(), response);
            }
        }
        self.reckon();
    }

    fn groups_due(&mut self, now: Instant) {
        let mut to_ask = Vec::new();
        for (group, membership) in &mut self.groups {
            let Some(reported) = &mut membership.reported else { continue };
            if reported.ask_at.is_some_and(|at| at <= now) {
                reported.ask_at = None;
                to_ask.push(*group);
            }
            if reported.until.is_some_and(|until| until <= now) {
                membership.reported = None;
                self.has_news = true;
            }
        }
        to_ask.into_iter().for_each(|group| self.ask_for(group));
    }

    /// When [`Self::handle_timeout`] is wanted next.
    #[inline]
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// The next query for the interface.
    #[inline]
    pub fn poll_query(&mut self) -> Option<Vec<u8>> {
        self.queries.pop_front()
    }

    /// True while a query waits for the interface.
    #[inline]
    #[must_use]
    pub fn has_query(&self) -> bool {
        !self.queries.is_empty()
    }

    fn ask_for(&mut self, group: Group) {
        if let Some(queriers) = self.queriers {
            let source = queriers[usize::from(!group.is_ipv4())].source;
            self.push_query(query(source, Some(group)));
        }
    }

    fn push_query(&mut self, query: Vec<u8>) {
        if self.queries.len() < QUERIES_MAX {
            self.queries.push_back(query);
        }
    }

    /// Finds out when something is due next: that is asked far more often than it changes.
    fn reckon(&mut self) {
        let reported = self.groups.values().filter_map(|membership| membership.reported);
        let of_groups = reported.flat_map(|reported| [reported.until, reported.ask_at]).flatten();
        let of_queriers = self.queriers.iter().flatten().map(Querier::poll_timeout);
        let others = [self.router_until, self.overflow_until].into_iter().flatten();
        self.next = of_groups.chain(of_queriers).chain(others).min();
    }
}

#[cfg(test)]
mod tests;
