//! libFuzzer program of the body `weft_fuzz::control_node::run`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::control_node::run(data));
