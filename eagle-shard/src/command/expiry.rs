//! When keys expire: setting, asking, removing.
//!
//! Redis counts expiries in 64 bits of milliseconds, records carry 48: what lies beyond the year 10889 is kept as that. Setting an
//! expiry that has come deletes the key.

use super::{
    GENERIC,
    args::{self, Clock, Options, Unit, is, unix_ms},
    first_key, look,
    refusal::quoted,
};
use crate::{
    call::{Call, UnixMs},
    error::Error,
    shard::Shard,
    spec::{Flags, KeyFlags, KeySpec, Run, Spec},
};

pub(super) const ROWS: &[Spec] = &[
    Spec {
        name: "expire",
        syntax: "key seconds [condition@7.0.0: NX | XX | GT | LT]",
        arity: -3,
        flags: Flags::WRITE_FAST,
        keys: &[KeySpec::one(1, KeyFlags::CHANGE)],
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Sets the expiration time of a key in seconds.",
        history: &[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
        run: Run::Shard(expire),
        ..GENERIC
    },
    Spec {
        name: "pexpire",
        syntax: "key milliseconds [condition@7.0.0: NX | XX | GT | LT]",
        arity: -3,
        flags: Flags::WRITE_FAST,
        keys: &[KeySpec::one(1, KeyFlags::CHANGE)],
        since: "2.6.0",
        complexity: "O(1)",
        summary: "Sets the expiration time of a key in milliseconds.",
        history: &[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
        run: Run::Shard(pexpire),
        ..GENERIC
    },
    Spec {
        name: "expireat",
        syntax: "key unix-time-seconds [condition@7.0.0: NX | XX | GT | LT]",
        arity: -3,
        flags: Flags::WRITE_FAST,
        keys: &[KeySpec::one(1, KeyFlags::CHANGE)],
        since: "1.2.0",
        complexity: "O(1)",
        summary: "Sets the expiration time of a key to a Unix timestamp.",
        history: &[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
        run: Run::Shard(expireat),
        ..GENERIC
    },
    Spec {
        name: "pexpireat",
        syntax: "key unix-time-milliseconds [condition@7.0.0: NX | XX | GT | LT]",
        arity: -3,
        flags: Flags::WRITE_FAST,
        keys: &[KeySpec::one(1, KeyFlags::CHANGE)],
        since: "2.6.0",
        complexity: "O(1)",
        summary: "Sets the expiration time of a key to a Unix milliseconds timestamp.",
        history: &[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
        run: Run::Shard(pexpireat),
        ..GENERIC
    },
    Spec {
        name: "ttl",
        syntax: "key",
        arity: 2,
        flags: Flags::READ_FAST,
        keys: &[KeySpec::one(1, KeyFlags::SHOW)],
        tips: &["nondeterministic_output"],
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Returns the expiration time in seconds of a key.",
        history: &[("2.8.0", "Added the -2 reply.")],
        run: Run::Shard(ttl),
        ..GENERIC
    },
    Spec {
        name: "pttl",
        syntax: "key",
        arity: 2,
        flags: Flags::READ_FAST,
        keys: &[KeySpec::one(1, KeyFlags::SHOW)],
        tips: &["nondeterministic_output"],
        since: "2.6.0",
        complexity: "O(1)",
        summary: "Returns the expiration time in milliseconds of a key.",
        history: &[("2.8.0", "Added the -2 reply.")],
        run: Run::Shard(pttl),
        ..GENERIC
    },
    Spec {
        name: "expiretime",
        syntax: "key",
        arity: 2,
        flags: Flags::READ_FAST,
        keys: &[KeySpec::one(1, KeyFlags::SHOW)],
        since: "7.0.0",
        complexity: "O(1)",
        summary: "Returns the expiration time of a key as a Unix timestamp.",
        run: Run::Shard(expiretime),
        ..GENERIC
    },
    Spec {
        name: "pexpiretime",
        syntax: "key",
        arity: 2,
        flags: Flags::READ_FAST,
        keys: &[KeySpec::one(1, KeyFlags::SHOW)],
        since: "7.0.0",
        complexity: "O(1)",
        summary: "Returns the expiration time of a key as a Unix milliseconds timestamp.",
        run: Run::Shard(pexpiretime),
        ..GENERIC
    },
    Spec {
        name: "persist",
        syntax: "key",
        arity: 2,
        flags: Flags::WRITE_FAST,
        keys: &[KeySpec::one(1, KeyFlags::CHANGE)],
        since: "2.2.0",
        complexity: "O(1)",
        summary: "Removes the expiration time of a key.",
        run: Run::Shard(persist),
        ..GENERIC
    },
];

fn expire(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    expire_on(shard, call, Clock::EX)
}

fn pexpire(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    expire_on(shard, call, Clock::PX)
}

fn expireat(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    expire_on(shard, call, Clock::EXAT)
}

fn pexpireat(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    expire_on(shard, call, Clock::PXAT)
}

fn expire_on(shard: &mut Shard, call: &mut Call<'_>, clock: Clock) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let conditions = match Conditions::parse(Options::new(call.args, 3)) {
        Ok(conditions) => conditions,
        Err(Refused::Unknown(word)) => {
            let line: Vec<u8> = b"ERR Unsupported option ".iter().copied().chain(quoted(word, usize::MAX)).collect();
            call.reply.error_bytes(&line);
            return Ok(());
        }
        Err(Refused::Conflict(error)) => return Err(error),
    };
    let amount = args::integer(call.arg(2)?)?;
    let time = clock.time(amount, call.now).ok_or(Error::InvalidExpire(call.spec.name))?;
    let Some(found) = shard.find(call.db, key, call.now) else {
        call.reply.integer(0);
        return Ok(());
    };
    let until = unix_ms(time);
    if !conditions.hold(shard.expiry(found), until) {
        call.reply.integer(0);
        return Ok(());
    }
    if until <= call.now {
        shard.remove(call.db, key, found);
    } else {
        shard.set_expiry(call.db, key, found, Some(until))?;
    }
    call.reply.integer(1);
    Ok(())
}

/// Under which conditions `EXPIRE` sets.
#[derive(Clone, Copy, Debug, Default)]
struct Conditions {
    /// `NX`: there is no expiry.
    none: bool,
    /// `XX`: there is one.
    some: bool,
    /// `GT`: the new one is later; none is the latest.
    later: bool,
    /// `LT`: the new one is earlier.
    earlier: bool,
}

/// What is wrong with conditions.
#[derive(Clone, Copy, Debug)]
enum Refused<'a> {
    Unknown(&'a [u8]),
    Conflict(Error),
}

impl Conditions {
    fn parse(options: Options<'_>) -> Result<Self, Refused<'_>> {
        const NX: &str = "ERR NX and XX, GT or LT options at the same time are not compatible";
        const GT_LT: &str = "ERR GT and LT options at the same time are not compatible";
        let mut conditions = Self::default();
        for word in options {
            match word {
                _ if is(word, "NX") => conditions.none = true,
                _ if is(word, "XX") => conditions.some = true,
                _ if is(word, "GT") => conditions.later = true,
                _ if is(word, "LT") => conditions.earlier = true,
                _ => return Err(Refused::Unknown(word)),
            }
        }
        let Self { none, some, later, earlier } = conditions;
        match () {
            () if none && (some || later || earlier) => Err(Refused::Conflict(Error::Line(NX))),
            () if later && earlier => Err(Refused::Conflict(Error::Line(GT_LT))),
            () => Ok(conditions),
        }
    }

    fn hold(self, old: Option<UnixMs>, new: UnixMs) -> bool {
        let none = !self.none || old.is_none();
        let some = !self.some || old.is_some();
        let later = !self.later || old.is_some_and(|old| new > old);
        let earlier = !self.earlier || old.is_none_or(|old| new < old);
        none && some && later && earlier
    }
}

fn ttl(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    tell(shard, call, Unit::Seconds, |until, now| until.0.saturating_sub(now.0))
}

fn pttl(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    tell(shard, call, Unit::Milliseconds, |until, now| until.0.saturating_sub(now.0))
}

fn expiretime(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    tell(shard, call, Unit::Seconds, |until, _| until.0)
}

fn pexpiretime(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    tell(shard, call, Unit::Milliseconds, |until, _| until.0)
}

/// Replies with a key's expiry: -2 if it is not there, -1 if it has none, else what `ms` makes of it, in this unit.
#[inline]
fn tell(
    shard: &mut Shard,
    call: &mut Call<'_>,
    unit: Unit,
    ms: impl FnOnce(UnixMs, UnixMs) -> u64,
) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let until = look(shard, call, key).map(|found| shard.expiry(found));
    call.reply.integer(match (until, unit) {
        (None, _) => -2,
        (Some(None), _) => -1,
        // Of 48 bits. Seconds are rounded, so that a TTL just set reads as it was set.
        (Some(Some(until)), Unit::Milliseconds) => ms(until, call.now) as i64,
        (Some(Some(until)), Unit::Seconds) => ((ms(until, call.now) + 500) / 1000) as i64,
    });
    Ok(())
}

fn persist(shard: &mut Shard, call: &mut Call<'_>) -> Result<(), Error> {
    let key = first_key(shard, call, 1)?;
    let found = shard.find(call.db, key, call.now);
    let found = found.filter(|found| shard.expiry(*found).is_some());
    if let Some(found) = found {
        shard.set_expiry(call.db, key, found, None)?;
    }
    call.reply.integer(i64::from(found.is_some()));
    Ok(())
}
