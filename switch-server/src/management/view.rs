//! What the control thread knows how to ask of the pump and, through it, of the nodes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use platform::Platform;
use platform::management::{
    Binding, Cluster, Counter, Drain, DrainAnswer, Drop, FAULT_SPEC_LEN_MAX, Fault, FaultAnswer, Group, Lan,
    Node, Rvi, RviDrill, RviDrillAnswer, Status, Uplink,
};
use tokio::sync::{mpsc, oneshot};
use vlan_core::wire::control::{ReportItem, ReportedDrop};
use vlan_core::{LegNumber, NodeNumber};

use super::capture_points::CaptureRegister;
use super::tables::{DeviceInUse, DevicesInUse};
use super::{Refused, refusal, tables};
use crate::control_node::{self, Command, NodeEntry};
use crate::runtime::{DeviceChanges, Devices, FaultOrder, NodeReport, Order, PumpGone, PumpLink, now};
use crate::store::Store;

/// How long nodes have to report. One that is too slow is left out of the answer.
const REPORT_TIME: Duration = Duration::from_millis(500);

/// The counters of each node that reported.
pub(super) type Reports = BTreeMap<NodeNumber, Vec<ReportItem>>;

/// The last frames that each node dropped.
pub(super) type Examples = BTreeMap<NodeNumber, Vec<ReportedDrop>>;

/// An order about a pair's direct RVIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drill {
    /// Cut them.
    Cut,
    /// Let them come back.
    Heal,
}

/// The management interface's way to everything that it shows.
#[derive(Debug)]
pub struct View {
    /// As it is now.
    in_use: RwLock<Arc<Platform>>,
    /// One file is applied at a time.
    pub(super) applied: tokio::sync::Mutex<Applied>,
    pub(super) store: Arc<Store>,
    name: String,
    link: Mutex<PumpLink>,
    /// One request for reports at a time: a second waits for the answers of the first.
    reports: tokio::sync::Mutex<ReportStream>,
    gone: tokio::sync::Notify,
    pub(super) captures: Mutex<CaptureRegister>,
    start: Instant,
}

/// What was made of the platform file that is in use.
#[derive(Debug)]
pub struct Applied {
    /// Its nodes, with the keys that were read for them.
    pub(super) nodes: Vec<NodeEntry>,
    /// The devices that lead outside.
    pub(super) devices: Devices,
    /// How they are driven.
    in_use: DevicesInUse,
}

impl Applied {
    /// What was made of the first file: `opened` are all of `devices`.
    #[must_use]
    pub fn new(nodes: Vec<NodeEntry>, devices: Devices, opened: &DeviceChanges) -> Self {
        let none = Self { nodes: Vec::new(), devices: Devices::default(), in_use: DevicesInUse::new() };
        none.after(nodes, devices, opened)
    }

    /// What was made of the next file: these nodes and devices, which came to be by `changes`.
    pub(super) fn after(&self, nodes: Vec<NodeEntry>, devices: Devices, changes: &DeviceChanges) -> Self {
        let mut in_use = self.in_use.clone();
        in_use.retain(|number, _| !changes.closed.contains(number));
        in_use.extend(changes.opened.iter().map(|(number, nic)| (*number, DeviceInUse::of(nic))));
        Self { nodes, devices, in_use }
    }
}

#[derive(Debug)]
struct ReportStream {
    receiver: mpsc::Receiver<NodeReport>,
    last_id: u32,
}

impl View {
    /// The view of the control node `name` of `platform`, with what was made of it, through `link`; what is applied goes into `store`.
    #[must_use]
    pub fn new(
        platform: Platform,
        name: String,
        applied: Applied,
        mut link: PumpLink,
        store: Arc<Store>,
    ) -> Self {
        // The stream of reports has a reader of its own.
        let (_, none) = mpsc::channel(1);
        let receiver = std::mem::replace(&mut link.reports, none);
        Self {
            in_use: RwLock::new(Arc::new(platform)),
            applied: tokio::sync::Mutex::new(applied),
            store,
            name,
            link: Mutex::new(link),
            reports: tokio::sync::Mutex::new(ReportStream { receiver, last_id: 0 }),
            gone: tokio::sync::Notify::new(),
            captures: Mutex::default(),
            start: Instant::now(),
        }
    }

    /// Ends when the pump turns out to have ended by itself.
    pub async fn pump_gone(&self) {
        self.gone.notified().await;
    }

    /// Time since the process began to serve.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    /// What the machine says of itself.
    ///
    /// # Errors
    ///
    /// When the pump does not answer.
    pub async fn machine_status(&self) -> Result<control_node::Status, PumpGone> {
        let (sender, receiver) = oneshot::channel();
        self.order(Order::Status(sender))?;
        self.answered(receiver).await
    }

