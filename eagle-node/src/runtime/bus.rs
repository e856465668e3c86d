//! SIGBUS: a page of a mapped file that can be neither read nor written, because its block is bad or the file was cut short beneath
//! it. The process says which byte of which file that is, and ends as the signal ends it.
//!
//! There is nothing else to do: who read the byte has no value to go on with. The next start finds what is lost there, as damage.
//!
//! Which file it is, the system knows: the handler looks the address up in `/proc/self/maps`, so nobody has to register what is mapped,
//! and pools are named while they are opened, too. What always holds: the handler only calls what is safe in a signal's handler (open,
//! read, write; signal-safety(7)), allocates nothing and waits for no lock.

use std::{
    io,
    mem::MaybeUninit,
    ptr::{self, null_mut},
};

/// The longest line of the table: a path and less than a hundred bytes before it.
const LINE_MAX: usize = libc::PATH_MAX as usize + 128;
/// The longest text.
const TEXT_MAX: usize = LINE_MAX + 256;

/// Installs the handler, for all threads.
///
/// # Errors
/// The system refuses.
pub(super) fn watch() -> io::Result<()> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // Not on the alternate stack, which is small: no overflow of the stack brings this signal.
    // SAFETY: a zeroed sigaction is one, without handler or flags; the handler has the type that SA_SIGINFO asks for. The flag
    // SA_RESETHAND gives the signal its usual effect again.
    let done = unsafe {
        let action = action.assume_init_mut();
        libc::sigemptyset(&raw mut action.sa_mask);
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND;
        action.sa_sigaction = on_bus as *const () as usize;
        libc::sigaction(libc::SIGBUS, ptr::from_ref(action), null_mut())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn on_bus(_signal: libc::c_int, info: *const libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a siginfo, and for SIGBUS it has an address.
    let address = unsafe { (*info).si_addr() } as u64;
    let mut text = Text::new();
    let mut line = [0; LINE_MAX];
    match find(address, &mut line) {
        Some((byte, path)) => {
            text.add(b"EagleDB ends (SIGBUS): byte 0x");
            text.add_hex(byte);
            text.add(b" of '");
            text.add(path);
            text.add(b"' can be neither read nor written: a bad block, or the file was cut short. The next start tells what is damaged.\n");
        }
        None => {
            text.add(b"EagleDB ends (SIGBUS): address 0x");
            text.add_hex(address);
            text.add(b", of no mapped file.\n");
        }
    }
    // SAFETY: initialised bytes of the stack. What cannot be written is not said.
    let _written = unsafe { libc::write(libc::STDERR_FILENO, text.bytes.as_ptr().cast(), text.len) };
    // The same access, tried again, would do as well; but the signal may have been sent by somebody.
    // SAFETY: no memory is passed. The signal ends the process when this handler returns.
    unsafe { libc::raise(libc::SIGBUS) };
}

/// A text on the stack, cut off where it gets too long.
struct Text {
    bytes: [u8; TEXT_MAX],
    len: usize,
}

impl Text {
    const fn new() -> Self {
        Self { bytes: [0; TEXT_MAX], len: 0 }
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = *byte;
                self.len += 1;
            }
        }
    }

    fn add_hex(&mut self, number: u64) {
        let digits = (64 - number.leading_zeros()).div_ceil(4).max(1);
        for nth in (0..digits).rev() {
            let digit = (number >> (4 * nth) & 15) as usize;
            self.add(&b"0123456789abcdef"[digit..=digit]);
        }
    }
}

/// The mapped file, and which byte of it, that lies at an address of this process.
fn find(address: u64, line: &mut [u8; LINE_MAX]) -> Option<(u64, &[u8])> {
    // SAFETY: a constant path that ends in zero.
    let table = unsafe { libc::open(c"/proc/self/maps".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    let (mut chunk, mut len) = ([0_u8; 4096], 0);
    loop {
        // SAFETY: the buffer is as long as that. An invalid descriptor is an error, as any other.
        let read = unsafe { libc::read(table, chunk.as_mut_ptr().cast(), chunk.len()) };
        let read = usize::try_from(read).ok().filter(|read| *read > 0)?;
        for byte in &chunk[..read] {
            if *byte != b'\n' {
                if let Some(place) = line.get_mut(len) {
                    *place = *byte;
                    len += 1;
                }
                continue;
            }
            if byte_at(address, &line[..len]).is_some() {
                return byte_at(address, &line[..len]);
            }
            len = 0;
        }
    }
}

/// What of a file lies at the address, if a line of the table says so: `start-end rights offset device inode path`.
fn byte_at(address: u64, line: &[u8]) -> Option<(u64, &[u8])> {
    let mut words = line.splitn(6, |byte| *byte == b' ');
    let mut ends = words.next()?.split(|byte| *byte == b'-');
    let (start, end) = (hex(ends.next()?)?, hex(ends.next()?)?);
    let offset = hex(words.nth(1)?)?;
    let path = words.nth(2)?.trim_ascii_start();
    ((start..end).contains(&address) && path.starts_with(b"/")).then(|| (address - start + offset, path))
}

fn hex(digits: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| (*byte as char).to_digit(16).map(u64::from);
    digits.iter().try_fold(0_u64, |number, byte| Some(number << 4 | digit(byte)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_the_table() {
        // By its line, with the file's offset, whatever the path; not in anonymous memory, and not behind the end.
        let line = b"7f00a000-7f00c000 rw-p 00003000 fe:00 1234567                  /data/my pools/shard-00.pool";
        let path: &[u8] = b"/data/my pools/shard-00.pool";
        assert_eq!(byte_at(0x7f00_b010, line), Some((0x4010, path)));
        assert_eq!((byte_at(0x7f00_c000, line), byte_at(0x7f00_9fff, line)), (None, None));
        assert_eq!(byte_at(0x7f00_b010, b"7f00a000-7f00c000 rw-p 00000000 00:00 0 "), None);
        let mut line = [0; LINE_MAX];
        let (_, path) = find(on_bus as *const () as u64, &mut line).expect("this program is a mapped file");
        assert_eq!(path, std::env::current_exe().expect("it runs").as_os_str().as_encoded_bytes());
    }

    #[test]
    fn numbers_are_written_in_hexadecimal() {
        // Without leading zeros, but for zero; what does not fit is left out.
        let mut text = Text::new();
        for number in [0, 0x10, u64::MAX] {
            text.add_hex(number);
            text.add(b" ");
        }
        assert_eq!(&text.bytes[..text.len], b"0 10 ffffffffffffffff ");
        text.add(&[b'x'; 2 * TEXT_MAX]);
        assert_eq!(text.len, TEXT_MAX);
    }
}
