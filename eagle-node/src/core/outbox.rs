//! An outbox is what a core has to say to another and has not said yet: messages, of which the last still grows.
//!
//! ```text
//!  full    ┌─────────┐ ┌─────────┐      they leave one a turn, the oldest first;
//!          │ message │ │ message │      what a full ring refused comes back to the front
//!          └─────────┘ └─────────┘
//!  growing ┌──────┐
//!          │ mess ◀── questions, answers
//!          └──────┘
//! ```
//!
//! Positions within a message are 32 bits. A question that would pass `bytes_max` begins a new message, so a turn in which very much
//! is moved between cores says it in several. One question always fits: its request did (`eagle_resp` bounds a buffer to 4 GiB).
//!
//! What always holds: what was put in first leaves first. So no more than one message is on its way out at a time: the ring may refuse one
//! and take the next.

use std::collections::VecDeque;

use super::{
    dispatch::Order,
    event::ConnId,
    laps::SlowPart,
    message::{Answer, Kind, Message, Token},
    monitor::Lines,
};

/// Bytes of questions in one message, at most, unless it is one question: what 32 bits hold.
pub const MESSAGE_BYTES_MAX: usize = u32::MAX as usize;
/// Empty messages kept.
const SPARE_MAX: usize = 4;

/// What is to be said to another core.
#[derive(Debug)]
#[expect(clippy::vec_box, reason = "messages travel boxed: what is kept here leaves as it is")]
pub(super) struct Outbox {
    full: VecDeque<Box<Message>>,
    growing: Box<Message>,
    spare: Vec<Box<Message>>,
    bytes_max: usize,
}

