//! The Redis protocol, both ways: bytes of a client become requests, replies become bytes.
//!
//! ```text
//!  received bytes ──▶ Decoder ──▶ Requests ──▶ Args          ranges into those same bytes
//!                                                 │
//!                                      a command runs, and says its answer to
//!                                                 ▼
//!  bytes to send ◀────────────────────────────  Reply        RESP2 or RESP3, straight into the buffer
//! ```
//!
//! - [`request`]: a request as ranges into the bytes it came in; batches of requests.
//! - [`decode`]: received bytes to requests, at any byte boundary, within explicit limits.
//! - [`reply`]: the encoder.
//! - [`value`]: a reply as an owned value, and walking over encoded replies; for clients, tests and merging.
//! - [`number`]: numbers read and written as Redis does, to the last digit.
//! - [`error`]: the ways a client can break the protocol, each with the line Redis answers.
//!
//! What always holds: nothing here waits, reads a clock or does I/O; no buffer is copied to decode a
//! request; and nothing is allocated on the word of a length header, only for bytes that have come.

#![forbid(unsafe_code)]

pub mod decode;
pub mod error;
pub mod number;
pub mod reply;
pub mod request;
pub mod value;

pub use decode::{Decoded, Decoder, Limits};
pub use error::ProtocolError;
pub use number::{format_f64, parse_f64, parse_i64, parse_u64};
pub use reply::{Protocol, Reply};
pub use request::{ArgRange, Args, OwnedArgs, Requests};
pub use value::Value;

/// The randomness of a test: seeded by `EAGLE_SEED` or else anew; the seed is printed, to show if the test fails.
#[cfg(test)]
fn test_random() -> fastrand::Rng {
    let seed = std::env::var("EAGLE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("EAGLE_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}
