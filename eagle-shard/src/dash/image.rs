//! An image of the index: its segments as they lie in memory, for a checkpoint.
//!
//! ```text
//!  0        8       12       16      17     18      20         24
//!  ├────────┼───────┼────────┼───────┼──────┼───────┼──────────┼─────────┬────────────────────────────┐
//!  │ prefix │ count │ normal │ depth │ base │ zeros │ buckets  │ buckets │ bounds: none, or 8 a bucket│
//!  └────────┴───────┴────────┴───────┴──────┴───────┴──────────┴─────────┴────────────────────────────┘
//! ```
//!
//! The directories are not written: a segment's prefix and depth say where it stands in them.
//!
//! An image is taken at once ([`Dash::write_images`]), or while the index changes: from [`Dash::begin_image`] on each segment is written
//! as it was then, by slices in turn ([`Dash::image_slice`]), and ahead of its turn before it changes. Segments made since are in no
//! image. What it costs a change is one copy of 16 KiB at most, some 4 us, once a segment.

use eagle_pmem::{Checkpoint, CheckpointBlocks};

use super::{Dash, Remains, Segment, Word, bucket, bucket::Buckets, expiry::Bounds, hash::ROOT_BITS};
use crate::checkpoint::SEGMENT;

/// Bytes before the buckets.
const HEADER_BYTES: usize = 24;

impl Segment {
    fn header(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.prefix.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.normal.to_le_bytes());
        (bytes[16], bytes[17]) = (self.depth, self.base);
        bytes[20..].copy_from_slice(&(self.buckets.len() as u32).to_le_bytes());
        bytes
    }

    fn of_image(image: &[u8], checkpoint: &Checkpoint) -> Option<Self> {
        let (header, rest) = image.split_first_chunk::<HEADER_BYTES>()?;
        let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
        let (normal, count) = (u32_at(12), u32_at(20) as usize);
        let (buckets, bounds) = rest.split_at_checked(count.checked_mul(size_of::<bucket::Bucket>())?)?;
        let (depth, base) = (header[16], header[17]);
        let is_sound = normal >= 1 && normal as usize <= count && u32::from(depth) >= ROOT_BITS && base <= depth;
        if !is_sound || depth >= 64 {
            return None;
        }
        Some(Self {
            buckets: Buckets::of_checkpoint(buckets, checkpoint)?,
            expiry: Bounds::of_bytes(bounds, count)?,
            prefix: u64::from_le_bytes(header[..8].try_into().expect("8 bytes")),
            count: u32_at(8),
            normal,
            depth,
            base,
            imaged: 0,
        })
    }
}

/// An image that is taken while the index changes.
pub(super) struct Imaging {
    /// The number of the checkpoint that it is for.
    number: u32,
    /// Whose index it is, as the checkpoint names it.
    owner: u64,
    /// The segment whose turn it is.
    next: usize,
    blocks: CheckpointBlocks,
}

impl Imaging {
    /// Writes a segment, unless that was done.
    fn image(&mut self, segment: &mut Segment) {
        if segment.imaged == self.number {
            return;
        }
        segment.imaged = self.number;
        if segment.buckets.is_empty() {
            return;
        }
        let (owner, header) = (self.owner.to_le_bytes(), segment.header());
        let (buckets, bounds) = (bucket::bytes_of(&segment.buckets), segment.expiry.to_bytes());
        self.blocks.block(SEGMENT, &[&owner, &header, buckets, &bounds]);
    }

    /// Writes up to `segments` of those whose turn it is, and returns how many there were.
    fn slice(&mut self, all: &mut [Segment], segments: usize) -> usize {
        let mut done = 0;
        while done < segments
            && let Some(segment) = all.get_mut(self.next)
        {
            done += usize::from(segment.imaged != self.number);
            self.image(segment);
            self.next += 1;
        }
        done
    }
}

impl Dash {
    /// The number of the last checkpoint for which an image was begun.
    pub fn imaged_for(&self) -> u32 {
        self.imaged
    }

    /// Begins an image of all that is in it now, for the checkpoint of this number, which is not 0 and above those before.
    pub fn begin_image(&mut self, number: u32, owner: u64) {
        self.imaged = number;
        self.imaging = Some(Box::new(Imaging { number, owner, next: 0, blocks: CheckpointBlocks::default() }));
    }

