//! What is asked of a running lab on its own socket, and what it answers.

use std::time::Instant;

use platform::management::{LabAnswer, LabRequest};

use super::control::refuse;
use super::{Lab, LabEvent};
use crate::failure::Failure;

impl Lab {
    /// Carries out what whoever has connected asks for.
    pub(super) fn handle_control(&mut self, now: Instant) {
        let Some(mut caller) = self.control.accept() else { return };
        let answer = match caller.read_request() {
            Ok(LabRequest::Restart { name }) => {
                self.start_again(&name, now).map(|pid| LabAnswer::Started { pid })
            }
            Ok(LabRequest::Fabric { name, up }) => self.set_fabric(name, up),
            Err(error) => Err(Failure::runtime(format_args!("cannot read the request: {error}"))),
        };
        caller
            .answer(&answer.unwrap_or_else(|failure| {
                refuse(failure.error, failure.hint.as_deref().unwrap_or_default())
            }));
    }

    fn set_fabric(&mut self, name: String, up: bool) -> Result<LabAnswer, Failure> {
        let Some(underlays) = &mut self.underlays else { return Err(self.no_lab_network(&name)) };
        self.changed = true;
        let joined = underlays.set_fabric(&name, up).map_err(|error| {
            Failure::runtime(format_args!("fabric {name}: {error}")).hint("ask for it once more")
        })?;
        let Some(processes) = joined else { return Err(self.no_lab_network(&name)) };
        self.events.push_back(LabEvent::Fabric { name: name.clone(), up });
        Ok(LabAnswer::Fabric { name, up, processes: u32::try_from(processes).unwrap_or(u32::MAX) })
    }

    fn no_lab_network(&self, name: &str) -> Failure {
        let fabrics = &self.plan.fabrics;
        if fabrics.iter().any(|fabric| fabric.name == name) {
            return Failure::runtime(format_args!(
                "fabric {name} has no lab network that could be taken down"
            ))
            .hint("give it one under [[fabric]], lab-network = \"172.31.1.0/24\", and start the lab again");
        }
        let names: Vec<&str> = fabrics.iter().map(|fabric| fabric.name.as_str()).collect();
        Failure::runtime(format_args!("the lab has no fabric {name}"))
            .hint(format_args!("its fabrics are {}", names.join(", ")))
    }
}
