//! Faults that a control node has a node's host put on its packets.

use super::*;

#[test]
fn a_fault_is_the_hosts_to_carry_out() {
    let mut node = node();
    let mut control = Far::control(&mut node, 1);
    let fault = Fault::new(Some(LegNumber(1)), FaultDirection::Both, "off").expect("a short text");
    control.tell(&mut node, &ControlMessage::Fault(fault.clone()));
    let mut outputs = core::iter::from_fn(|| node.poll_output());
    assert!(outputs.any(|output| output == Output::Fault(fault.clone())));
}

#[test]
fn faults_end_with_the_control_session() {
    //= spec/leg-udp.md#the-end-of-faults
    //= type=test
    //# A node MUST take off every fault that it was asked for when no control node has it attached any more.
    for spec in ["loss=100%", "off"] {
        let mut node = node();
        let mut control = Far::control(&mut node, 1);
        let fault = Fault::new(None, FaultDirection::Both, spec).expect("a short text");
        control.tell(&mut node, &ControlMessage::Fault(fault.clone()));
        while node.poll_output().is_some() {}
        lose_control(&mut node, 1);
        let mut outputs = core::iter::from_fn(|| node.poll_output());
        assert_eq!(outputs.any(|output| output == Output::Fault(Fault::end())), !fault.is_end());
    }
}
