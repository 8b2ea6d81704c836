//! libFuzzer program of the body `weft_fuzz::groups::run`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::groups::run(data));
