//! The `eagle-bench` binary.
fn main() {}
