//! Another platform file for the platform as it runs: checked whole, kept on disk, and carried out by the machine.

use platform::management::{ApplyAnswer, ApplyRequest, Change};
use platform::{Changes, Platform};

use super::view::View;
use super::{Refused, refusal};
use crate::control_node::NodeEntry;
use crate::runtime::{ApplyOrder, Order, PlatformKeys, apply_changes, node_entries};

impl View {
    /// Applies the platform's own file, as it is now.
    ///
    /// # Errors
    ///
    /// When it cannot be read, and as [`Self::apply`].
    pub async fn reload(&self) -> Result<ApplyAnswer, Refused> {
        let platform = Platform::load(&self.platform().path)
            .map_err(|error| Refused::Request(refusal(&error.to_string(), "correct the file")))?;
        self.apply(&ApplyRequest { text: platform.text, dry_run: false }).await
    }

    /// `POST /v1/apply`.
    ///
    /// # Errors
    ///
    /// When the text has a mistake or asks for a change that cannot be made, it cannot be kept, or the pump does not answer.
    pub async fn apply(&self, request: &ApplyRequest) -> Result<ApplyAnswer, Refused> {
        let mut applied = self.applied.lock().await;
        let in_use = self.platform();
        let wanted = Platform::parse(&request.text, &in_use.path).map_err(|error| {
            Refused::Request(refusal(
                &error.to_string(),
                "`switch-server check FILE` says the same; correct the file",
            ))
        })?;
        let keys = PlatformKeys::load(&wanted).map_err(|failure| {
            let hint = failure.hint.as_deref().unwrap_or("`switch-server keys FILE` makes what is missing");
            Refused::Request(refusal(&failure.error, hint))
        })?;
        let wanted_nodes = node_entries(&wanted, &keys);
        let mut changes = changes(&in_use, &wanted)?;
        changes.list.extend(key_changes(&applied.nodes, &wanted_nodes));
        if request.dry_run {
            let epoch = self.machine_status().await?.epoch;
            return Ok(ApplyAnswer { epoch, applied: false, changes: changes.list });
        }
        let entry = wanted.control_node(self.name()).ok_or_else(|| {
            Refused::Request(refusal("the file has no such control node", "nothing was changed"))
        })?;
        let devices = applied.devices.with(&wanted);
        let mut changed = devices.open_after(&applied.devices).map_err(|failure| {
            let hint = failure.hint.as_deref().unwrap_or("see that the device is there");
            Refused::Request(refusal(&failure.error, hint))
        })?;
        let told = apply_changes(&wanted, entry, &self.store, &changes, &keys, &devices);
        let (epoch, mut told, modes) = told.map_err(|error| {
            Refused::Request(refusal(
                &error.to_string(),
                "nothing was changed; see that the state directory can be written, and that no MAC of the file is another's",
            ))
        })?;
        told.nodes = (applied.nodes != wanted_nodes).then(|| wanted_nodes.clone());
        changed.modes = modes;
        let next = applied.after(wanted_nodes, devices, &changed);
        self.order(Order::Apply(Box::new(ApplyOrder { epoch, changes: Box::new(told), devices: changed })))?;
        *applied = next;
        self.replace_platform(wanted);
        Ok(ApplyAnswer { epoch, applied: true, changes: changes.list })
    }
}

fn changes(in_use: &Platform, wanted: &Platform) -> Result<Changes, Refused> {
    if let Some(first) = wanted.not_built_yet().first() {
        let error = format!("{}: {} is not built yet", first.position, first.what);
        return Err(Refused::Request(refusal(&error, "remove it from the file")));
    }
    in_use.changes_to(wanted).map_err(|fixed| {
        let error = format!("cannot change while the platform runs: {}", fixed.join("; "));
        Refused::Request(refusal(
            &error,
            "nothing was changed; end the control node and its nodes, and start them with this file",
        ))
    })
}

/// Nodes that have another key under the same name of its file.
fn key_changes(in_use: &[NodeEntry], wanted: &[NodeEntry]) -> Vec<Change> {
    let other_key = |new: &&NodeEntry| {
        in_use.iter().any(|old| old.number == new.number && old.public_key != new.public_key)
    };
    let change = |node: &NodeEntry| Change {
        lan: String::new(),
        node: node.name.clone(),
        key: "key".to_owned(),
        from: "another".to_owned(),
        to: node.public_key.to_string(),
    };
    wanted.iter().filter(other_key).map(change).collect()
}
