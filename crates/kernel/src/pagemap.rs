//! Which pages of another process exist, and which were written.
//!
//! Linux tells by `PAGEMAP_SCAN` from 6.7 on. Before that there are the entries of `/proc/PID/pagemap`, one word for a
//! page (`Documentation/admin-guide/mm/pagemap.rst`); they do not tell the kernel's shared zero page from others, so that
//! counts as content.

use crate::check;
use crate::uffd::Tracking;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

const PAGE_IS_WPALLOWED: u64 = 1 << 0;
const PAGE_IS_WRITTEN: u64 = 1 << 1;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;
const PM_SCAN_WP_MATCHING: u64 = 1;

/// `struct page_region` of `include/uapi/linux/fs.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// `struct pm_scan_arg`.
#[repr(C)]
#[derive(Debug, Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const _: () = assert!(std::mem::size_of::<Scan>() == 96);

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: u64 = 3 << 30 | 96 << 16 | (b'f' as u64) << 8 | 16;

/// The bits of an entry of `/proc/PID/pagemap`.
const ENTRY_PRESENT: u64 = 1 << 63;
const ENTRY_SWAPPED: u64 = 1 << 62;
const ENTRY_FILE: u64 = 1 << 61;
const ENTRY_PROTECTED: u64 = 1 << 57;
const ENTRY_SOFT_DIRTY: u64 = 1 << 55;
const ENTRY: usize = 8;

/// `max_pages` of a scan that ends where its range does, and of one that is to take a fraction of a millisecond.
const NO_LIMIT: u64 = 0;
const PAGES_AT_ONCE: u64 = 4096;

/// From so many bytes on the mappings are asked first which of them have pages: there are two million entries for each
/// eight GiB, whether used or not.
const SPARSE: u64 = 1 << 30;

/// Whether this kernel is asked by `PAGEMAP_SCAN`, and tracks writes by itself.
static SCANS: OnceLock<bool> = OnceLock::new();

/// Whether this kernel can be asked by `PAGEMAP_SCAN`; the same release brought write protection that it resolves by
/// itself.
pub fn scans() -> bool {
    *SCANS.get_or_init(|| {
        let here = 0u64;
        let page = (&raw const here) as u64 & !(minka_image::PAGE - 1);
        let own = Pagemap::open(std::process::id().cast_signed());
        own.and_then(|own| {
            let range = (page, page + minka_image::PAGE);
            own.ask(range, Want::Present, NO_LIMIT, &mut |_, _| (), &mut || ())
        })
        .is_ok()
    })
}

/// Whether the kernel marks pages as written (`CONFIG_MEM_SOFT_DIRTY`): then new mappings count as written as a whole.
pub(crate) fn has_soft_dirty() -> bool {
    let mappings = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let mut flags = mappings.lines().filter_map(|line| line.strip_prefix("VmFlags:"));
    flags.any(|flags| flags.split_ascii_whitespace().any(|flag| flag == "sd"))
}

/// Has this program do as on a kernel before Linux 6.7, if it has not asked for anything yet.
pub fn never_scan() {
    // Who has asked before has had the other answer, and keeps to it.
    let _ = SCANS.set(false);
}

/// The page table of a process, as far as the kernel shows it.
#[derive(Debug)]
pub struct Pagemap {
    pid: i32,
    file: File,
    tracking: Tracking,
}

/// The range of a mapping, of the line that begins it.
fn range_of(line: &str) -> Option<(u64, u64)> {
    let (from, to) = line.split_once(' ')?.0.split_once('-')?;
    Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
}

/// Which pages a scan is to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Pages with content: present or swapped, and not the kernel's shared zero page.
    Present,
    /// Pages of a private file mapping that are the process's own copies.
    PrivateCopies,
    /// Pages written since they were last protected, of an area registered for write tracking.
    /// In an area that is not registered: all present pages.
    Written,
    /// As `Written`, and protects them again, so that the next scan reports only later writes.
    WrittenThenProtect,
    /// Pages of a shared object written through this mapping, also if they are not in the page table at present. Only
    /// where the kernel tracks writes, and of an area that was protected when it was empty.
    WrittenShared,
    /// Pages of areas that are registered for write tracking, whether they exist or not.
    Tracked,
}

impl Pagemap {
    /// Opens the page table of `pid`, whose writes nobody tracks.
    pub fn open(pid: i32) -> io::Result<Self> {
        Self::tracked(pid, Tracking::ByKernel)
    }

    /// Opens the page table of `pid`, whose writes are tracked in this way.
    pub fn tracked(pid: i32, tracking: Tracking) -> io::Result<Self> {
        Ok(Self { pid, file: File::open(format!("/proc/{pid}/pagemap"))?, tracking })
    }

    /// Has no page count as written, where writes are tracked by soft-dirty bits.
    pub fn forget_writes(&self) -> io::Result<()> {
        match self.tracking {
            Tracking::BySoftDirty => std::fs::write(format!("/proc/{}/clear_refs", self.pid), "4"),
            Tracking::ByKernel | Tracking::ByFaults => Ok(()),
        }
    }

