//! libFuzzer program of the body `weft_fuzz::ether_frame::run`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::ether_frame::run(data));
