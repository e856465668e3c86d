//! Fuzzes the commands: `cd tests && cargo fuzz run -s none command -- -dict=fuzz/command.dict`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| eagle_tests::fuzz::command(data));
