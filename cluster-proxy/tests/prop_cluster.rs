//! The invariants of cluster addresses, whatever comes: I-30 to I-38 as far as the machine alone keeps them (`spec/cluster.md`).
//!
//! A world of clients and servers that keep to the rules, and others that do not: floods, claims of what is another's, servers
//! that die, drain and come back, other configurations, and a control node that takes over from another.

#[path = "cluster/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use cluster_proxy::*;
use proptest::prelude::*;
use vlan_core::Instant;
use vlan_core::server::MemberSlot;
use vlan_core::wire::Vnet;
use world::*;

const SERVERS: u16 = 6;
/// A server that is not of the cluster.
const STRANGER: u16 = 99;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A client begins a flow, by port; its server claims it.
    Establish(u16),
    /// A segment or datagram of a flow, whether it has begun or not.
    Segment(u16),
    /// A flow ends.
    Gone(u16),
    /// So many SYNs of clients that are never heard of again.
    Flood(u16),
    /// Some server claims a flow, rightly or not.
    Claim(u16, u16),
    Reachable(u16, bool),
    Drain(u16, Option<u16>),
    Undrain(u16),
    Listens(u16, bool),
    /// Other weights, and servers that come or go.
    Configure(u8),
    /// The standby takes over.
    Takeover,
    /// A control node that knows nothing takes over, and the servers tell it their flows.
    Restart,
    Wait(u16),
}

fn any_step() -> impl Strategy<Value = Step> {
    let port = || 1..60_u16;
    let server = || 1..=SERVERS;
    prop_oneof![
        8 => port().prop_map(Step::Establish),
        12 => port().prop_map(Step::Segment),
        2 => port().prop_map(Step::Gone),
        1 => (1..3000_u16).prop_map(Step::Flood),
        3 => (prop_oneof![server(), Just(STRANGER)], port()).prop_map(|(server, port)| Step::Claim(server, port)),
        1 => (server(), any::<bool>()).prop_map(|(server, is_up)| Step::Reachable(server, is_up)),
        2 => (server(), prop::option::of(0..3000_u16)).prop_map(|(server, ms)| Step::Drain(server, ms)),
        2 => server().prop_map(Step::Undrain),
        2 => (server(), any::<bool>()).prop_map(|(server, listens)| Step::Listens(server, listens)),
        1 => any::<u8>().prop_map(Step::Configure),
        1 => Just(Step::Takeover),
        1 => Just(Step::Restart),
        4 => (0..4000_u16).prop_map(Step::Wait),
    ]
}

/// What is true of a server.
#[derive(Clone, Copy, Default)]
struct Server {
    is_up: bool,
    drains: Option<Option<Instant>>,
    is_closed: bool,
    is_configured: bool,
}

/// Two control nodes with the same configuration, and what the servers know.
struct Cluster {
    world: World,
    standby: ClusterProxy,
    balance: Balance,
    servers: BTreeMap<u16, Server>,
    /// Flows that were claimed, and by whom, at the active and at the standby.
    owned: BTreeMap<u16, u16>,
    config: ClusterConfig,
}

impl Cluster {
    fn new(balance: Balance) -> Self {
        let config = config(vec![service(WEB, balance, SERVERS)]);
        let mut world = World::new(&config);
        let mut standby = ClusterProxy::new(world.now, tables(&config), &LIMITS);
        for server in 1..=SERVERS {
            standby.set_reachable(world.now, MemberSlot(server), true);
            standby.handle_told(world.now, MemberSlot(server));
        }
        world.now = world.now + Duration::from_millis(1);
        let server = Server { is_up: true, is_configured: true, ..Server::default() };
        let servers = (1..=SERVERS).map(|number| (number, server)).collect();
        Self { world, standby, balance, servers, owned: BTreeMap::new(), config }
    }

    fn both(&mut self, mut change: impl FnMut(&mut ClusterProxy)) {
        change(&mut self.world.proxy);
        change(&mut self.standby);
    }

    /// A server gets no new flow, whatever the way of balancing.
    fn is_closed(&self, server: u16) -> bool {
        let server = self.servers[&server];
        !server.is_up || server.is_closed || server.drains.is_some() || !server.is_configured
    }