    /// Calls `found(start, end)` for each range of wanted pages in `[start, end)`, in order. Where the kernel does not
    /// track writes by itself none is protected again.
    pub fn scan(&self, start: u64, end: u64, want: Want, mut found: impl FnMut(u64, u64)) -> io::Result<()> {
        self.walk((start, end), want, NO_LIMIT, &mut found, &mut || ())
    }

    /// As `scan`, in pieces that take a fraction of a millisecond each; `between` is called after each of them. What the
    /// pieces are measured by is what there is: programs reserve terabytes that they never use.
    pub fn scan_in_pieces(
        &self,
        start: u64,
        end: u64,
        want: Want,
        mut found: impl FnMut(u64, u64),
        mut between: impl FnMut(),
    ) -> io::Result<()> {
        self.walk((start, end), want, PAGES_AT_ONCE, &mut found, &mut between)
    }

    fn walk(
        &self,
        (start, end): (u64, u64),
        want: Want,
        pages_max: u64,
        found: &mut impl FnMut(u64, u64),
        between: &mut impl FnMut(),
    ) -> io::Result<()> {
        if scans() {
            return self.ask((start, end), want, pages_max, found, between);
        }
        match want {
            Want::Tracked => self.registered(start, end, found),
            Want::WrittenShared => Err(io::ErrorKind::Unsupported.into()),
            _ if end.saturating_sub(start) < SPARSE => self.read((start, end), want, found, between),
            _ => {
                let mut populated = Vec::new();
                self.populated(start, end, &mut |from, to| populated.push((from, to)))?;
                populated.into_iter().try_for_each(|range| self.read(range, want, found, between))
            }
        }
    }

    /// By the entries of the page table.
    fn read(
        &self,
        (start, end): (u64, u64),
        want: Want,
        found: &mut impl FnMut(u64, u64),
        between: &mut impl FnMut(),
    ) -> io::Result<()> {
        const PAGE: u64 = minka_image::PAGE;
        let is_written = |entry: u64| match self.tracking {
            Tracking::BySoftDirty => entry & ENTRY_SOFT_DIRTY != 0,
            Tracking::ByFaults | Tracking::ByKernel => entry & ENTRY_PROTECTED == 0,
        };
        let is_wanted = |entry: u64| {
            let exists = entry & (ENTRY_PRESENT | ENTRY_SWAPPED) != 0;
            exists
                && match want {
                    Want::Present => true,
                    Want::PrivateCopies => entry & ENTRY_FILE == 0,
                    Want::Written | Want::WrittenThenProtect | Want::WrittenShared | Want::Tracked => {
                        is_written(entry)
                    }
                }
        };
        let mut entries = vec![0; 64 << 10];
        let mut range: Option<(u64, u64)> = None;
        let mut at = start;
        while at < end {
            let wanted = ((end - at).div_ceil(PAGE) as usize * ENTRY).min(entries.len());
            let read = self.file.read_at(&mut entries[..wanted], at / PAGE * ENTRY as u64)?;
            let whole = entries[..read].as_chunks::<ENTRY>().0;
            if whole.is_empty() {
                break;
            }
            for entry in whole {
                let next = at + PAGE;
                range = match (range, is_wanted(u64::from_le_bytes(*entry))) {
                    (Some((first, _)), true) => Some((first, next)),
                    (None, true) => Some((at, next)),
                    (Some((first, last)), false) => {
                        found(first, last);
                        None
                    }
                    (None, false) => None,
                };
                at = next;
            }
            between();
        }
        if let Some((first, last)) = range {
            found(first, last.min(end));
        }
        Ok(())
    }

    /// The mappings that a userfaultfd has registered.
    fn registered(&self, start: u64, end: u64, found: &mut impl FnMut(u64, u64)) -> io::Result<()> {
        let marks = |field: &str, value: &str| {
            field == "VmFlags" && value.split_ascii_whitespace().any(|flag| matches!(flag, "um" | "uw"))
        };
        self.mappings(start, end, marks, found)
    }

    /// The mappings that have any page, in memory or swapped out.
    fn populated(&self, start: u64, end: u64, found: &mut impl FnMut(u64, u64)) -> io::Result<()> {
        let counts = |field: &str, value: &str| {
            matches!(field, "Rss" | "Swap" | "Shared_Hugetlb" | "Private_Hugetlb") && value.trim() != "0 kB"
        };
        self.mappings(start, end, counts, found)
    }

