//! libFuzzer program of the body `weft_fuzz::lan_proxy::run`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::lan_proxy::run(data));