    /// Goes on with an image by up to `segments`, and gives what was written since the last slice, also ahead of its turn, to `to`.
    /// Returns how many segments it wrote; fewer were the last, and the image is done. Without an image it does nothing.
    pub fn image_slice(&mut self, segments: usize, to: &mut CheckpointBlocks) -> usize {
        let Some(imaging) = &mut self.imaging else {
            return 0;
        };
        let done = imaging.slice(&mut self.segments, segments);
        to.append(&mut imaging.blocks);
        if done < segments {
            self.imaging = None;
        }
        done
    }

    /// Ends an image that is not wanted any more.
    pub fn end_image(&mut self) {
        self.imaging = None;
    }

    /// Whether an image of it is under way.
    pub fn is_imaging(&self) -> bool {
        self.imaging.is_some()
    }

    /// The segment is about to change, or to go.
    #[inline]
    pub(super) fn before_change(&mut self, id: u32) {
        if let Some(imaging) = &mut self.imaging {
            imaging.image(&mut self.segments[id as usize]);
        }
    }

    /// A segment that is new is in no image under way.
    pub(super) fn mark_new(&self, segment: &mut Segment) {
        segment.imaged = self.imaging.as_ref().map_or(0, |imaging| imaging.number);
    }
}

impl Remains {
    /// As [`Dash::image_slice`].
    pub fn image_slice(&mut self, segments: usize, to: &mut CheckpointBlocks) -> usize {
        let Some(imaging) = &mut self.imaging else {
            return 0;
        };
        let done = imaging.slice(&mut self.segments, segments);
        to.append(&mut imaging.blocks);
        if done < segments {
            self.imaging = None;
        }
        done
    }

    /// As [`Dash::end_image`].
    pub fn end_image(&mut self) {
        self.imaging = None;
    }

    /// Whether an image of it is under way.
    pub fn is_imaging(&self) -> bool {
        self.imaging.is_some()
    }

    pub(super) fn before_pop(&mut self) {
        if let (Some(imaging), Some(last)) = (&mut self.imaging, self.segments.last_mut()) {
            imaging.image(last);
        }
    }
}

impl Dash {
    /// Writes each segment's image in pieces; `write` may fail.
    ///
    /// # Errors
    /// The first error of `write`.
    pub fn write_images<E>(&self, mut write: impl FnMut(&[&[u8]; 3]) -> Result<(), E>) -> Result<(), E> {
        for segment in self.segments.iter().filter(|segment| !segment.buckets.is_empty()) {
            write(&[&segment.header(), bucket::bytes_of(&segment.buckets), &segment.expiry.to_bytes()])?;
        }
        Ok(())
    }

    /// Takes out the entries that are not to be kept, without asking for their keys. For an index that was just made from images and
    /// does not count slots.
    pub fn retain(&mut self, mut keep: impl FnMut(Word) -> bool) {
        for segment in &mut self.segments {
            let before = segment.count;
            let spots: Vec<_> = segment.entries().filter(|(_, word)| !keep(*word)).map(|(spot, _)| spot).collect();
            for spot in spots {
                segment.remove(spot);
            }
            self.len -= (before - segment.count) as usize;
        }
    }
}

/// Puts an index together from images of its segments.
#[derive(Default)]
pub struct Images {
    segments: Vec<Segment>,
}

impl Images {
    /// Adds an image that lies in a checkpoint, where its segment is served from until it changes. False if it is none.
    #[must_use]
    pub fn add(&mut self, image: &[u8], checkpoint: &Checkpoint) -> bool {
        let segment = Segment::of_image(image, checkpoint);
        let is_one = segment.is_some();
        self.segments.extend(segment);
        is_one
    }

    /// The index of all segments. `None` if they do not cover whole roots, each place once.
    #[must_use]
    pub fn into_dash(mut self) -> Option<Dash> {
        self.segments.sort_unstable_by_key(|segment| segment.prefix);
        let mut dash = Dash::new();
        for at in 0..self.segments.len() {
            let root = self.segments[at].first_position().root();
            let is_first = at == 0 || self.segments[at - 1].first_position().root() != root;
            if !is_first {
                continue;
            }
            let behind = self.segments[at..].iter().position(|segment| segment.first_position().root() != root);
            let end = behind.map_or(self.segments.len(), |count| at + count);
            let depths = self.segments[at..end].iter().map(|segment| (segment.prefix, segment.depth));
            dash.root.plant_image(root, at as u32, depths)?;
        }
        dash.len = self.segments.iter().map(Segment::count).sum();
        dash.segment_bytes = self.segments.iter().map(Segment::bytes).sum();
        dash.segments = self.segments;
        Some(dash)
    }
}
