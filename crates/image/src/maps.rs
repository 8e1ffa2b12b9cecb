//! `/proc/PID/maps` as data.

use serde::{Deserialize, Serialize};

/// What a mapping shows, by the name that the kernel gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backing {
    /// Private anonymous memory (any `[anon:…]` name included).
    Anonymous,
    /// The heap that `brk` moves.
    Heap,
    /// The main thread's stack.
    Stack,
    /// One of the kernel's data mappings that belong to the vDSO.
    Vvar,
    /// The vDSO's code.
    Vdso,
    /// The legacy vsyscall page, outside user space.
    Vsyscall,
    /// A file (or a kernel object shown as one: `/dev/zero`, `/memfd:…`, `/SYSV…`, `anon_inode:…`).
    File {
        /// The path as shown, without ` (deleted)`.
        path: String,
        /// Whether the path no longer leads to it.
        deleted: bool,
    },
}

/// One line of `/proc/PID/maps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address after the last byte.
    pub end: u64,
    /// `PROT_READ` 1, `PROT_WRITE` 2, `PROT_EXEC` 4.
    pub protection: u8,
    /// `MAP_SHARED` (shown `s`).
    pub shared: bool,
    /// Offset in the file, bytes.
    pub offset: u64,
    /// Device number as shown, `major << 32 | minor`.
    pub device: u64,
    /// Inode number; 0 for anonymous memory.
    pub inode: u64,
    /// What is behind it.
    pub backing: Backing,
}

impl Mapping {
    /// Bytes.
    pub fn length(&self) -> u64 {
        self.end - self.start
    }

    /// Whether the program may write to it at present.
    pub fn writable(&self) -> bool {
        self.protection & 2 != 0
    }

    /// Whether the kernel provides it to every process (vDSO and its data, vsyscall).
    pub fn is_kernel(&self) -> bool {
        matches!(self.backing, Backing::Vvar | Backing::Vdso | Backing::Vsyscall)
    }

    /// Parses one line; `None` if it is not of the kernel's form (`proc_pid_maps(5)`).
    pub fn parse(line: &str) -> Option<Self> {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let mut fields = rest.splitn(5, ' ');
        let (flags, offset, device, inode) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let name = fields.next().unwrap_or("").trim_start();
        let flags = flags.as_bytes();
        if flags.len() != 4 {
            return None;
        }
        let bit = |at: usize, letter: u8, value: u8| if flags[at] == letter { value } else { 0 };
        let (major, minor) = device.split_once(':')?;
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let inode = inode.parse().ok()?;
        Some(Self {
            start: hex(start)?,
            end: hex(end)?,
            protection: bit(0, b'r', 1) | bit(1, b'w', 2) | bit(2, b'x', 4),
            shared: flags[3] == b's',
            offset: hex(offset)?,
            device: hex(major)? << 32 | hex(minor)?,
            inode,
            backing: backing(name, inode),
        })
    }
}

fn backing(name: &str, inode: u64) -> Backing {
    match name {
        "[heap]" => Backing::Heap,
        "[stack]" => Backing::Stack,
        "[vdso]" => Backing::Vdso,
        "[vsyscall]" => Backing::Vsyscall,
        _ if name.starts_with("[vvar") => Backing::Vvar,
        _ if inode == 0 && (name.is_empty() || name.starts_with('[')) => Backing::Anonymous,
        _ => match name.strip_suffix(" (deleted)") {
            Some(path) => Backing::File { path: unescape(path), deleted: true },
            None => Backing::File { path: unescape(name), deleted: false },
        },
    }
}

/// The kernel writes a line feed in a path as `\012`; every other byte stands for itself.
fn unescape(path: &str) -> String {
    path.replace("\\012", "\n")
}

/// Parses a whole `/proc/PID/maps`; a line of another form is an error that quotes it.
pub fn parse(text: &str) -> Result<Vec<Mapping>, String> {
    text.lines().map(|line| Mapping::parse(line).ok_or_else(|| line.to_owned())).collect()
}

/// The ranges that are locked into memory (mlock(2)), from `/proc/PID/smaps` (proc_pid_smaps(5), `VmFlags`).
pub fn locked(smaps: &str) -> Vec<(u64, u64)> {
    let mut range = None;
    let mut locked = Vec::new();
    for line in smaps.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            locked.extend(range.take().filter(|_| flags.split_ascii_whitespace().any(|flag| flag == "lo")));
        } else if let Some(mapping) = Mapping::parse(line) {
            range = Some((mapping.start, mapping.end));
        }
    }
    locked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_locked_is_told_by_the_flags_of_a_mapping() {
        let smaps = "\
10-11 rw-p 00000000 00:00 0
Locked:                4 kB
VmFlags: rd wr mr mw me lo ac sd
11-12 rw-p 00000000 00:00 0                          [heap]
Locked:                0 kB
VmFlags: rd wr mr mw me ac sd
12-14 rw-s 00000000 00:01 77                         /dev/zero (deleted)
VmFlags: rd wr sh mr mw me ms lo
";
        assert_eq!(locked(smaps), [(0x10, 0x11), (0x12, 0x14)]);
        assert_eq!(locked(""), []);
    }

    #[test]
    fn lines_of_every_kind() {
        let text = "\
55d0-55d1 r-xp 00001000 fe:00 1234                       /usr/bin/a b (deleted)
55d1-55d2 rw-p 00000000 00:00 0                          [heap]
7f00-7f01 rw-p 00000000 00:00 0 
7f01-7f02 rw-s 00000000 00:01 77                         /dev/zero (deleted)
7f02-7f03 r--p 00000000 00:00 0                          [vvar_vclock]
7f03-7f04 r-xp 00000000 00:00 0                          [vdso]
7f04-7f05 rw-p 00000000 00:00 0                          [anon: glibc: loader malloc]
7ffc-7ffd rw-p 00000000 00:00 0                          [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]";
        let maps = parse(text).expect("all lines parse");
        assert_eq!(maps.len(), 9);
        assert_eq!(maps[0].backing, Backing::File { path: "/usr/bin/a b".into(), deleted: true });
        assert_eq!((maps[0].protection, maps[0].offset, maps[0].inode), (5, 0x1000, 1234));
        assert_eq!(maps[0].device, 0xfe << 32);
        assert_eq!(maps[1].backing, Backing::Heap);
        assert_eq!(maps[2].backing, Backing::Anonymous);
        assert!(maps[3].shared);
        assert_eq!(maps[4].backing, Backing::Vvar);
        assert_eq!(maps[5].backing, Backing::Vdso);
        assert_eq!(maps[6].backing, Backing::Anonymous);
        assert_eq!(maps[7].backing, Backing::Stack);
        assert_eq!(maps[8].backing, Backing::Vsyscall);
    }

    #[test]
    fn another_form_is_quoted() {
        assert_eq!(parse("nonsense").unwrap_err(), "nonsense");
        assert_eq!(parse("1-2 rw 0 0:0 0").unwrap_err(), "1-2 rw 0 0:0 0");
    }
}