impl Outbox {
    /// An empty one, whose messages have at most so many bytes of questions.
    pub(super) fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.min(MESSAGE_BYTES_MAX);
        Self { full: VecDeque::new(), growing: Box::default(), spare: Vec::new(), bytes_max }
    }

    /// Nothing is to be said.
    pub(super) fn is_empty(&self) -> bool {
        self.growing.is_empty() && self.full.is_empty()
    }

    /// Bytes of questions.
    pub(super) fn question_bytes(&self) -> usize {
        self.growing.bytes.len() + self.full.iter().map(|message| message.bytes.len()).sum::<usize>()
    }

    /// Adds a question.
    pub(super) fn ask(&mut self, token: Token, asker: ConnId, kind: Kind, order: &Order<'_>) {
        if !self.growing.has_room(order.args.bytes_len(), order.args.len(), self.bytes_max) {
            let empty = self.empty();
            self.full.push_back(std::mem::replace(&mut self.growing, empty));
        }
        self.growing.ask(token, asker, kind, order);
    }

    /// Adds an answer; its bytes, if it has any, are at the end of [`Self::answer_bytes`].
    pub(super) fn answer(&mut self, answer: Answer) {
        self.growing.answers.push(answer);
    }

    /// Adds that a question took long; its answer is still to be added.
    pub(super) fn slow_part(&mut self, part: SlowPart) {
        self.growing.slow.push(part);
    }

    /// What the watchers of that core are to see.
    pub(super) fn lines(&mut self) -> &mut Lines {
        &mut self.growing.lines
    }

    /// Where the bytes of the next answer are to be appended.
    pub(super) fn answer_bytes(&mut self) -> &mut Vec<u8> {
        &mut self.growing.answer_bytes
    }

    /// The message that leaves next, if there is anything to say.
    pub(super) fn take(&mut self) -> Option<Box<Message>> {
        if let Some(first) = self.full.pop_front() {
            return Some(first);
        }
        if self.growing.is_empty() {
            return None;
        }
        let empty = self.empty();
        Some(std::mem::replace(&mut self.growing, empty))
    }

    /// Takes back the message that was taken last, which could not leave: it is the next again.
    pub(super) fn put_back(&mut self, mut message: Box<Message>) {
        let growing = &self.growing;
        if self.full.is_empty() && message.has_room(growing.bytes.len(), growing.args.len(), self.bytes_max) {
            std::mem::swap(&mut self.growing, &mut message);
            self.growing.append(&mut message);
            self.recycle(message);
        } else {
            self.full.push_front(message);
        }
    }

    /// Keeps a message that has been read, for the next use of its buffers.
    pub(super) fn recycle(&mut self, mut message: Box<Message>) {
        message.clear();
        if self.spare.len() < SPARE_MAX {
            self.spare.push(message);
        }
    }

    fn empty(&mut self) -> Box<Message> {
        self.spare.pop().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use eagle_resp::{OwnedArgs, Protocol};
    use eagle_shard::call::DbId;

    use super::*;
    use crate::{
        command,
        core::{event::Now, message::Outcome},
    };

    const CONN: ConnId = ConnId { index: 0, generation: 0 };

    fn ask(outbox: &mut Outbox, nth: u32, words: &[&[u8]]) {
        let args: OwnedArgs = words.iter().copied().collect();
        let order = Order {
            spec: command::named("mset"),
            args: args.as_args(),
            db: DbId(0),
            protocol: Protocol::Resp2,
            key: None,
            no_touch: false,
            level: crate::core::gate::Level::Written,
            now: Now::default(),
        };
        outbox.ask(Token::Gather { gather: nth, part: 0 }, CONN, Kind::Run, &order);
    }

    /// What a message asks: the number of each question and its words.
    fn questions(message: &Message) -> Vec<(u32, Vec<Vec<u8>>)> {
        let words = |ask| message.args(ask).iter().map(<[u8]>::to_vec).collect();
        let number =
            |token| if let Token::Gather { gather, .. } = token { gather } else { unreachable!("asked above") };
        message.asks.iter().map(|ask| (number(ask.token), words(ask))).collect()
    }

    #[test]
    fn an_outbox_that_outgrows_a_message_becomes_several() {
        // Random questions, answers between them, messages that are refused and come back: all of it leaves in order and whole, no
        // message beyond its limit (of 40 bytes here instead of 4 GiB) but for a single larger question.
        const BYTES_MAX: usize = 40;
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut outbox = Outbox::new(BYTES_MAX);
            let (mut asked, mut said, mut answers) = (Vec::new(), Vec::new(), Vec::new());
            let (mut messages, mut answered) = (0, 0);
            for nth in 0..100 {
                let words: Vec<Vec<u8>> =
                    (0..rng.usize(1..5)).map(|_| vec![b'a' + (nth % 26) as u8; rng.usize(0..20)]).collect();
                ask(&mut outbox, nth, &words.iter().map(Vec::as_slice).collect::<Vec<_>>());
                asked.push((nth, words));
                if rng.u8(0..3) == 0 {
                    outbox.answer_bytes().push(answered);
                    let token = Token::Gather { gather: answered.into(), part: 0 };
                    outbox.answer(Answer { token, outcome: Outcome::Reply { len: 1 } });
                    answered += 1;
                }
                while rng.bool() && !outbox.is_empty() {
                    let message = outbox.take().expect("it is not empty");
                    if rng.bool() {
                        outbox.put_back(message);
                        continue;
                    }
                    assert!(message.bytes.len() <= BYTES_MAX || message.asks.len() == 1, "seed {seed}");
                    messages += 1;
                    said.extend(questions(&message));
                    answers.extend_from_slice(&message.answer_bytes);
                    outbox.recycle(message);
                }
            }
            while let Some(message) = outbox.take() {
                said.extend(questions(&message));
                answers.extend_from_slice(&message.answer_bytes);
            }
            assert_eq!(said, asked, "seed {seed}");
            assert_eq!(answers, (0..answered).collect::<Vec<_>>(), "seed {seed}");
            assert!(messages > 20, "seed {seed}: {messages} messages");
            assert_eq!(outbox.question_bytes(), 0);
        }
    }
}
