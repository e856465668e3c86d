//! Bodies of the fuzz targets: each takes any bytes and panics if what must hold does not.
//!
//! They live here and not in the targets (`tests/fuzz`), so that an ordinary test replays every input that was ever worth keeping
//! (`tests/corpus.rs`), on any toolchain. To hunt for new ones: `cd tests && cargo fuzz run -s none decode`, and the same with
//! `command` and `open`.

mod command;
mod decode;
mod open;

pub use command::command;
pub use decode::decode;
pub use open::open;
