//! A simulated medium: what a pool's file would hold after the process ends, or after the power fails, at any moment.
//!
//! The fault model is that of an ordinary file. What a write has given to the system is read back by whoever opens the file next,
//! if the machine goes on. If it does not, a page written since the last sync that covers it may be on the medium in any of the
//! states that it had since then, or not at all, each by itself, and torn at 512 bytes: the system writes pages back when it
//! likes. A write that has not ended may be there in part: each of its pages in the state that it had at the beginning or later.
//! A sync that failed has made nothing durable.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

/// Bytes of a page of the system's cache.
const PAGE: usize = 4096;
/// Bytes that the medium writes whole.
const SECTOR: usize = 512;

/// One shard's medium.
#[derive(Debug, Default)]
pub struct Medium {
    /// What is surely there.
    durable: Vec<u8>,
    /// States that a page has had since the last sync that covers it ended, the oldest first; those before the first number are
    /// covered by the sync in flight.
    pages: BTreeMap<usize, (usize, Vec<Page>)>,
    /// The ranges being written, as their bytes were at the beginning.
    writing: Vec<(Range<u64>, Vec<u8>)>,
}

type Page = Box<[u8]>;

impl Medium {
    /// One that holds these bytes.
    #[must_use]
    pub fn new(durable: Vec<u8>) -> Self {
        Self { durable, ..Self::default() }
    }

    /// A write of these ranges begins.
    pub fn begin_write(&mut self, ranges: Vec<(Range<u64>, Vec<u8>)>) {
        assert!(self.writing.is_empty(), "one write is in flight");
        self.writing = ranges;
    }

    /// The write ends. The system has copied each page at some moment since it began; `now` gives the bytes as they are. A
    /// write that failed (`None`) may have come to any page.
    pub fn end_write(&mut self, now: Option<&dyn Fn(Range<u64>) -> Vec<u8>>, rng: &mut fastrand::Rng) {
        for (range, mut bytes) in std::mem::take(&mut self.writing) {
            let later = now.map(|now| now(range.clone()));
            let start = range.start as usize;
            for at in (0..bytes.len()).step_by(PAGE) {
                let end = bytes.len().min(at + PAGE);
                if let Some(later) = &later
                    && rng.bool()
                {
                    bytes[at..end].copy_from_slice(&later[at..end]);
                }
                if later.is_some() || rng.bool() {
                    self.put(start + at, &bytes[at..end]);
                }
            }
        }
    }

    /// A range becomes zeros.
    pub fn zero(&mut self, range: Range<u64>) {
        let zeros = vec![0; (range.end - range.start) as usize];
        self.put(range.start as usize, &zeros);
    }

    /// A sync begins: it covers what is written.
    pub fn begin_sync(&mut self) {
        for (covered, states) in self.pages.values_mut() {
            *covered = states.len();
        }
    }

    /// The sync ends.
    pub fn end_sync(&mut self) {
        for (page, (covered, mut states)) in std::mem::take(&mut self.pages) {
            if covered > 0 {
                let newest = &states[covered - 1];
                grow(&mut self.durable, (page + 1) * PAGE);
                self.durable[page * PAGE..][..PAGE].copy_from_slice(newest);
                states.drain(..covered);
            }
            if !states.is_empty() {
                self.pages.insert(page, (0, states));
            }
        }
    }

    /// The sync fails.
    pub fn fail_sync(&mut self) {
        self.pages.values_mut().for_each(|(covered, _)| *covered = 0);
    }

    /// The file after the process has ended.
    #[must_use]
    pub fn after_process_end(&self, rng: &mut fastrand::Rng) -> Vec<u8> {
        let mut image = self.durable.clone();
        for (page, (_, states)) in &self.pages {
            place(&mut image, *page, states.last().expect("a page that was written has a state"));
        }
        let mut written = Self { durable: image, pages: BTreeMap::new(), writing: self.writing.clone() };
        written.end_write(None, rng);
        for (page, (_, states)) in &written.pages {
            place(&mut written.durable, *page, states.last().expect("as above"));
        }
        written.durable
    }

    /// The file after the power has failed.
    #[must_use]
    pub fn after_power_loss(&self, rng: &mut fastrand::Rng) -> Vec<u8> {
        let mut before =
            Self { durable: self.durable.clone(), pages: self.pages.clone(), writing: self.writing.clone() };
        before.end_write(None, rng);
        let mut image = before.durable.clone();
        // Nothing, everything, pages by chance, or torn pages: chance alone would hardly ever try the first two.
        let manner = rng.u8(0..8);
        let numbers: BTreeSet<usize> = before.pages.keys().copied().collect();
        for page in numbers {
            let (_, states) = &before.pages[&page];
            match manner {
                0 => {}
                1 => place(&mut image, page, states.last().expect("as above")),
                2..=4 => {
                    if let Some(state) = states.get(rng.usize(0..=states.len())) {
                        place(&mut image, page, state);
                    }
                }
                _ => {
                    grow(&mut image, (page + 1) * PAGE);
                    for sector in (0..PAGE).step_by(SECTOR) {
                        if let Some(state) = states.get(rng.usize(0..=states.len())) {
                            image[page * PAGE + sector..][..SECTOR].copy_from_slice(&state[sector..][..SECTOR]);
                        }
                    }
                }
            }
        }
        image
    }

