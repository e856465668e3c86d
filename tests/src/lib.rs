//! What the tests of several crates share: the simulator, processes, clients that sees exact replies, what it knows of its writes.

pub mod account;
pub mod cells;
pub mod fuzz;
pub mod grammar;
pub mod http;
pub mod medium;
pub mod memory;
pub mod process;
pub mod sim;
pub mod transcript;
pub mod wire;

use std::ops::Range;

/// The seeds of a random test: `EAGLE_SEED` alone where it is set, else the given ones, ten times as many with
/// `EAGLE_LONG`.
///
/// # Panics
/// `EAGLE_SEED` is no number.
pub fn seeds(usual: Range<u64>) -> Box<dyn Iterator<Item = u64>> {
    if let Ok(seed) = std::env::var("EAGLE_SEED") {
        return Box::new(std::iter::once(seed.parse().expect("EAGLE_SEED is a number")));
    }
    let many = if std::env::var_os("EAGLE_LONG").is_some() { 10 } else { 1 };
    Box::new(usual.start..usual.start + (usual.end - usual.start) * many)
}