    fn run(&mut self, step: Step) {
        let now = self.world.now;
        match step {
            Step::Establish(port) => self.establish(port),
            Step::Segment(port) => self.segment(port, ACK),
            Step::Gone(port) => {
                if let Some(owner) = self.owned.remove(&port) {
                    let flow = flow(WEB, port);
                    self.both(|proxy| assert!(proxy.handle_gone(now, MemberSlot(owner), &flow)));
                }
            }
            Step::Flood(count) => {
                for number in 0..count {
                    let flow = flow_of(client(number, true), number, WEB);
                    let frame = segment(&flow, if number % 3 == 0 { ACK } else { SYN });
                    self.world.proxy.handle(now, &Vnet::default(), &frame);
                }
            }
            Step::Claim(server, port) => self.claim(server, port),
            Step::Reachable(server, is_up) => {
                let state = self.servers.get_mut(&server).expect("known");
                if !is_up {
                    state.is_closed = false;
                    self.owned.retain(|_, owner| *owner != server);
                }
                state.is_up = is_up;
                self.both(|proxy| proxy.set_reachable(now, MemberSlot(server), is_up));
            }
            Step::Drain(server, millis) => {
                let deadline = millis.map(|millis| now + Duration::from_millis(u64::from(millis)));
                self.servers.get_mut(&server).expect("known").drains = Some(deadline);
                self.both(|proxy| proxy.drain(MemberSlot(server), deadline));
                self.pass(Duration::ZERO);
            }
            Step::Undrain(server) => {
                self.servers.get_mut(&server).expect("known").drains = None;
                self.both(|proxy| proxy.undrain(MemberSlot(server)));
            }
            Step::Listens(server, listens) => {
                let state = self.servers.get_mut(&server).expect("known");
                if state.is_up && state.is_configured {
                    state.is_closed = !listens;
                    self.both(|proxy| proxy.set_listens(MemberSlot(server), WEB, listens));
                }
            }
            Step::Configure(which) => self.configure(which),
            Step::Takeover => {
                core::mem::swap(&mut self.world.proxy, &mut self.standby);
                self.world.proxy.handle_takeover(now);
                self.standby.stand_by();
            }
            Step::Restart => self.restart(),
            Step::Wait(millis) => self.pass(Duration::from_millis(u64::from(millis))),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.world.wait(time);
        let now = self.world.now;
        self.both(|proxy| proxy.handle_timeout(now));
        for (number, server) in &self.servers {
            if server.drains.flatten().is_some_and(|deadline| deadline <= now) {
                self.owned.retain(|_, owner| owner != number);
            }
        }
    }

    /// Its share of servers 2 to 6 is configured, with weights; 1 always is.
    fn configure(&mut self, which: u8) {
        let mut config = config(vec![service(WEB, self.balance, SERVERS)]);
        config.epoch = self.config.epoch + 1;
        let servers = &mut config.services[0].servers;
        servers.retain(|server| server.slot.0 == 1 || which >> server.slot.0 & 1 == 1);
        servers.iter_mut().for_each(|server| server.weight = 1 + u16::from(which & 3) * server.slot.0);
        for (number, server) in &mut self.servers {
            let is_configured = servers.iter().any(|configured| configured.slot.0 == *number);
            // What was known of its port goes with the service.
            server.is_closed &= is_configured && server.is_configured;
            server.is_configured = is_configured;
        }
        self.config = config.clone();
        let now = self.world.now;
        let up: Vec<_> = self.servers.iter().filter(|(_, s)| s.is_up).map(|(number, _)| *number).collect();
        let draining: Vec<_> = self
            .servers
            .iter()
            .filter_map(|(number, s)| s.drains.map(|deadline| (*number, deadline)))
            .collect();
        self.both(|proxy| {
            proxy.apply(now, Box::new(tables(&config)));
            up.iter().for_each(|server| proxy.set_reachable(now, MemberSlot(*server), true));
            for (server, deadline) in &draining {
                proxy.drain(MemberSlot(*server), *deadline);
            }
        });
        self.pass(Duration::ZERO);
    }

    /// I-35: nobody refuses a flow of another's, from the first moment on. I-30: all flows are where they were once they are told.
    fn restart(&mut self) {
        // Flows of servers that were taken out of the configuration are not told: nobody knows these servers any more.
        let servers = self.servers.clone();
        self.owned.retain(|_, owner| servers[owner].is_configured);
        let now = self.world.now;
        self.world.proxy = ClusterProxy::new(now, tables(&self.config), &LIMITS);
        self.world.proxy.handle_takeover(now);
        for (number, server) in &servers {
            let slot = MemberSlot(*number);
            self.world.proxy.set_reachable(now, slot, server.is_up);
            if let Some(deadline) = server.drains {
                self.world.proxy.drain(slot, deadline);
            }
            if server.is_closed {
                self.world.proxy.set_listens(slot, WEB, false);
            }
        }
        self.world.proxy.handle_timeout(now);
        for (port, owner) in self.owned.clone() {
            let flow = flow(WEB, port);
            match self.world.verdict(&segment(&flow, ACK)) {
                Verdict::Owners => {}
                other => panic!("I-30: {port} of {owner} is not asked about but {other:?}"),
            }
        }
        for (port, owner) in self.owned.clone() {
            let claim = self.world.claim(owner, &flow(WEB, port));
            assert_eq!(claim, Ok(Claimed::New), "{port} of {owner}");
        }
        (1..=SERVERS).for_each(|server| self.world.proxy.handle_told(now, MemberSlot(server)));
        // The standby is a new one as well, which has heard the same.
        self.standby = self.world.proxy.clone();
        self.standby.stand_by();
    }

    /// I-36: a new flow goes to one that takes it. Then the handshake ends there, and both control nodes hear of it.
    fn establish(&mut self, port: u16) {
        let flow = flow(WEB, port);
        let Verdict::Forward(forward) = self.world.verdict(&segment(&flow, SYN)) else {
            assert!(self.servers.keys().all(|server| self.is_closed(*server)), "nobody takes {port}");
            return;
        };
        let [server] = forward.hops.as_slice() else { panic!("a new flow goes to one") };
        let server = server.0;
        if let Some(owner) = self.owned.get(&port) {
            assert_eq!(server, *owner, "I-30: {port} has an owner");
            return;
        }
        assert!(!self.is_closed(server), "I-36: {server} takes no new flows");
        // The segment that ends the handshake finds it too, in a flood by its row or by asking all.
        match self.world.verdict(&segment(&flow, ACK)) {
            Verdict::Forward(forward) => assert!(forward.hops.as_slice().contains(&MemberSlot(server))),
            other => assert_eq!(other, Verdict::Owners),
        }
        self.claim(server, port);
        assert_eq!(self.owned.get(&port), Some(&server), "a flow that was given is the server's");
    }

    fn segment(&mut self, port: u16, flags: u8) {
        let flow = flow(WEB, port);
        let owner = self.owned.get(&port).copied();
        match self.world.verdict(&segment(&flow, flags)) {
            Verdict::Forward(forward) => {
                let hops: Vec<_> = forward.hops.as_slice().iter().map(|slot| slot.0).collect();
                assert!((1..=4).contains(&hops.len()), "I-38: {} hops", hops.len());
                assert!(hops.iter().all(|hop| self.servers[hop].is_up), "to one that is not there");
                assert!(owner.is_none_or(|owner| hops == [owner]), "I-30: {port} of {owner:?} to {hops:?}");
            }
            Verdict::Owners => assert_eq!(owner, None, "I-30: everybody is asked of a known flow"),
            Verdict::Dropped(_) => assert_eq!(owner, None, "I-30: a claimed flow is dropped"),
            Verdict::Answer(_) => panic!("an answer to a segment"),
        }
    }

    /// The claim goes to both control nodes, the standby first. Only the owner's own counts twice.
    fn claim(&mut self, server: u16, port: u16) {
        let (now, flow) = (self.world.now, flow(WEB, port));
        let active = self.world.claim(server, &flow);
        let owner = self.owned.get(&port).copied();
        match active {
            Ok(Claimed::New) => {
                assert_eq!(owner, None);
                // The standby has not seen the SYN, and believes it.
                assert!(self.standby.handle_claim(now, MemberSlot(server), &flow).is_ok());
                self.owned.insert(port, server);
            }
            Ok(Claimed::Known) => assert_eq!(owner, Some(server)),
            Err(Refusal::Conflict { owner: of }) => {
                assert_eq!(owner, Some(of.0), "another's stays another's")
            }
            Err(_) => assert_ne!(owner, Some(server), "an owner may always say so"),
        }
        assert!(server != STRANGER || active.is_err());
    }
}

proptest! {
    #[test]
    fn established_flows_never_move(
        balance in prop_oneof![Just(Balance::Hash), Just(Balance::RoundRobin), Just(Balance::LeastConnections)],
        steps in prop::collection::vec(any_step(), 1..120),
    ) {
        //= spec/cluster.md#claimed-flows
        //= type=test
        //# A packet of a claimed flow MUST go to the real server that has claimed it for as long as that server can be reached, whatever has become of its weight, its health or the configuration.
        //= spec/cluster.md#counters
        //= type=test
        //# The proxy MUST count, of each service, the packets and octets that it has given each server and the flows that it has chosen it for, the packets that several servers were asked about, the packets that found no server, and the claims that it refused.
        let mut cluster = Cluster::new(balance);
        for step in steps {
            cluster.run(step);
            let owned: Vec<_> = cluster.owned.keys().copied().collect();
            owned.into_iter().for_each(|port| cluster.segment(port, ACK));
            cluster.world.check_ledger();
            cluster.world.check_services_ledger();
            let counted: u32 = (1..=SERVERS).map(|s| cluster.world.proxy.flows_of(MemberSlot(s))).sum();
            prop_assert_eq!(counted as usize, cluster.owned.len());
        }
    }

    #[test]
    fn any_octets_leave_the_ledger_closed(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 1..50)) {
        let mut world = World::new(&config(vec![service(WEB, Balance::Hash, 3)]));
        for mut frame in frames {
            // Half of them begin as packets for the cluster do.
            if frame.len() > 60 && frame[0] & 1 == 0 {
                let is_v6 = frame[0] & 2 == 0;
                let start = packet(client(1, is_v6), if is_v6 { cluster_v6() } else { cluster_v4() }, frame[23], &[]);
                frame[..start.len()].copy_from_slice(&start);
                let len = if is_v6 { frame.len() - 54 } else { frame.len() - 14 } as u16;
                let at = if is_v6 { 18 } else { 16 };
                frame[at..at + 2].copy_from_slice(&len.to_be_bytes());
            }
            let _ = world.verdict(&frame);
            world.check_ledger();
        }
    }

