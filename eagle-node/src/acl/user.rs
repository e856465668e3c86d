//! A user: passwords, whether it may come in, and its selectors.

use eagle_resp::Args;

use super::{
    RuleError,
    password::Hash,
    selector::{Channels, Denied, Selector},
};
use crate::command::Row;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    name: Vec<u8>,
    /// Unique in the node's life: who is deleted and made again is another.
    number: u64,
    is_on: bool,
    /// Every password is right.
    nopass: bool,
    /// `RESTORE` is to look at what it is given; without effect, as there is none that would not.
    sanitizes: bool,
    passwords: Vec<Hash>,
    /// What the user itself may do.
    root: Selector,
    /// What it may do besides.
    others: Vec<Selector>,
}

impl User {
    /// One that may do nothing and not come in.
    #[must_use]
    pub fn new(name: &[u8], number: u64, channels: Channels) -> Self {
        Self {
            name: name.to_vec(),
            number,
            is_on: false,
            nopass: false,
            sanitizes: true,
            passwords: Vec::new(),
            root: Selector::new(channels),
            others: Vec::new(),
        }
    }

    /// One that may do everything without a password.
    #[must_use]
    pub fn unrestricted(name: &[u8], number: u64) -> Self {
        let mut user = Self::new(name, number, Channels::All);
        for rule in ["+@all", "~*", "on", "nopass"] {
            user.apply(rule.as_bytes(), Channels::All).expect("a rule of the grammar");
        }
        user
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn renumber(&mut self, number: u64) {
        self.number = number;
    }

    /// Whether it comes in without a word; as the default user, every connection does.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_on && self.nopass
    }

    /// Whether every password is right.
    #[must_use]
    pub fn needs_no_password(&self) -> bool {
        self.nopass
    }

    /// Whether it may not come in.
    #[must_use]
    pub fn is_off(&self) -> bool {
        !self.is_on
    }

    /// Whether it may come in with this password.
    #[must_use]
    pub fn admits(&self, password: &[u8]) -> bool {
        if !self.is_on || self.nopass {
            return self.is_on;
        }
        let given = Hash::of(password);
        // All are compared, whichever is right.
        self.passwords.iter().fold(false, |right, known| right | known.matches(&given))
    }

    /// Whether it may do everything.
    #[must_use]
    pub fn is_unrestricted(&self) -> bool {
        self.selectors().any(Selector::is_unrestricted)
    }

    /// Whether it may do what a request asks for.
    ///
    /// # Errors
    /// What it may not: where several selectors deny, the last key or channel that none allows.
    pub fn check(&self, row: &Row, args: Args<'_>) -> Result<(), Denied> {
        let mut worst = Denied::Command;
        for selector in self.selectors() {
            match selector.check(row, args) {
                Ok(()) => return Ok(()),
                Err(denied) => worst = worst.max(denied),
            }
        }
        Err(worst)
    }

    /// Whether it may use a channel, or subscribe to a pattern of them.
    #[must_use]
    pub fn may_use_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.selectors().any(|selector| selector.allows_channel(channel, is_pattern))
    }

    fn selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.root).chain(&self.others)
    }

    /// What the user itself may do.
    #[must_use]
    pub fn root(&self) -> &Selector {
        &self.root
    }

    /// What it may do besides.
    #[must_use]
    pub fn others(&self) -> &[Selector] {
        &self.others
    }

    /// Hashes of its passwords.
    #[must_use]
    pub fn passwords(&self) -> &[Hash] {
        &self.passwords
    }

    /// What is said of it that is neither password nor permission.
    #[must_use]
    pub fn flags(&self) -> Vec<&'static str> {
        let all = [
            (self.is_on, "on"),
            (!self.is_on, "off"),
            (self.nopass, "nopass"),
            (!self.sanitizes, "skip-sanitize-payload"),
            (self.sanitizes, "sanitize-payload"),
        ];
        all.into_iter().filter(|(is, _)| *is).map(|(_, flag)| flag).collect()
    }

    /// The line that makes it: `user name on ...`.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        let mut line = [b"user ", &self.name[..], b" "].concat();
        for flag in self.flags() {
            line.extend([flag.as_bytes(), b" "].concat());
        }
        for password in &self.passwords {
            line.extend(format!("#{password} ").into_bytes());
        }
        line.extend(self.root.text());
        for other in &self.others {
            line.extend([b" (", &other.text()[..], b")"].concat());
        }
        line
    }

    /// This password alone, or with an empty one none is needed.
    pub fn set_password(&mut self, password: &[u8]) {
        self.passwords.clear();
        self.nopass = password.is_empty();
        if !password.is_empty() {
            self.passwords.push(Hash::of(password));
        }
    }

    /// Applies a rule.
    ///
    /// # Errors
    /// It is none, or cannot be applied; nothing is changed then.
    pub fn apply(&mut self, rule: &[u8], channels: Channels) -> Result<(), RuleError> {
        let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
        match rule {
            [] => {}
            _ if is("on") => self.is_on = true,
            _ if is("off") => self.is_on = false,
            _ if is("skip-sanitize-payload") => self.sanitizes = false,
            _ if is("sanitize-payload") => self.sanitizes = true,
            _ if is("nopass") => (self.nopass, self.passwords) = (true, Vec::new()),
            _ if is("resetpass") => (self.nopass, self.passwords) = (false, Vec::new()),
            [b'>', password @ ..] => self.add_password(Hash::of(password)),
            [b'#', hash @ ..] => self.add_password(Hash::parse(hash).ok_or(RuleError::Hash)?),
            [b'<', password @ ..] => self.remove_password(&Hash::of(password))?,
            [b'!', hash @ ..] => self.remove_password(&Hash::parse(hash).ok_or(RuleError::Hash)?)?,
            [b'(', inner @ .., b')'] => self.others.push(Selector::parse(inner, channels)?),
            _ if is("clearselectors") => self.others.clear(),
            _ if is("reset") => *self = Self::new(&self.name, self.number, channels),
            _ => self.root.apply(rule)?,
        }
        Ok(())
    }

    fn add_password(&mut self, hash: Hash) {
        self.nopass = false;
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
    }

    fn remove_password(&mut self, hash: &Hash) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|known| known == hash).ok_or(RuleError::NoPassword)?;
        self.passwords.remove(at);
        Ok(())
    }
}

/// Words of which those of one selector, from its parenthesis to the other, are one; or the word with the first parenthesis without
/// an end.
pub(super) fn merged(words: &[&[u8]]) -> Result<Vec<Vec<u8>>, Vec<u8>> {
    let mut all = Vec::new();
    let mut open: Option<(&[u8], Vec<u8>)> = None;
    for word in words {
        match &mut open {
            _ if word.first() == Some(&b'(') && word.last() != Some(&b')') => open = Some((word, word.to_vec())),
            Some((_, selector)) => {
                selector.push(b' ');
                selector.extend_from_slice(word);
                if word.last() == Some(&b')') {
                    all.extend(open.take().map(|(_, selector)| selector));
                }
            }
            None => all.push(word.to_vec()),
        }
    }
    match open {
        Some((word, _)) => Err(word.to_vec()),
        None => Ok(all),
    }
}
