//! libFuzzer program of the body `weft_fuzz::capture_filter::run`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::capture_filter::run(data));
