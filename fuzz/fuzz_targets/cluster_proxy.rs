//! libFuzzer program of the body `weft_fuzz::cluster_proxy::run`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::cluster_proxy::run(data));