    #[test]
    fn a_server_more_or_less_moves_its_own_share_alone(count in 2..12_u16, which in 1..12_u16, is_v6 in any::<bool>()) {
        //= spec/cluster.md#least-change
        //= type=test
        //# When a server is added, removed or changes its weight, the order of the other servers in each row MUST stay as it is.
        let which = 1 + which % count;
        let all = config(vec![service(WEB, Balance::Hash, count)]);
        let mut without = all.clone();
        without.services[0].servers.retain(|server| server.slot.0 != which);
        let mut worlds = [World::new(&all), World::new(&without)];
        for number in 0..500 {
            let flow = flow_of(client(number, is_v6), number, WEB);
            let [with, without] = worlds.each_mut().map(|world| world.syn(&flow));
            prop_assert!(with == without || with == which, "{} moved from {} to {}", number, without, with);
        }
    }
}

#[test]
fn equal_servers_get_equal_shares_of_many_flows() {
    //= spec/cluster.md#hash
    //= type=test
    //# A service that balances by hash MUST choose the first server of the flow's row that takes new flows.
    let mut config = config(vec![service(WEB, Balance::Hash, 8)]);
    config.rows = 65_536;
    let mut world = World::new(&config);
    let mut shares = [0_u32; 9];
    for number in 0..200_000_u32 {
        let flow = flow_of(client((number >> 8) as u16, true), number as u16, WEB);
        shares[usize::from(world.syn(&flow))] += 1;
    }
    // I-36: within 5 %.
    assert!(shares[1..].iter().all(|share| (23_750..=26_250).contains(share)), "{shares:?}");
}
