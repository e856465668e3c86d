//! Fuzzes the opener of pools: `cd tests && cargo fuzz run -s none open -- -max_len=300000`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| eagle_tests::fuzz::open(data));