    /// What the system reads now.
    fn page(&self, page: usize) -> Page {
        if let Some((_, states)) = self.pages.get(&page) {
            return states.last().expect("a page that was written has a state").clone();
        }
        let mut bytes = vec![0; PAGE];
        let there = self.durable.get(page * PAGE..).unwrap_or_default();
        let len = there.len().min(PAGE);
        bytes[..len].copy_from_slice(&there[..len]);
        bytes.into_boxed_slice()
    }

    /// Bytes that the system has now.
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let (page, from) = ((offset + done) / PAGE, (offset + done) % PAGE);
            let len = (PAGE - from).min(bytes.len() - done);
            let mut state = self.page(page);
            state[from..from + len].copy_from_slice(&bytes[done..done + len]);
            self.pages.entry(page).or_default().1.push(state);
            done += len;
        }
    }
}

fn grow(image: &mut Vec<u8>, len: usize) {
    if image.len() < len {
        image.resize(len, 0);
    }
}

fn place(image: &mut Vec<u8>, page: usize, state: &[u8]) {
    grow(image, (page + 1) * PAGE);
    image[page * PAGE..][..PAGE].copy_from_slice(state);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(byte: u8) -> Vec<u8> {
        vec![byte; PAGE]
    }

    fn write(medium: &mut Medium, range: Range<u64>, byte: u8) {
        let bytes = vec![byte; (range.end - range.start) as usize];
        medium.begin_write(vec![(range, bytes.clone())]);
        medium.end_write(Some(&|_| bytes.clone()), &mut fastrand::Rng::with_seed(1));
    }

    /// All bytes that some sector holds in one of many images.
    fn bytes_seen(mut image: impl FnMut(&mut fastrand::Rng) -> Vec<u8>) -> BTreeSet<u8> {
        let mut rng = fastrand::Rng::with_seed(3);
        let images: Vec<Vec<u8>> = (0..200).map(|_| image(&mut rng)).collect();
        for image in &images {
            let whole = image.chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte == sector[0]));
            assert!(whole, "a sector is whole");
        }
        images.into_iter().flat_map(|image| image.into_iter().step_by(SECTOR)).collect()
    }

    #[test]
    fn what_is_synced_is_there_and_what_is_only_written_may_be() {
        // After the process: the last written. After power loss: any state since the last sync, and nothing older.
        let mut medium = Medium::new(page(0));
        write(&mut medium, 0..4096, 1);
        medium.begin_sync();
        write(&mut medium, 0..4096, 2);
        assert_eq!(bytes_seen(|rng| medium.after_power_loss(rng)), [0, 1, 2].into());
        assert_eq!(bytes_seen(|rng| medium.after_process_end(rng)), [2].into());
        medium.end_sync();
        assert_eq!(bytes_seen(|rng| medium.after_power_loss(rng)), [1, 2].into());
        medium.begin_sync();
        medium.fail_sync();
        assert_eq!(bytes_seen(|rng| medium.after_power_loss(rng)), [1, 2].into());
        medium.begin_sync();
        medium.end_sync();
        assert_eq!(bytes_seen(|rng| medium.after_power_loss(rng)), [2].into());
    }

    #[test]
    fn what_is_being_written_may_be_there_in_part() {
        // Page by page, after the end of the process and after power loss.
        let mut medium = Medium::new(page(0).repeat(8));
        medium.begin_write(vec![(0..8 * 4096, page(1).repeat(8))]);
        assert_eq!(bytes_seen(|rng| medium.after_process_end(rng)), [0, 1].into());
        let mut rng = fastrand::Rng::with_seed(5);
        let image = medium.after_process_end(&mut rng);
        assert!(image.chunks(PAGE).all(|page| page.iter().all(|byte| *byte == page[0])));
        assert_eq!(bytes_seen(|rng| medium.after_power_loss(rng)), [0, 1].into());
    }

    #[test]
    fn a_write_of_part_of_a_page_leaves_the_rest() {
        // The pages of a range that begins and ends within them keep what lies around.
        let mut medium = Medium::new(page(7).repeat(2));
        write(&mut medium, 4096 - 512..4096 + 512, 9);
        let image = medium.after_process_end(&mut fastrand::Rng::with_seed(1));
        assert_eq!(image.iter().filter(|byte| **byte == 9).count(), 1024);
        assert_eq!((image[4096 - 513], image[4096 - 512], image[4096 + 511], image[4096 + 512]), (7, 9, 9, 7));
    }
}