    /// The pump's answer to an order.
    pub(super) async fn answered<T>(&self, receiver: oneshot::Receiver<T>) -> Result<T, PumpGone> {
        receiver.await.map_err(|_| {
            // An order that was taken and not answered: the pump has ended.
            self.gone.notify_one();
            PumpGone
        })
    }

    /// `GET /v1/status`.
    ///
    /// # Errors
    ///
    /// When the pump does not answer; so for all below.
    pub async fn status(&self) -> Result<Status, Refused> {
        let status = self.machine_status().await?;
        let in_use = self.platform();
        let text = std::fs::read_to_string(&in_use.path);
        Ok(Status {
            config_differs: text.map_or(true, |text| text != in_use.text),
            uptime_s: self.uptime().as_secs(),
            ..tables::status(&self.name, &status)
        })
    }

    /// `GET /v1/nodes`.
    pub async fn nodes(&self) -> Result<Vec<Node>, Refused> {
        Ok(tables::nodes(&self.machine_status().await?))
    }

    /// `GET /v1/lans`.
    pub async fn lans(&self) -> Result<Vec<Lan>, Refused> {
        Ok(tables::lans(&self.machine_status().await?))
    }

    /// `GET /v1/bindings`.
    pub async fn bindings(&self) -> Result<Vec<Binding>, Refused> {
        Ok(tables::bindings(&self.machine_status().await?))
    }

    /// `GET /v1/uplinks`.
    pub async fn uplinks(&self) -> Result<Vec<Uplink>, Refused> {
        let status = self.machine_status().await?;
        Ok(tables::uplinks(&status, &self.applied.lock().await.in_use, now()))
    }

    /// `GET /v1/clusters`.
    pub async fn clusters(&self) -> Result<Vec<Cluster>, Refused> {
        Ok(tables::clusters(&self.machine_status().await?))
    }

    /// `POST /v1/drain`.
    ///
    /// # Errors
    ///
    /// When the platform has no such node, it serves no cluster, or the pump does not answer.
    pub async fn drain(&self, order: &Drain) -> Result<DrainAnswer, Refused> {
        let node = self.node(&order.node)?;
        let status = self.machine_status().await?;
        let services = status.clusters.iter().flat_map(|cluster| &cluster.services);
        let servers = services.flat_map(|service| &service.servers).filter(|server| server.node == node);
        let (services, flows) = (servers.clone().count(), servers.map(|server| server.flows).max());
        let Some(flows) = flows else {
            let error = format!("{} serves no cluster", order.node);
            return Err(Refused::Request(refusal(&error, "see switchctl clusters for the servers")));
        };
        let within = order.within_ms.map(Duration::from_millis);
        let command = if order.drains { Command::Drain { node, within } } else { Command::Undrain { node } };
        self.order(Order::Command(command))?;
        Ok(DrainAnswer { services: u32::try_from(services).unwrap_or(u32::MAX), flows })
    }

    /// `GET /v1/groups`.
    pub async fn groups(&self) -> Result<Vec<Group>, Refused> {
        let (sender, receiver) = oneshot::channel();
        self.order(Order::Groups(sender))?;
        let groups = self.answered(receiver).await?;
        Ok(tables::groups(&self.machine_status().await?, &groups))
    }

    /// `GET /v1/rvis`.
    pub async fn rvis(&self) -> Result<Vec<Rvi>, Refused> {
        let (status, reports, _) = self.status_and_reports().await?;
        let fabrics: Vec<String> = self.platform().fabrics.iter().map(|fabric| fabric.name.clone()).collect();
        Ok(tables::rvis(&status, &reports, &fabrics))
    }

    /// `GET /v1/drops`.
    pub async fn drops(&self) -> Result<Vec<Drop>, Refused> {
        let (status, reports, examples) = self.status_and_reports().await?;
        Ok(tables::drops(&self.name, &status, &reports, &examples, now()))
    }

    /// `GET /v1/counters`.
    pub async fn counters(&self) -> Result<Vec<Counter>, Refused> {
        let (status, reports, _) = self.status_and_reports().await?;
        Ok(tables::counters(&status, &reports))
    }

