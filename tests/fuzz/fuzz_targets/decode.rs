//! Fuzzes the request decoder: `cd tests && cargo fuzz run -s none decode`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| eagle_tests::fuzz::decode(data));
