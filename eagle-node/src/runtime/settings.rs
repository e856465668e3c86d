//! Settings that act on the process are changed by the main thread: `port`, `bind`, `tcp-keepalive`, `tls-*` and `dir` of `CONFIG SET`.
//!
//! ```text
//!  core: CONFIG SET ─▶ Actions::configure ─▶ main thread: enter the folder, listen, publish, leave the old ports
//!        all cores reload, accept anew  ◀─ Event::Configured ◀─┘
//!        +OK
//! ```
//!
//! A core does not block on name servers and folders, and two clients' changes come one after the other. All pairs of one `CONFIG SET`
//! change or none; where several are wrong, the one that Redis 7.2 (`src/config.c: configSetCommand`) complains of is complained of:
//! values are set in their order, `dir` is entered as it is set, and listening comes after all of them.

use std::{
    env,
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{Arc, mpsc::Sender},
};

use super::{certificates, listener::Wanted, listening::Listening, mesh::Alarm, published::Published};
use crate::{
    config::{
        Config,
        set::{Refusal, SetError},
        table,
    },
    core::event::Configure,
    shared::Shared,
};

/// What a core is answered: whose it is, and what came of it.
pub(super) type Configured = (u32, Result<(), SetError>);

/// A core's wish to change settings.
#[derive(Debug)]
pub(super) struct Wish {
    /// What it wants.
    pub(super) configure: Configure,
    /// Where the answer goes.
    pub(super) answer: Sender<Configured>,
}

/// What is needed to change them.
pub(super) struct Settings<'a> {
    pub(super) shared: &'a Shared,
    /// Where the node listens, for the cores to see.
    pub(super) listening: &'a Published<Arc<Listening>>,
    pub(super) alarm: &'a Alarm,
    pub(super) cores: u16,
}

impl Settings<'_> {
    /// Does what a core wishes, or nothing of it, and tells the core.
    pub(super) fn grant(&self, wish: &Wish) {
        let result = self.change(&wish.configure);
        // The core is gone only when the node ends.
        let _ = wish.answer.send((wish.configure.gather, result));
        self.alarm.ring();
    }

    fn change(&self, configure: &Configure) -> Result<(), SetError> {
        let pairs = configure.pairs();
        let before = env::current_dir();
        let folder = self.enter(configure, &pairs)?;
        let listened = self.listen(configure, &pairs, folder.as_deref());
        if let (Err(_), Some(_)) = (&listened, folder)
            && let Err(error) = before.and_then(env::set_current_dir)
        {
            tracing::error!(%error, "could not go back to the working directory");
        }
        listened
    }

    /// Enters `dir` if it is among the pairs and none before it is wrong. Returns where the process is then.
    fn enter(&self, configure: &Configure, pairs: &[(&[u8], &[u8])]) -> Result<Option<PathBuf>, SetError> {
        let (_, config) = self.shared.config();
        if let Err(error) = config.with(pairs, configure.is_local)
            && !matches!(error, SetError::Refused(_, Refusal::Wrong(_)))
        {
            return Err(error);
        }
        let is_dir = |(name, _): &(&[u8], &[u8])| table::find(name).is_some_and(|row| row.name == "dir");
        let Some(at) = pairs.iter().position(is_dir) else { return Ok(None) };
        config.with(&pairs[..at], configure.is_local)?;
        let path = Path::new(OsStr::from_bytes(pairs[at].1));
        let entered = env::set_current_dir(path).and_then(|()| env::current_dir());
        entered.map(Some).map_err(|error| refused("dir", Refusal::System(code(&error))))
    }

    /// Listens where it is wanted, publishes, and listens no more where it is not.
    fn listen(&self, configure: &Configure, pairs: &[(&[u8], &[u8])], folder: Option<&Path>) -> Result<(), SetError> {
        let changed = |present: &Config| {
            let mut changed = present.with(pairs, configure.is_local)?;
            if let Some(folder) = folder {
                changed.dir = folder.display().to_string();
            }
            Ok(changed)
        };
        let (_, present) = self.shared.config();
        let next = changed(&present)?;
        let old = self.listening.load().clone();
        let listened = match to_listen(pairs, &present, &next) {
            None => Ok((*old).clone()),
            Some(refusal) => old.change(&Wanted::from(&next), self.cores).map_err(|error| {
                tracing::warn!("could not listen anew: {error}");
                refusal
            }),
        };
        let mut listened = listened?;
        if let Some(name) = speaks_anew(pairs) {
            let acceptor = certificates::read(&next).map_err(|why| {
                tracing::warn!("TLS stays as it is: {why}");
                refused(name, Refusal::Tls)
            });
            match acceptor {
                Ok(acceptor) => listened = listened.accepting(acceptor),
                Err(refusal) => {
                    // What was listened on for it is left again.
                    listened.leave(&old);
                    return Err(refusal);
                }
            }
        }
        let new = Arc::new(listened);
        new.keep_alive(next.tcp_keepalive_s);
        self.listening.update(|_| Ok::<_, SetError>(new.clone()))?;
        // What is right once is right for what another client has made of the configuration meanwhile.
        self.shared.change_config(changed)?;
        old.leave(&new);
        Ok(())
    }
}

/// Whether it is to be listened anew, and of which directive is complained if that cannot be: the first that asks for it.
fn to_listen(pairs: &[(&[u8], &[u8])], present: &Config, next: &Config) -> Option<SetError> {
    let named = pairs.iter().filter_map(|(name, _)| table::find(name));
    let mut refusals = named.filter_map(|row| match row.name {
        "port" if next.port != present.port => Some(refused("port", Refusal::Port)),
        "tls-port" if next.tls.port != present.tls.port => Some(refused("tls-port", Refusal::Port)),
        "bind" => Some(refused("bind", Refusal::Bind)),
        _ => None,
    });
    refusals.next()
}

/// The first directive that is about TLS, if there is one: then certificates are read again, even if all is as before.
fn speaks_anew(pairs: &[(&[u8], &[u8])]) -> Option<&'static str> {
    pairs.iter().filter_map(|(name, _)| table::find(name)).map(|row| row.name).find(|name| name.starts_with("tls-"))
}

fn refused(name: &str, refusal: Refusal) -> SetError {
    SetError::Refused(name.as_bytes().to_vec(), refusal)
}

/// An error number; of a path with a zero byte, which the system never sees, that of an invalid one.
fn code(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EINVAL)
}
