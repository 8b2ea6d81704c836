//! libFuzzer program of the body `weft_fuzz::packet_transport::run`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::packet_transport::run(data));
