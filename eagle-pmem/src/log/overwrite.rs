//! Changing records in place, where the log is not replayed: no reader of the bytes will ever ask
//! what was there before.

use super::Log;
use super::append::copy_pieces;
use crate::layout::{RECORD_ALIGN, record_header};
use crate::offset::PoolOffset;
use crate::record::{EXPIRY_MS_MAX, RecordParts, Shape};

impl Log {
    /// Gives a record another value in place, if the log allows it and the record stays as long on
    /// the medium. Otherwise changes nothing and returns false.
    pub fn overwrite_value(&mut self, offset: PoolOffset, value: &[&[u8]]) -> bool {
        let record = self.read(offset);
        let (key_at, key_len, len) = (record.key_at(), record.key().len(), record.bytes_on_medium());
        let value_len: usize = value.iter().map(|piece| piece.len()).sum();
        let fits = (key_at + key_len + value_len).next_multiple_of(RECORD_ALIGN) == len;
        if self.replayed || record.is_long() || value_len > usize::from(u16::MAX) || !fits {
            return false;
        }
        let bytes = self.mapping.bytes_mut(offset.byte()..offset.byte() + len as u64);
        bytes[len - RECORD_ALIGN.min(len - key_at - key_len)..].fill(0);
        bytes[record_header::VALUE_LEN..record_header::BYTES].copy_from_slice(&(value_len as u16).to_le_bytes());
        copy_pieces(value, &mut bytes[key_at + key_len..key_at + key_len + value_len]);
        self.changed_in_place(offset, len);
        true
    }

    /// Replaces a record in place, if the log allows it and the new one is as long on the medium.
    /// Otherwise changes nothing and returns false.
    pub fn overwrite(&mut self, offset: PoolOffset, parts: &RecordParts<'_>) -> bool {
        let len = self.read(offset).bytes_on_medium();
        let shape = Shape::of(parts, parts.value_len(), None);
        if self.replayed || shape.len != len {
            return false;
        }
        let bytes = self.mapping.bytes_mut(offset.byte()..offset.byte() + len as u64);
        copy_pieces(parts.value, shape.write(parts, bytes));
        self.changed_in_place(offset, len);
        true
    }

    /// Lets `change` alter the value of a record in place, if the log allows it. Otherwise changes
    /// nothing and returns false.
    pub fn change_value(&mut self, offset: PoolOffset, change: impl FnOnce(&mut [u8])) -> bool {
        if self.replayed {
            return false;
        }
        let record = self.read(offset);
        let (len, at, value_len) =
            (record.bytes_on_medium(), record.key_at() + record.key().len(), record.value().len());
        let bytes = self.mapping.bytes_mut(offset.byte()..offset.byte() + len as u64);
        change(&mut bytes[at..at + value_len]);
        self.changed_in_place(offset, len);
        true
    }

    /// Gives a record that has an expiry another one in place, if the log allows it. Otherwise
    /// changes nothing and returns false.
    ///
    /// # Panics
    /// If the expiry exceeds [`crate::EXPIRY_MS_MAX`].
    pub fn set_expiry(&mut self, offset: PoolOffset, expiry: u64) -> bool {
        assert!(expiry <= EXPIRY_MS_MAX, "an expiry has 48 bits");
        let record = self.read(offset);
        if self.replayed || record.expiry().is_none() {
            return false;
        }
        let len = record.bytes_on_medium();
        let bytes = self.mapping.bytes_mut(offset.byte()..offset.byte() + len as u64);
        bytes[record_header::BYTES..][..record_header::EXPIRY_BYTES]
            .copy_from_slice(&expiry.to_le_bytes()[..record_header::EXPIRY_BYTES]);
        self.changed_in_place(offset, len);
        true
    }

