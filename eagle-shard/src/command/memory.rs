//! What a shard does of MEMORY, whose rows are the node's: `MEMORY USAGE`.

use super::first_key;
use crate::{call::Call, command::args::is, error::Error, shard::Shard};

/// `MEMORY USAGE key [SAMPLES count]`: the reply is the bytes that the key takes, records and its share of the index. These are known
/// exactly, so the number of samples does not matter.
///
/// # Errors
/// Those of the arguments.
pub fn usage(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 2)?;
    let mut index = 3;
    while let Some(option) = call.args.get(index) {
        let count = call.args.get(index + 1).filter(|_| is(option, "SAMPLES")).ok_or(Error::Syntax)?;
        if eagle_resp::number::parse_i64(count).ok_or(Error::NotInteger)? < 0 {
            return Err(Error::Syntax);
        }
        index += 2;
    }
    match shard.find(call.db, key, call.now) {
        Some(found) => call.reply.integer(shard.memory_usage(found) as i64),
        None => call.reply.null(),
    }
    Ok(())
}
