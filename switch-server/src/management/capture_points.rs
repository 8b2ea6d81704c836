//! Which taps of which nodes a capture needs, and the captures that run.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, Weak};

use platform::management::{CaptureDirection, CaptureEnd, CaptureRequest};
use tokio::sync::{Notify, mpsc};
use vlan_core::capture::{Filter, compile};
use vlan_core::limits::MESSAGE_LEN_MAX;
use vlan_core::wire::control::{CaptureDirections, CaptureOrder, CapturePoint};
use vlan_core::{LanId, MacAddress, NodeNumber, VifNumber};

use super::capture::{EVENTS_OF_A_TAP, Running, Section, Tap, TapState, WINDOW_OCTETS};
use super::view::View;
use super::{Refused, refusal};
use crate::control_node::{LanStatus, MemberStatus, Status};
use crate::runtime::{CaptureStart, Order};

/// Captures that run at one time, each with as many taps as it takes.
const RUNNING_MAX: usize = 32;

/// The captures that run, by their numbers.
#[derive(Debug, Default)]
pub(super) struct CaptureRegister {
    running: BTreeMap<u32, Weak<Notify>>,
    last_id: u32,
}

impl CaptureRegister {
    pub(super) fn next_id(&mut self) -> u32 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }
}

impl View {
    /// `POST /v1/capture`: the capture's number, and pcapng for as long as it is read.
    ///
    /// # Errors
    ///
    /// When there is nothing of that kind to capture, the filter is none, too many captures run, or the pump does not
    /// answer.
    pub async fn capture(view: &Arc<Self>, request: &CaptureRequest) -> Result<(u32, Section), Refused> {
        let status = view.machine_status().await?;
        let filter = view.filter(&status, &request.filter)?;
        let points = view.points(&status, request)?;
        let snap_octets = request.snap.unwrap_or(MESSAGE_LEN_MAX as u32);
        let end = Arc::new(Notify::new());
        let (id, taps) = {
            let mut register = view.captures.lock().unwrap_or_else(PoisonError::into_inner);
            register.running.retain(|_, end| end.strong_count() > 0);
            if register.running.len() >= RUNNING_MAX {
                return Err(refused("too many captures run", "end one of the others first"));
            }
            let tap = |Point { place, point, name, description }: Point, id| Tap {
                place,
                order: CaptureOrder {
                    id,
                    point,
                    directions: directions(request, place),
                    snap_octets,
                    window_octets: WINDOW_OCTETS,
                    filter: filter.emit(),
                },
                name,
                description,
                state: TapState::default(),
            };
            let taps: Vec<Tap> = points.into_iter().map(|point| tap(point, register.next_id())).collect();
            let id = register.next_id();
            register.running.insert(id, Arc::downgrade(&end));
            (id, taps)
        };
        let (sink, events) = mpsc::channel(taps.len() * EVENTS_OF_A_TAP);
        let (mut points, mut uplinks) = (Vec::new(), Vec::new());
        for tap in &taps {
            match tap.place {
                Place::Node(node) => points.push((node, tap.order.clone())),
                Place::Uplink(lan) => uplinks.push((lan, tap.order.clone())),
            }
        }
        view.order(Order::Capture(CaptureStart { points, uplinks, sink }))?;
        let places = taps.iter().enumerate().map(|(place, tap)| (tap.order.id, place)).collect();
        let filter = request.filter.clone();
        let running = Running { view: Arc::clone(view), taps, places, filter, events, end };
        Ok((id, running.start()))
    }

    /// `POST /v1/capture/end`.
    ///
    /// # Errors
    ///
    /// When no such capture runs.
    pub fn end_capture(&self, end: CaptureEnd) -> Result<CaptureEnd, Refused> {
        let register = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
        match register.running.get(&end.capture).and_then(Weak::upgrade) {
            Some(running) => {
                running.notify_one();
                Ok(end)
            }
            None => Err(refused("no such capture runs", "it has ended already")),
        }
    }

    fn filter(&self, status: &Status, text: &str) -> Result<Filter, Refused> {
        let members = |name: &str| -> Option<Vec<MacAddress>> {
            let node = self.platform().node(name)?.number;
            let members = status.lans.iter().flat_map(|lan| &lan.members);
            Some(members.filter(|member| member.node == node).map(|member| member.mac).collect())
        };
        compile(text, &members).map_err(|error| {
            refused(&format!("the filter {text:?}: {error}"), "see switchctl capture --help")
        })
    }

