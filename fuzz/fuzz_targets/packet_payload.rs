//! libFuzzer program of the body `weft_fuzz::packet_payload::run`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::packet_payload::run(data));
