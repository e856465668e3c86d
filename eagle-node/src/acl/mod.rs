//! Access control lists: who may connect, and what each user may do with which keys and channels.
//!
//! ```text
//!  ACL SETUSER, user lines, aclfile ─▶ rules ─▶ User ─┬─ passwords, on or off
//!                                                     └─ selectors: bits of commands, patterns of keys and channels
//!  Config ─▶ Arc<Acl> ─▶ Arc<User> ◀─ Session          published with the configuration, shared by all cores, never changed
//! ```
//!
//! An [`Acl`] is a value: whoever changes it makes another, which is published as a part of the configuration; when a core takes
//! that over it gives each of its sessions the user of the same name, and closes those whose user is gone. So a change holds on
//! all cores when its reply leaves, and a check ([`User::check`]) reads immutable memory only, and allocates nothing. A session
//! whose user may do everything is not checked at all.
//!
//! Rules, their texts and their errors are those of Redis 7.2 (`src/acl.c`).

pub mod file;
pub mod log;
pub mod password;
pub mod selector;
pub mod user;

use std::{collections::BTreeMap, fmt, sync::Arc};

pub use self::{
    selector::{Channels, Denied},
    user::User,
};

/// The user that a connection is before it says another name.
pub const DEFAULT_USER: &[u8] = b"default";

/// Why a rule cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// No command or category of this name.
    Unknown,
    /// It is no rule.
    Syntax,
    /// A pattern of keys beside the one of all.
    AllKeys,
    /// A pattern of channels beside the one of all.
    AllChannels,
    /// A password that is to go is not there.
    NoPassword,
    /// It is not the hash of a password.
    Hash,
    /// A first argument of what is a subcommand already.
    FirstArgument,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "Unknown command or category name in ACL",
            Self::Syntax => "Syntax error",
            Self::AllKeys => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. \
                 Try 'resetkeys' to start with an empty list of patterns"
            }
            Self::AllChannels => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any \
                 effect. Try 'resetchannels' to start with an empty list of channels"
            }
            Self::NoPassword => "The password you are trying to remove from the user does not exist",
            Self::Hash => {
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
            }
            Self::FirstArgument => "Allowing first-arg of a subcommand is not supported",
        })
    }
}

/// Why a user cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    /// A name with blanks or zero bytes.
    Name,
    /// The parenthesis that begins at this word has no end.
    Parenthesis(Vec<u8>),
    /// This rule.
    Rule(Vec<u8>, RuleError),
}

/// All users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    users: BTreeMap<Vec<u8>, Arc<User>>,
    /// The number of the user that is made next.
    next: u64,
}

impl Default for Acl {
    /// The default user alone, who may do everything without a password.
    fn default() -> Self {
        let default = Arc::new(User::unrestricted(DEFAULT_USER, 0));
        Self { users: BTreeMap::from([(DEFAULT_USER.to_vec(), default)]), next: 1 }
    }
}

