//! The `eagle-node` binary.
fn main() {}
