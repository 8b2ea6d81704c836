//! What would become of one packet, asked without changing anything.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use vlan_core::wire::Vnet;

use crate::hash;
use crate::packet::{self, Content};
use crate::proxy::ClusterProxy;
use crate::proxy::passing::Given;

impl ClusterProxy {
    /// A proxy that does with the packet in `frame` what this one would. Of what this one remembers it holds that packet's part alone: a few cache
    /// lines, however many flows there are.
    #[must_use]
    pub fn for_one(&self, vnet: &Vnet, frame: &[u8]) -> Self {
        let read = packet::read(&self.tables, vnet, frame).ok();
        let of_flow = read.as_ref().map_or(0, |read| match &read.content {
            Content::Flow { flow, .. } | Content::Error(flow) => hash::of_flow(&self.tables.key, flow),
            Content::Later | Content::Echo | Content::Routed => 0,
        });
        let of_fragments = read.as_ref().map_or(0, |read| self.fragments_hash(read));
        Self {
            tables: Arc::clone(&self.tables),
            services: self.services.clone(),
            servers: self.servers.clone(),
            flows: self.flows.only(of_flow),
            half_open: self.half_open.only(of_flow),
            fragments: self.fragments.only(of_fragments),
            given: Given::new(0),
            passes: self.passes.clone(),
            asks: self.asks.clone(),
            errors: self.errors.clone(),
            echoes: self.echoes.clone(),
            due: VecDeque::new(),
            answer: Vec::new(),
            counters: self.counters.clone(),
            ..*self
        }
    }
}