impl Acl {
    /// The user of this name.
    #[must_use]
    pub fn user(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// The default user, who is always there.
    #[must_use]
    pub fn default_user(&self) -> &Arc<User> {
        self.users.get(DEFAULT_USER).expect("the default user is never removed")
    }

    /// Users by name.
    pub fn users(&self) -> impl ExactSizeIterator<Item = &Arc<User>> {
        self.users.values()
    }

    /// What a user is in a later list; `None` if it is not there any more, were it that another of its name is.
    #[must_use]
    pub fn again(&self, user: &User) -> Option<&Arc<User>> {
        self.user(user.name()).filter(|found| found.number() == user.number())
    }

    /// A list in which these rules are applied to a user, new if there was none: all of them, or an error. `channels` is what a
    /// new user and a new selector may use.
    ///
    /// # Errors
    /// Names the first word that is wrong.
    pub fn with_user(&self, name: &[u8], rules: &[&[u8]], channels: Channels) -> Result<Self, SetError> {
        if selector::has_blanks(name) {
            return Err(SetError::Name);
        }
        let rules = user::merged(rules).map_err(SetError::Parenthesis)?;
        let mut changed = self.clone();
        let mut user = match self.user(name) {
            Some(user) => (**user).clone(),
            None => {
                changed.next += 1;
                User::new(name, self.next, channels)
            }
        };
        for rule in rules {
            if let Err(error) = user.apply(&rule, channels) {
                return Err(SetError::Rule(rule, error));
            }
        }
        changed.users.insert(name.to_vec(), Arc::new(user));
        Ok(changed)
    }

    /// A list without these users, and how many of them there were. The default user stays.
    #[must_use]
    pub fn without(&self, names: &[&[u8]]) -> (Self, usize) {
        let mut changed = self.clone();
        let gone = |name: &&&[u8]| **name != DEFAULT_USER && changed.users.remove(**name).is_some();
        let count = names.iter().filter(gone).count();
        (changed, count)
    }

    /// A list in which the default user has this password alone, or with an empty one needs none: `requirepass`.
    #[must_use]
    pub fn with_password(&self, password: &[u8]) -> Self {
        let mut user = (**self.default_user()).clone();
        user.set_password(password);
        let mut changed = self.clone();
        changed.users.insert(DEFAULT_USER.to_vec(), Arc::new(user));
        changed
    }

    /// A list in which the default user is as it was made first, to be described anew.
    #[must_use]
    pub fn with_default_reset(&self, channels: Channels) -> Self {
        self.with_user(DEFAULT_USER, &[b"reset"], channels).expect("a rule of the grammar")
    }

    /// This list's users, the default one added if it is missing; those that the present list has too are the same users as before.
    fn replacing(mut self, present: &Self) -> Self {
        self.next = present.next;
        for (name, user) in &mut self.users {
            let number = present.user(name).map_or_else(
                || {
                    self.next += 1;
                    self.next - 1
                },
                |old| old.number(),
            );
            Arc::make_mut(user).renumber(number);
        }
        let number = present.default_user().number();
        let default = || Arc::new(User::unrestricted(DEFAULT_USER, number));
        self.users.entry(DEFAULT_USER.to_vec()).or_insert_with(default);
        self
    }

    /// The lines that describe all users, as `ACL LIST`, the file and `redis.conf` have them.
    #[must_use]
    pub fn lines(&self) -> Vec<Vec<u8>> {
        self.users().map(|user| user.line()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(acl: &Acl, name: &str, rules: &str) -> Acl {
        let rules: Vec<&[u8]> = rules.split(' ').map(str::as_bytes).collect();
        acl.with_user(name.as_bytes(), &rules, Channels::None).unwrap()
    }

    #[test]
    fn a_user_is_another_after_it_was_gone() {
        // Who changes stays who it was; who was deleted and made again does not, nor does a name that a file left out.
        let first = set(&Acl::default(), "a", "on");
        let a = first.user(b"a").unwrap().clone();
        let changed = set(&first, "a", "off");
        assert!(changed.again(&a).is_some());
        let (gone, count) = changed.without(&[b"a", b"nobody", b"default"]);
        assert_eq!((count, gone.again(&a)), (1, None));
        assert_eq!(set(&gone, "a", "on").again(&a), None);
        let loaded = file::parse(b"user a on +get\n", "users.acl", Channels::None).unwrap();
        let loaded = loaded.replacing(&changed);
        assert!(loaded.again(&a).is_some() && loaded.default_user().is_open());
    }

    #[test]
    fn nothing_is_changed_by_a_list_of_rules_with_a_mistake() {
        // The first word that is wrong is named, and there is no new list at all.
        let acl = Acl::default();
        let refused = |rules: &[&[u8]]| acl.with_user(b"a", rules, Channels::None).unwrap_err();
        assert_eq!(refused(&[b"on", b"+nosuch"]), SetError::Rule(b"+nosuch".to_vec(), RuleError::Unknown));
        assert_eq!(refused(&[b"(+get", b"~x"]), SetError::Parenthesis(b"(+get".to_vec()));
        assert_eq!(acl.with_user(b"a b", &[], Channels::None).unwrap_err(), SetError::Name);
    }
}