    /// Where nodes are to tap.
    fn points(&self, status: &Status, request: &CaptureRequest) -> Result<Vec<Point>, Refused> {
        if let Some(ends) = &request.rvi {
            if request.lan.is_some() || request.node.is_some() {
                return Err(refused("an RVI has no LAN and no node", "give --rvi alone"));
            }
            return Ok(vec![self.rvi_point(status, ends)?]);
        }
        let node = request.node.as_deref().map(|node| self.node(node)).transpose()?;
        let lans = status.lans.iter().filter(|lan| request.lan.as_ref().is_none_or(|name| *name == lan.name));
        let lans: Vec<&LanStatus> = lans.collect();
        if lans.is_empty() || (node.is_none() && request.lan.is_none()) {
            let names: Vec<&str> = status.lans.iter().map(|lan| lan.name.as_str()).collect();
            let what = request
                .lan
                .as_ref()
                .map_or("a capture of what?".to_owned(), |lan| format!("no such LAN: {lan}"));
            return Err(refused(&what, &format!("LANs: {}", names.join(", "))));
        }
        let members = lans.iter().flat_map(|lan| lan.members.iter().map(move |member| (*lan, member)));
        let members = members.filter(|(_, member)| node.is_none_or(|node| node == member.node));
        let members: Vec<_> = members.collect();
        if !members.iter().any(|(_, member)| member.attached) {
            return Err(refused("no such interface is attached", "see switchctl nodes"));
        }
        let interfaces = members.into_iter().map(|(lan, member)| self.interface_point(lan, member));
        let has_uplink =
            |lan: &&&LanStatus| node.is_none() && status.uplinks.iter().any(|uplink| uplink.lan == lan.id);
        let uplinks = lans.iter().filter(has_uplink).map(|lan| self.uplink_point(lan));
        Ok(interfaces.chain(uplinks).collect())
    }

    //= spec/capture.md#uplinks
    //# A capture of a LAN MUST tap its uplink, too, and by default keep what comes in by it, each frame once, as it is inside.
    fn uplink_point(&self, lan: &LanStatus) -> Point {
        Point {
            place: Place::Uplink(lan.id),
            // No interface of a node, but frames as one has them.
            point: CapturePoint::Interface(VifNumber(0)),
            name: format!("{}/{}", self.name(), lan.name),
            description: format!("uplink of LAN {} at {}", lan.name, self.name()),
        }
    }

    fn interface_point(&self, lan: &LanStatus, member: &MemberStatus) -> Point {
        let node = self.name_of(member.node);
        let attached = if member.attached { "" } else { ", not attached when the capture began" };
        let description = format!("{} of node {node} on LAN {}{attached}", member.interface, lan.name);
        Point {
            place: Place::Node(member.node),
            point: CapturePoint::Interface(member.vif),
            name: format!("{node}/{}", lan.name),
            description,
        }
    }

    /// The tap is at the node that is named first; at the node, where the other is this control node.
    fn rvi_point(&self, status: &Status, [one, other]: &[String; 2]) -> Result<Point, Refused> {
        let (node, peer) = if one == self.name() { (other, one) } else { (one, other) };
        let number = self.node(node)?;
        let point = match peer == self.name() {
            true => CapturePoint::ControlNode,
            false => CapturePoint::Node(self.node(peer)?),
        };
        if point == CapturePoint::Node(number) {
            return Err(refused("a node has no RVI to itself", "name two"));
        }
        if !status.nodes.iter().any(|entry| entry.number == number && entry.process.is_some()) {
            return Err(refused(&format!("{node} is not attached"), "see switchctl nodes"));
        }
        let description = format!("RVI between {node} and {peer}, tapped at {node}");
        Ok(Point { place: Place::Node(number), point, name: format!("{node}-{peer}"), description })
    }

    fn name_of(&self, number: NodeNumber) -> String {
        let platform = self.platform();
        let node = platform.nodes.iter().find(|node| node.number == number);
        node.map_or_else(|| format!("node {number}"), |node| node.name.clone())
    }
}

/// Who taps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A node.
    Node(NodeNumber),
    /// This control node, at the uplink of a LAN.
    Uplink(LanId),
}

/// Who taps where, and what that is called.
struct Point {
    place: Place,
    point: CapturePoint,
    name: String,
    description: String,
}

/// Frames of a whole LAN are there once, from their senders or as they come in from outside, unless something else is asked for.
//= spec/capture.md#lans
//# A capture of a LAN MUST tap every member's interface and by default keep what the members' stacks sent, so that each
//# frame of a member is there once.
fn directions(request: &CaptureRequest, place: Place) -> CaptureDirections {
    let is_whole_lan = request.node.is_none() && request.rvi.is_none();
    match request.direction {
        Some(CaptureDirection::In) => CaptureDirections::In,
        Some(CaptureDirection::Out) => CaptureDirections::Out,
        Some(CaptureDirection::Both) => CaptureDirections::Both,
        None if matches!(place, Place::Uplink(_)) => CaptureDirections::In,
        None if is_whole_lan => CaptureDirections::Out,
        None => CaptureDirections::Both,
    }
}

fn refused(error: &str, hint: &str) -> Refused {
    Refused::Request(refusal(error, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_lan_is_captured_at_the_senders_unless_asked_otherwise() {
        //= spec/capture.md#lans
        //= type=test
        //# A capture of a LAN MUST tap every member's interface and by default keep what the members' stacks sent, so that each
        //# frame of a member is there once.
        let directions = |request: &CaptureRequest| directions(request, Place::Node(NodeNumber(1)));
        let lan = CaptureRequest { lan: Some("red".into()), ..CaptureRequest::default() };
        assert_eq!(directions(&lan), CaptureDirections::Out);
        assert_eq!(super::directions(&lan, Place::Uplink(LanId(1))), CaptureDirections::In);
        let node = CaptureRequest { node: Some("web1".into()), ..lan.clone() };
        assert_eq!(directions(&node), CaptureDirections::Both);
        let both = CaptureRequest { direction: Some(CaptureDirection::Both), ..lan };
        assert_eq!(directions(&both), CaptureDirections::Both);
    }
}
