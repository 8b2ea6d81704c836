//! Traces: a frame's way through the platform, asked of each machine that would carry it.

use std::sync::PoisonError;
use std::time::Duration;

use platform::management::{TraceAnswer, TraceRequest, TraceStep};
use tokio::sync::oneshot;
use vlan_core::limits::TRACED_OCTETS_MAX;
use vlan_core::wire::control::{TraceEnd, TraceOrder, TraceWay, Traced};
use vlan_core::{NodeNumber, VifNumber};

use super::frame_text::frame_text;
use super::trace_frame::frame_of;
use super::view::View;
use super::{Refused, refusal};
use crate::control_node::{Judgement, LanStatus, Status, TraceReceiver};
use crate::runtime::{JudgeOrder, Order, TraceStart};

/// How long a node has to say what it would do.
const TRACE_TIME: Duration = Duration::from_secs(1);
/// Receivers of a group frame that are asked.
const ASKED_MAX: usize = 32;

/// A trace as far as it has come.
struct Trace<'a> {
    view: &'a View,
    status: &'a Status,
    lan: &'a LanStatus,
    answer: TraceAnswer,
}

impl View {
    /// `POST /v1/trace`.
    ///
    /// # Errors
    ///
    /// When there is no such interface or frame, or the pump does not answer.
    pub async fn trace(&self, request: &TraceRequest) -> Result<TraceAnswer, Refused> {
        let node = self.node(&request.from)?;
        let status = self.machine_status().await?;
        let Some(lan) = status.lans.iter().find(|lan| lan.name == request.lan) else {
            let names: Vec<&str> = status.lans.iter().map(|lan| lan.name.as_str()).collect();
            let error = format!("no such LAN: {}", request.lan);
            return Err(refused(&error, &format!("LANs: {}", names.join(", "))));
        };
        let Some(member) = lan.members.iter().find(|member| member.node == node) else {
            let error = format!("{} is no member of {}", request.from, request.lan);
            return Err(refused(&error, "see switchctl lans"));
        };
        let frame = frame_of(&request.frame, &status, lan, member)
            .map_err(|error| refused(&error, "see switchctl trace --help"))?;
        if frame.len() > TRACED_OCTETS_MAX {
            let error = format!("a frame of {} octets; {TRACED_OCTETS_MAX} can be traced", frame.len());
            return Err(refused(&error, "trace its first octets"));
        }
        let answer = TraceAnswer { frame: frame_text(&frame, frame.len()), ..TraceAnswer::default() };
        let mut trace = Trace { view: self, status: &status, lan, answer };
        trace.leaves(node, member.vif, frame).await?;
        Ok(trace.answer)
    }

    /// Asks a node what it would do; none when it does not answer.
    async fn trace_at(&self, node: NodeNumber, mut order: TraceOrder) -> Result<Option<Traced>, Refused> {
        order.id = self.captures.lock().unwrap_or_else(PoisonError::into_inner).next_id();
        let (answer, receiver) = oneshot::channel();
        self.order(Order::Trace(TraceStart { node, order, answer }))?;
        Ok(tokio::time::timeout(TRACE_TIME, receiver).await.ok().and_then(Result::ok))
    }

    async fn judge(&self, node: NodeNumber, vif: VifNumber, message: Vec<u8>) -> Result<Judgement, Refused> {
        let (answer, receiver) = oneshot::channel();
        self.order(Order::Judge(JudgeOrder { node, vif, message, answer }))?;
        Ok(self.answered(receiver).await?)
    }
}

impl Trace<'_> {
    async fn leaves(&mut self, node: NodeNumber, vif: VifNumber, frame: Vec<u8>) -> Result<(), Refused> {
        let order = TraceOrder { id: 0, way: TraceWay::FromStack, vif, peer: NodeNumber(0), octets: frame };
        let Some(traced) = self.ask(node, order).await? else { return Ok(()) };
        let Traced { end, peer, peer_vif, message, .. } = traced;
        match end {
            TraceEnd::Direct => self.arrives(peer, peer_vif, (TraceWay::Direct, node), message).await,
            TraceEnd::Relay => self.relayed(node, vif, message).await,
            TraceEnd::Dropped | TraceEnd::Held | TraceEnd::Delivered => Ok(()),
        }
    }

    async fn relayed(&mut self, node: NodeNumber, vif: VifNumber, message: Vec<u8>) -> Result<(), Refused> {
        let judgement = self.view.judge(node, vif, message).await?;
        let place = self.view.name().to_owned();
        for step in judgement.steps {
            self.answer.steps.push(TraceStep { place: place.clone(), what: step.what, rule: step.rule });
        }
        let receivers = judgement.receivers.len();
        for TraceReceiver { node, vif, message } in judgement.receivers.into_iter().take(ASKED_MAX) {
            self.arrives(node, vif, (TraceWay::Relay, NodeNumber(0)), message).await?;
        }
        if receivers > ASKED_MAX {
            let what = format!("{} more receivers were not asked", receivers - ASKED_MAX);
            self.answer.steps.push(TraceStep { place, what, rule: String::new() });
        }
        Ok(())
    }

    async fn arrives(
        &mut self,
        node: NodeNumber,
        vif: VifNumber,
        (way, peer): (TraceWay, NodeNumber),
        octets: Vec<u8>,
    ) -> Result<(), Refused> {
        let traced = self.ask(node, TraceOrder { id: 0, way, vif, peer, octets }).await?;
        if traced.is_some_and(|traced| traced.end == TraceEnd::Delivered) {
            let place = self.place(node);
            self.answer.delivered.push(place);
        }
        Ok(())
    }

    /// Asks a node, and takes its steps down.
    async fn ask(&mut self, node: NodeNumber, order: TraceOrder) -> Result<Option<Traced>, Refused> {
        let traced = self.view.trace_at(node, order).await?;
        let place = self.place(node);
        match &traced {
            Some(traced) => {
                for step in traced.steps.clone() {
                    let (what, rule) = (step.what, step.rule);
                    self.answer.steps.push(TraceStep { place: place.clone(), what, rule });
                }
            }
            None => {
                let what = "the node is not attached, or does not answer".to_owned();
                let rule = "spec/server.md#registration".to_owned();
                self.answer.steps.push(TraceStep { place, what, rule });
            }
        }
        Ok(traced)
    }

    fn place(&self, node: NodeNumber) -> String {
        let entry = self.status.nodes.iter().find(|entry| entry.number == node);
        let name = entry.map_or_else(|| format!("node {node}"), |entry| entry.name.clone());
        format!("{name}/{}", self.lan.name)
    }
}

fn refused(error: &str, hint: &str) -> Refused {
    Refused::Request(refusal(error, hint))
}
