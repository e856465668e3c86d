//! Changing records in place, where the log is not replayed: no reader of the bytes will ever ask what was there before.

use super::Log;
use super::append::copy_pieces;
use crate::layout::{RECORD_ALIGN, record_header};
use crate::offset::PoolOffset;
use crate::record::{EXPIRY_MS_MAX, RecordParts, Shape};

impl Log {
    /// Gives a record another value in place, if the log allows it and the record stays as long on the medium. Otherwise changes
    /// nothing and returns false.
    pub fn overwrite_value(&mut self, offset: PoolOffset, value: &[&[u8]]) -> bool {
        let record = self.read(offset);
        let (key_at, key_len, len) = (
            record.key_at(),
            record.key().len(),
            record.bytes_on_medium(),
        );
        let value_len: usize = value.iter().map(|piece| piece.len()).sum();
        let fits = (key_at + key_len + value_len).next_multiple_of(RECORD_ALIGN) == len;
        if self.replayed || record.is_long() || value_len > usize::from(u16::MAX) || !fits {
            return false;
        }
        let bytes = self
            .mapping
            .bytes_mut(offset.byte()..offset.byte() + len as u64);
        bytes[len - RECORD_ALIGN.min(len - key_at - key_len)..].fill(0);
        bytes[record_header::VALUE_LEN..record_header::BYTES]
            .copy_from_slice(&(value_len as u16).to_le_bytes());
        copy_pieces(
            value,
            &mut bytes[key_at + key_len..key_at + key_len + value_len],
        );
        self.changed_in_place(offset, len);
        true
    }

    /// Replaces a record in place, if the log allows it and the new one is as long on the medium. Otherwise changes nothing and returns
    /// false.
    pub fn overwrite(&mut self, offset: PoolOffset, parts: &RecordParts<'_>) -> bool {
        let len = self.read(offset).bytes_on_medium();
        let shape = Shape::of(parts, parts.value_len(), None);
        if self.replayed || shape.len != len {
            return false;
        }
        let bytes = self
            .mapping
            .bytes_mut(offset.byte()..offset.byte() + len as u64);
        copy_pieces(parts.value, shape.write(parts, bytes));
        self.changed_in_place(offset, len);
        true
    }

    /// Lets `change` alter the value of a record in place, if the log allows it. Otherwise changes nothing and returns false.
    pub fn change_value(&mut self, offset: PoolOffset, change: impl FnOnce(&mut [u8])) -> bool {
        if self.replayed {
            return false;
        }
        let record = self.read(offset);
        let (len, at, value_len) = (
            record.bytes_on_medium(),
            record.key_at() + record.key().len(),
            record.value().len(),
        );
        let bytes = self
            .mapping
            .bytes_mut(offset.byte()..offset.byte() + len as u64);
        change(&mut bytes[at..at + value_len]);
        self.changed_in_place(offset, len);
        true
    }

    /// Gives a record that has an expiry another one in place, if the log allows it. Otherwise changes nothing and returns false.
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
        let bytes = self
            .mapping
            .bytes_mut(offset.byte()..offset.byte() + len as u64);
        bytes[record_header::BYTES..][..record_header::EXPIRY_BYTES]
            .copy_from_slice(&expiry.to_le_bytes()[..record_header::EXPIRY_BYTES]);
        self.changed_in_place(offset, len);
        true
    }

    #[inline(always)]
    fn changed_in_place(&mut self, offset: PoolOffset, len: usize) {
        self.write_checksum(self.place_of(offset), len);
        self.position.advance(len as u64);
    }
}
