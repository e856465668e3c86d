//! Write-back of cache lines: the instructions that bring stores from the processor's caches to the medium.
//!
//! On x86-64 `clwb` keeps the line, `clflushopt` drops it, `clflush` drops it and waits for the one before; `sfence` waits for the
//! first two. On AArch64 `dc cvap` cleans a line to the point of persistence and `dsb` waits; a processor without it
//! cannot promise that memory is a medium. Where the caches outlive the loss of power (eADR), only the order
//! of stores is left to be kept.
//!
//! From: Intel's manual of software developers, volume 2; the Arm architecture reference manual, `FEAT_DPB`; PMDK's `pmem2`.

/// How a line gets from the caches to the medium.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteBack {
    /// `clwb`.
    Clwb,
    /// `clflushopt`.
    ClflushOpt,
    /// `clflush`.
    Clflush,
    /// `dc cvap`.
    DcCvap,
    /// The caches outlive the loss of power.
    Nothing,
}

impl WriteBack {
    /// The best that this processor has.
    pub fn of_processor() -> Option<Self> {
        processor::all().into_iter().next()
    }

    /// The instruction's name; `eADR` where none is needed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clwb => "clwb",
            Self::ClflushOpt => "clflushopt",
            Self::Clflush => "clflush",
            Self::DcCvap => "dc cvap",
            Self::Nothing => "eADR",
        }
    }

    /// Starts the write-back of every line that has a byte of these.
    #[inline]
    pub(crate) fn flush(self, bytes: &[u8]) {
        if self == Self::Nothing || bytes.is_empty() {
            return;
        }
        let line_bytes = processor::line_bytes();
        let range = bytes.as_ptr_range();
        let mut line = range.start.wrapping_sub(range.start.addr() % line_bytes);
        while line < range.end {
            processor::write_back(self, line);
            line = line.wrapping_add(line_bytes);
        }
    }

    /// Waits until every line whose write-back was started has reached the medium.
    #[inline]
    pub(crate) fn drain(self) {
        processor::fence();
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod processor {
    use super::WriteBack;
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count, _mm_clflush, _mm_sfence};

    /// The leaf of `cpuid` that tells of `clwb` and `clflushopt`, in these bits of `ebx`.
    const FEATURES_LEAF: u32 = 7;
    const CLFLUSHOPT: u32 = 1 << 23;
    const CLWB: u32 = 1 << 24;

    /// What there is, the best first.
    pub(super) fn all() -> Vec<WriteBack> {
        #[allow(unused_unsafe, reason = "newer compilers know that it is safe")]
        // SAFETY: every x86-64 has the instruction; what it is not sure to have is asked for only if it does.
        let features = unsafe { if __cpuid(0).eax >= FEATURES_LEAF { __cpuid_count(FEATURES_LEAF, 0).ebx } else { 0 } };
        let has = |bit| features & bit != 0;
        let found =
            [(has(CLWB), WriteBack::Clwb), (has(CLFLUSHOPT), WriteBack::ClflushOpt), (true, WriteBack::Clflush)];
        found.into_iter().filter_map(|(has, write_back)| has.then_some(write_back)).collect()
    }

    pub(super) const fn line_bytes() -> usize {
        64
    }

    #[inline(always)]
    pub(super) fn write_back(how: WriteBack, line: *const u8) {
        match how {
            // SAFETY: writes back a line that has a readable byte; contents do not change. The compiler is not told that no
            // memory is read, so it makes all stores before it.
            WriteBack::Clwb => unsafe { asm!("clwb [{line}]", line = in(reg) line, options(nostack, preserves_flags)) },
            // SAFETY: as above.
            WriteBack::ClflushOpt => unsafe {
                asm!("clflushopt [{line}]", line = in(reg) line, options(nostack, preserves_flags));
            },
            // SAFETY: as above; each x86-64 has the instruction.
            WriteBack::Clflush => unsafe { _mm_clflush(line) },
            WriteBack::DcCvap | WriteBack::Nothing => {}
        }
    }

    #[inline(always)]
    pub(super) fn fence() {
        // SAFETY: orders stores, and does nothing else.
        unsafe { _mm_sfence() };
    }
}

#[cfg(all(target_arch = "aarch64", target_os = "linux", not(miri)))]
mod processor {
    use super::WriteBack;
    use std::arch::asm;

    /// What there is.
    pub(super) fn all() -> Vec<WriteBack> {
        // SAFETY: asks the C library for a number that the kernel gave the process.
        let features = unsafe { libc::getauxval(libc::AT_HWCAP) };
        if features & libc::HWCAP_DCPOP != 0 { vec![WriteBack::DcCvap] } else { Vec::new() }
    }

    pub(super) fn line_bytes() -> usize {
        let kind: u64;
        // SAFETY: reads a register that Linux lets processes read: bits 16 to 19 are log2 of the words in a line.
        unsafe { asm!("mrs {kind}, ctr_el0", kind = out(reg) kind, options(nomem, nostack, preserves_flags)) };
        4 << ((kind >> 16) & 15)
    }

    #[inline(always)]
    pub(super) fn write_back(how: WriteBack, line: *const u8) {
        if how == WriteBack::DcCvap {
            // SAFETY: cleans a line that has a readable byte; contents do not change. `dc cvap`, as old assemblers spell it.
            unsafe { asm!("sys #3, c7, c12, #1, {line}", line = in(reg) line, options(nostack, preserves_flags)) };
        }
    }

    #[inline(always)]
    pub(super) fn fence() {
        // SAFETY: waits for memory accesses and cleanings, and does nothing else.
        unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
    }
}

#[cfg(any(miri, not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_os = "linux")))))]
mod processor {
    use super::WriteBack;

    pub(super) const fn all() -> Vec<WriteBack> {
        Vec::new()
    }

    pub(super) const fn line_bytes() -> usize {
        64
    }

    pub(super) const fn write_back(_how: WriteBack, _line: *const u8) {}

    pub(super) fn fence() {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_as_they_are_whichever_way_they_are_written_back() {
        // Every instruction that this processor has, on ranges of every alignment, on ordinary memory.
        let bytes: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
        for write_back in processor::all().into_iter().chain([WriteBack::Nothing]) {
            for start in 0..130 {
                write_back.flush(&bytes[start..start]);
                write_back.flush(&bytes[start..start + 1]);
                write_back.flush(&bytes[start..900]);
                write_back.drain();
            }
            assert!(bytes.iter().enumerate().all(|(i, byte)| *byte == i as u8), "{}", write_back.name());
        }
        assert_eq!(WriteBack::of_processor(), processor::all().first().copied());
    }
}
