#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgdog_fuzz::bodies::tls(data));