    /// The mappings of which `/proc/PID/smaps` has such a field (proc_pid_smaps(5)), as far as they are in
    /// `[start, end)`.
    fn mappings(
        &self,
        start: u64,
        end: u64,
        is_wanted: impl Fn(&str, &str) -> bool,
        found: &mut impl FnMut(u64, u64),
    ) -> io::Result<()> {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps", self.pid))?;
        let mut mapping = None;
        for line in text.lines() {
            if let Some(range) = range_of(line) {
                mapping = Some(range).filter(|(from, to)| *from < end && *to > start);
            } else if let Some((field, value)) = line.split_once(':')
                && is_wanted(field, value)
                && let Some((from, to)) = mapping.take()
            {
                found(start.max(from), end.min(to));
            }
        }
        Ok(())
    }

    fn ask(
        &self,
        (start, end): (u64, u64),
        want: Want,
        pages_max: u64,
        found: &mut impl FnMut(u64, u64),
        between: &mut impl FnMut(),
    ) -> io::Result<()> {
        let present_or_swapped = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
        // `category_mask` bits must all hold (inverted where `category_inverted` says), of `anyof` at least one.
        let (inverted, mask, anyof, flags) = match want {
            Want::Present => (PAGE_IS_PFNZERO, PAGE_IS_PFNZERO, present_or_swapped, 0),
            Want::PrivateCopies => (PAGE_IS_FILE, PAGE_IS_FILE, present_or_swapped, 0),
            Want::Written => (0, PAGE_IS_WRITTEN, present_or_swapped, 0),
            Want::WrittenThenProtect => (0, PAGE_IS_WRITTEN, present_or_swapped, PM_SCAN_WP_MATCHING),
            Want::WrittenShared => (0, PAGE_IS_WRITTEN, 0, 0),
            Want::Tracked => (0, PAGE_IS_WPALLOWED, 0, 0),
        };
        let mut regions = [Region::default(); 512];
        let mut at = start;
        while at < end {
            let mut scan = Scan {
                size: std::mem::size_of::<Scan>() as u64,
                flags,
                start: at,
                end,
                vec: regions.as_mut_ptr() as u64,
                vec_len: regions.len() as u64,
                max_pages: pages_max,
                category_inverted: inverted,
                category_mask: mask,
                category_anyof_mask: anyof,
                return_mask: PAGE_IS_PRESENT,
                ..Scan::default()
            };
            // SAFETY: `scan` and `regions` live over the call and have the sizes stated in `scan`.
            let count =
                check(i64::from(unsafe { libc::ioctl(self.file.as_raw_fd(), PAGEMAP_SCAN, &raw mut scan) }))?;
            for region in &regions[..count as usize] {
                found(region.start, region.end);
            }
            between();
            if scan.walk_end <= at {
                break;
            }
            at = scan.walk_end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minka_image::PAGE;

    /// So much of its addresses MariaDB reserves.
    const RESERVED: u64 = 8 << 40;

    #[test]
    fn a_reservation_is_scanned_by_what_is_in_it() {
        if !scans() {
            eprintln!("not tried: this kernel has no PAGEMAP_SCAN");
            return;
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: the kernel chooses the place, and nobody else knows of it.
        let reserved =
            unsafe { libc::mmap(std::ptr::null_mut(), RESERVED as usize, protection, flags, -1, 0) };
        assert_ne!(reserved, libc::MAP_FAILED);
        let start = reserved as u64;
        let touched = [3 * PAGE, RESERVED / 2];
        for offset in touched {
            // SAFETY: both lie in the mapping, which can be written to.
            unsafe { reserved.cast::<u8>().add(offset as usize).write_volatile(1) };
        }
        let own = Pagemap::open(std::process::id().cast_signed()).expect("open this process's page table");
        let (mut found, mut pieces) = (Vec::new(), 0);
        let range = (start + PAGE, start + RESERVED);
        let wanted = |a, b| found.push((a - start, b - start));
        let scanned = own.scan_in_pieces(range.0, range.1, Want::PrivateCopies, wanted, || pieces += 1);
        scanned.expect("scan it");
        assert!(touched.iter().all(|page| found.iter().any(|(a, b)| (*a..*b).contains(page))), "{found:x?}");
        let bytes: u64 = found.iter().map(|(a, b)| b - a).sum();
        // SAFETY: the mapping of above, to which nothing points any more.
        assert_eq!(unsafe { libc::munmap(reserved, RESERVED as usize) }, 0);
        // Each page may be a huge one.
        assert!(found.len() == 2 && bytes <= 4 << 20, "{found:x?}");
        assert!(pieces <= 4, "{pieces}");
    }

    #[test]
    fn what_is_written_down_of_mappings_tells_which_have_pages() {
        let text = "7f00-8000 rw-p 00000000 00:00 0";
        assert_eq!(range_of(text), Some((0x7f00, 0x8000)));
        assert_eq!(range_of("Rss:                   0 kB"), None);
        let own = Pagemap::open(std::process::id().cast_signed()).expect("open this process's page table");
        let here = Box::new([1u8; 8192]);
        let at = here.as_ptr() as u64;
        let mut found = Vec::new();
        own.populated(at, at + 8192, &mut |a, b| found.push((a, b))).expect("ask for the mappings");
        assert_eq!(found, [(at, at + 8192)]);
    }
}
