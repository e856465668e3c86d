//! A shard in this process that answers requests: no sockets, no node, a clock of its own.

use std::time::Duration;

use eagle_resp::{OwnedArgs, Protocol, Reply};
use eagle_shard::{
    call::{Call, DbId, UnixMs},
    command::{
        self,
        lookup::Lookup,
        refusal::{self, Named},
    },
    shard::{Shard, ShardConfig},
};

use super::Target;

/// When the clock begins: some day in 2023.
const BEGIN: UnixMs = UnixMs(1_700_000_000_000);

/// A shard with one connection.
pub struct ShardTarget {
    config: ShardConfig,
    shard: Shard,
    lookup: Lookup,
    now: UnixMs,
    db: DbId,
    protocol: Protocol,
}

impl ShardTarget {
    /// A shard that is made so.
    #[must_use]
    pub fn new(config: ShardConfig) -> Self {
        Self {
            shard: empty(&config),
            config,
            lookup: Lookup::new(command::rows()),
            now: BEGIN,
            db: DbId(0),
            protocol: Protocol::Resp2,
        }
    }

    fn dispatch(&mut self, request: &OwnedArgs, out: &mut Vec<u8>) {
        let args = request.as_args();
        let mut reply = Reply::new(out, self.protocol);
        let spec = match refusal::find(&self.lookup, args) {
            Named::Row(spec) => spec,
            Named::Unknown => return reply.error_bytes(&refusal::unknown_command(args)),
            Named::UnknownSubcommand(container) => {
                return reply.error_bytes(&refusal::unknown_subcommand(container, args));
            }
        };
        if let Err(error) = refusal::check_arity(spec, args) {
            let mut line = String::new();
            error.write(&mut line);
            return reply.error_line(&line);
        }
        let (db, now) = (self.db, self.now);
        self.shard.execute(&mut Call { spec, args, db, now, first: None, reply });
    }
}

fn empty(config: &ShardConfig) -> Shard {
    Shard::new(config.clone()).expect("memory for a small shard")
}

impl Target for ShardTarget {
    fn fresh(&mut self) {
        self.shard = empty(&self.config);
        (self.now, self.db, self.protocol) = (BEGIN, DbId(0), Protocol::Resp2);
    }

    fn protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    fn database(&mut self, db: u8) {
        self.db = DbId(db);
    }

    fn advance(&mut self, by: Duration) {
        self.now.0 += u64::try_from(by.as_millis()).expect("a transcript is short");
    }

    fn ask(&mut self, request: &OwnedArgs) -> Vec<u8> {
        let mut out = Vec::new();
        self.dispatch(request, &mut out);
        self.shard.check().expect("the shard is whole after every command");
        out
    }
}
