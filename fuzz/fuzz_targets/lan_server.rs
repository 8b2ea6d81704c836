//! libFuzzer program of the body `weft_fuzz::lan_server::run`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::lan_server::run(data));
