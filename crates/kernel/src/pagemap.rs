//! Which pages of another process exist, and which were written (`PAGEMAP_SCAN`, Linux 6.7).

use crate::check;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

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

/// The page table of a process, as far as the kernel shows it.
#[derive(Debug)]
pub struct Pagemap {
    file: File,
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
    /// Pages of areas that are registered for write tracking, whether they exist or not.
    Tracked,
}

impl Pagemap {
    /// Opens the page table of `pid`.
    pub fn open(pid: i32) -> io::Result<Self> {
        Ok(Self { file: File::open(format!("/proc/{pid}/pagemap"))? })
    }

    /// Calls `found(start, end)` for each range of wanted pages in `[start, end)`, in order.
    pub fn scan(&self, start: u64, end: u64, want: Want, mut found: impl FnMut(u64, u64)) -> io::Result<()> {
        let present_or_swapped = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
        // `category_mask` bits must all hold (inverted where `category_inverted` says), of `anyof` at least one.
        let (inverted, mask, anyof, flags) = match want {
            Want::Present => (PAGE_IS_PFNZERO, PAGE_IS_PFNZERO, present_or_swapped, 0),
            Want::PrivateCopies => (PAGE_IS_FILE, PAGE_IS_FILE, present_or_swapped, 0),
            Want::Written => (0, PAGE_IS_WRITTEN, present_or_swapped, 0),
            Want::WrittenThenProtect => (0, PAGE_IS_WRITTEN, present_or_swapped, PM_SCAN_WP_MATCHING),
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
            if scan.walk_end <= at {
                break;
            }
            at = scan.walk_end;
        }
        Ok(())
    }
}