    #[inline(always)]
    fn changed_in_place(&mut self, offset: PoolOffset, len: usize) {
        if self.is_summed(offset) {
            self.write_checksum(self.place_of(offset), len);
        }
        self.position.advance(len as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, LogConfig};

    fn log(replayed: bool) -> Log {
        Log::anonymous(LogConfig { replayed, ..LogConfig::new(1, 4 << 20) }).unwrap()
    }

    #[test]
    fn a_value_of_the_same_size_class_goes_in_place() {
        // Every length that ends in the same 8 bytes does, at once or after a commit; every other
        // does not and changes nothing.
        for committed in [false, true] {
            let mut log = log(false);
            let offset = log.append(&RecordParts::new(Kind::String, b"a key of 14 by", &[&[1; 64]]));
            if committed {
                log.commit();
            }
            for len in 0..100 {
                let value = vec![len as u8; len];
                let before = log.read(offset).value().to_vec();
                let fits = (57..=64).contains(&len);
                assert_eq!(log.overwrite_value(offset, &[&value[..len / 2], &value[len / 2..]]), fits);
                assert_eq!(log.read(offset).value(), if fits { &value } else { &before });
                log.verify(offset).unwrap();
            }
            assert_eq!(log.read(offset).key(), b"a key of 14 by");
            log.commit();
            log.check(|_| true).unwrap();
        }
    }

    #[test]
    fn a_tiny_record_is_overwritten_without_harm_to_its_key() {
        // The padding that is cleared may begin in the last word of the key.
        let mut log = log(false);
        let offset = log.append(&RecordParts::new(Kind::String, b"abc", &[b"xyz"]));
        for value in [&b""[..], b"1", b"12", b"123"] {
            assert!(log.overwrite_value(offset, &[value]));
            assert_eq!((log.read(offset).key(), log.read(offset).value()), (&b"abc"[..], value));
        }
        assert!(!log.overwrite_value(offset, &[b"1234"]));
        log.commit();
        log.check(|_| true).unwrap();
    }

    #[test]
    fn a_record_of_the_same_size_goes_in_place() {
        // Whatever its fields are.
        let mut log = log(false);
        let offset = log.append(&RecordParts::new(Kind::String, b"key", &[&[1; 64]]));
        let parts = RecordParts { tag: 9, expiry: Some(77), ..RecordParts::new(Kind::Packed, b"key", &[&[2; 58]]) };
        assert!(log.overwrite(offset, &parts));
        let record = log.read(offset);
        assert_eq!((record.kind(), record.tag(), record.expiry()), (Kind::Packed, 9, Some(77)));
        assert_eq!(record.value(), [2; 58]);
        assert!(!log.overwrite(offset, &RecordParts::new(Kind::Packed, b"key", &[&[2; 75]])));
        log.commit();
        log.check(|_| true).unwrap();
    }

    #[test]
    fn an_expiry_is_changed_where_there_is_one() {
        // Room for one is not made in place.
        let mut log = log(false);
        let without = log.append(&RecordParts::new(Kind::String, b"key", &[b"value"]));
        let with = log.append(&RecordParts { expiry: Some(1), ..log_parts() });
        log.commit();
        assert!(!log.set_expiry(without, 5));
        assert!(log.set_expiry(with, EXPIRY_MS_MAX));
        assert_eq!(log.read(with).expiry(), Some(EXPIRY_MS_MAX));
        log.check(|_| true).unwrap();
    }

    #[test]
    fn a_log_that_is_replayed_refuses_every_change() {
        // What was there before may have been promised.
        let mut log = log(true);
        let offset = log.append(&RecordParts { expiry: Some(1), ..log_parts() });
        assert!(!log.overwrite_value(offset, &[b"other"]));
        assert!(!log.overwrite(offset, &RecordParts { expiry: Some(1), ..log_parts() }));
        assert!(!log.set_expiry(offset, 2));
        assert!(!log.change_value(offset, |value| value.fill(0)));
        assert_eq!((log.read(offset).value(), log.read(offset).expiry()), (&b"value"[..], Some(1)));
    }

    fn log_parts() -> RecordParts<'static> {
        RecordParts::new(Kind::String, b"key", &[b"value"])
    }
}
