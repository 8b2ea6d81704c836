//! libFuzzer program of the body `weft_fuzz::super_frame::run`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::super_frame::run(data));