    /// `POST /v1/rvi/cut` and `/v1/rvi/heal`.
    ///
    /// # Errors
    ///
    /// When the platform has no such nodes or fabric, or the pump does not answer.
    pub async fn drill(&self, drill: Drill, pair: &RviDrill) -> Result<RviDrillAnswer, Refused> {
        let (a, b) = (self.node(&pair.a)?, self.node(&pair.b)?);
        if a == b {
            return Err(Refused::Request(refusal("a node has no direct RVI to itself", "name two nodes")));
        }
        let leg = pair.fabric.as_deref().map(|fabric| self.leg(fabric)).transpose()?;
        let status = self.machine_status().await?;
        self.order(Order::Command(match drill {
            Drill::Cut => Command::Cut { a, b, leg },
            Drill::Heal => Command::Heal { a, b, leg },
        }))?;
        Ok(RviDrillAnswer { rvis: tables::rvis_of_pair(&status, a, b) })
    }

    /// `POST /v1/fault`.
    ///
    /// # Errors
    ///
    /// When the platform has no such node or fabric, the text is none, no node was told, or the pump does not answer.
    pub async fn fault(&self, fault: &Fault) -> Result<FaultAnswer, Refused> {
        let node = fault.node.as_deref().map(|node| self.node(node)).transpose()?;
        let leg = fault.fabric.as_deref().map(|fabric| self.leg(fabric)).transpose()?;
        check_fault_spec(&fault.spec)?;
        let (told, receiver) = oneshot::channel();
        let (direction, spec) = (fault.direction, fault.spec.clone());
        self.order(Order::Fault(FaultOrder { node, leg, direction, spec, told }))?;
        match self.answered(receiver).await? {
            0 => {
                let error = match &fault.node {
                    Some(node) => format!("{node} is not attached, or has no leg that packets cross"),
                    None => "no node is attached that has a leg that packets cross".to_owned(),
                };
                Err(Refused::Request(refusal(
                    &error,
                    "see switchctl nodes, and the legs in the platform file",
                )))
            }
            nodes => Ok(FaultAnswer { nodes }),
        }
    }

    /// The platform as it is now.
    pub(super) fn platform(&self) -> Arc<Platform> {
        Arc::clone(&self.in_use.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes another platform into use.
    pub(super) fn replace_platform(&self, platform: Platform) {
        *self.in_use.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(platform);
    }

    /// The name of this control node.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn node(&self, name: &str) -> Result<NodeNumber, Refused> {
        let platform = self.platform();
        let node = platform.node(name).map(|node| node.number);
        node.ok_or_else(|| {
            let names: Vec<&str> = platform.nodes.iter().map(|node| node.name.as_str()).collect();
            Refused::Request(refusal(
                &format!("no such node: {name}"),
                &format!("nodes: {}", names.join(", ")),
            ))
        })
    }

    fn leg(&self, fabric: &str) -> Result<LegNumber, Refused> {
        let platform = self.platform();
        let found = platform.fabric(fabric).map(|fabric| LegNumber(fabric.index.0));
        found.ok_or_else(|| {
            let names: Vec<&str> = platform.fabrics.iter().map(|fabric| fabric.name.as_str()).collect();
            let hint = format!("fabrics: {}", names.join(", "));
            Refused::Request(refusal(&format!("no such fabric: {fabric}"), &hint))
        })
    }

    pub(super) fn order(&self, order: Order) -> Result<(), PumpGone> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).order(order)
    }

    /// Asks every attached node for its counters, and waits for them for a bounded time.
    async fn status_and_reports(&self) -> Result<(control_node::Status, Reports, Examples), Refused> {
        let mut stream = self.reports.lock().await;
        stream.last_id = stream.last_id.wrapping_add(1);
        let id = stream.last_id;
        self.order(Order::Command(Command::RequestReports { id }))?;
        let status = self.machine_status().await?;
        let attached = status.nodes.iter().filter(|node| node.process.is_some()).count();
        let (mut reports, mut examples) = (Reports::new(), Examples::new());
        let deadline = tokio::time::Instant::now() + REPORT_TIME;
        while reports.len() < attached {
            match tokio::time::timeout_at(deadline, stream.receiver.recv()).await {
                // One that answers an earlier request was too slow for that.
                Ok(Some(report)) if report.id == id => {
                    examples.insert(report.node, report.drops);
                    reports.insert(report.node, report.items);
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    self.gone.notify_one();
                    break;
                }
                Err(_) => break,
            }
        }
        Ok((status, reports, examples))
    }
}

/// Nodes read the text itself; here it is only kept from being anything but a short line.
fn check_fault_spec(spec: &str) -> Result<(), Refused> {
    let error = match spec.parse::<rvi::host::fault::Faults>() {
        Ok(_) if (1..=FAULT_SPEC_LEN_MAX).contains(&spec.len()) => return Ok(()),
        Ok(_) => format!("{spec:?} is not what can be done to packets"),
        Err(error) => format!("{spec:?}: {error}"),
    };
    Err(Refused::Request(refusal(&error, "see switchctl fault --help")))
}
