//! Who has a file: the kernel's own counts, of which no file in `/proc` tells.
//!
//! A file is one inode (`i_count`: an entry each), an entry in a directory for each name that the kernel knows of, or that is gone
//! (`d_lockref`: each opening, and in memory the name itself), and openings (`f_ref`: each mapping, each descriptor, also one that is under way in a socket or in use by a call):
//!
//! ```text
//!  mapping ──┐
//!  mapping ──┼──► opening ──┐
//!  descriptor┘              ├──► entry ──► inode
//!  descriptor ───► opening ─┘
//! ```
//!
//! Two BPF programs of a few dozen instructions are run by the kernel's iterators over the mappings and over the descriptors of a
//! process (bpf_iter, since Linux 5.12; of one process since 6.1), and only read. Where the fields are the kernel says itself ([`btf`]).
//! These programs alone may be used under the GPL as well: the function by which they write is for such only.

pub mod btf;

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

use crate::check;
use btf::{Btf, BtfError};
use minka_image::holders::{Descriptor, Held, Mapped};

/// Why the kernel does not tell.
#[derive(Debug, thiserror::Error)]
pub enum HoldersError {
    /// It does not describe itself.
    #[error("read the kernel's description of itself")]
    Description(#[source] io::Error),
    /// It has something else instead.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// It does not take the programs: without root, say.
    #[error("load a BPF program that counts")]
    Load(#[source] io::Error),
}

/// Most bytes that a kernel's description of itself may have.
const DESCRIPTION_MAX: u64 = 64 << 20;

/// Most bytes of what is read of one process.
const RECORDS_MAX: u64 = 64 << 20;

const LICENCE: &CStr = c"Dual MIT/GPL";

const PROG_LOAD: i32 = 5;
const LINK_CREATE: i32 = 28;
const ITER_CREATE: i32 = 33;
const TRACING: u32 = 26;
const TRACE_ITER: u32 = 28;
const SEQ_WRITE: i32 = 127;

/// Words of a record.
const WORDS: usize = 9;

/// The programs that count.
#[derive(Debug)]
pub struct Holders {
    mappings: OwnedFd,
    descriptors: OwnedFd,
}

/// The programs, if the kernel takes them; they are loaded once.
pub fn holders() -> Result<&'static Holders, &'static HoldersError> {
    static HOLDERS: OnceLock<Result<Holders, HoldersError>> = OnceLock::new();
    HOLDERS.get_or_init(Holders::load).as_ref()
}

impl Holders {
    fn load() -> Result<Self, HoldersError> {
        let mut bytes = Vec::new();
        let file = File::open("/sys/kernel/btf/vmlinux").map_err(HoldersError::Description)?;
        file.take(DESCRIPTION_MAX).read_to_end(&mut bytes).map_err(HoldersError::Description)?;
        let btf = Btf::parse(&bytes)?;
        let fields = Fields::find(&btf)?;
        let load = |code: Vec<Instruction>, iterator: &str| {
            let number = btf.function(iterator)?;
            load(&code, number).map_err(HoldersError::Load)
        };
        Ok(Self {
            mappings: load(of_mappings(&fields), "bpf_iter_task_vma")?,
            descriptors: load(of_descriptors(&fields), "bpf_iter_task_file")?,
        })
    }

    /// All mappings of files that a process has.
    pub fn mappings(&self, pid: i32) -> io::Result<Vec<Mapped>> {
        let found = run(&self.mappings, pid)?;
        Ok(found
            .iter()
            .map(|words| Mapped { memory: words[0], start: words[1], held: held(words) })
            .collect())
    }

    /// All descriptors of files.
    pub fn descriptors(&self, pid: i32) -> io::Result<Vec<Descriptor>> {
        let found = run(&self.descriptors, pid)?;
        Ok(found
            .iter()
            .map(|words| Descriptor { table: words[0], number: words[1], held: held(words) })
            .collect())
    }
}

fn held(words: &[u64; WORDS]) -> Held {
    let [_, _, opening, references, entry, openings, inode, entries, names] = *words;
    Held { opening, references, entry, openings, inode, entries, names }
}

/// Where the kernel has what is read.
struct Fields {
    task_files: i16,
    mapping_file: i16,
    mapping_memory: i16,
    mapping_start: i16,
    file_references: i16,
    /// What is to be added to the count of an opening: newer kernels count from none.
    uncounted: i32,
    file_entry: i16,
    file_inode: i16,
    entry_openings: i16,
    inode_entries: i16,
    inode_names: i16,
}

impl Fields {
    fn find(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let (file_references, uncounted) = match btf.field("file", &["f_ref", "refcnt", "counter"], 8) {
            Ok(at) => (at, 1),
            Err(_) => (btf.field("file", &["f_count", "counter"], 8)?, 0),
        };
        let entry = btf.field("dentry", &["d_lockref", "count"], 4)?;
        Ok(Self {
            task_files: btf.field("task_struct", &["files"], 8)?,
            mapping_file: btf.field("vm_area_struct", &["vm_file"], 8)?,
            mapping_memory: btf.field("vm_area_struct", &["vm_mm"], 8)?,
            mapping_start: btf.field("vm_area_struct", &["vm_start"], 8)?,
            file_references,
            uncounted,
            file_entry: btf.field("file", &["f_path", "dentry"], 8)?,
            file_inode: btf.field("file", &["f_inode"], 8)?,
            entry_openings: entry,
            inode_entries: btf.field("inode", &["i_count", "counter"], 4)?,
            inode_names: btf.field("inode", &["i_nlink"], 4)?,
        })
    }
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u8,
    /// Target below, source above.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// What the two programs are made of (Documentation/bpf/standardization/instruction-set.rst).
mod code {
    use super::Instruction;

    const fn make(code: u8, target: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
        Instruction { code, registers: source << 4 | target, offset, immediate }
    }
    /// `target = *(u64 *)(source + offset)`
    pub(super) const fn load(target: u8, source: u8, offset: i16) -> Instruction {
        make(0x79, target, source, offset, 0)
    }
    /// `target = *(u32 *)(source + offset)`
    pub(super) const fn load_half(target: u8, source: u8, offset: i16) -> Instruction {
        make(0x61, target, source, offset, 0)
    }
    /// `*(u64 *)(target + offset) = source`
    pub(super) const fn store(target: u8, offset: i16, source: u8) -> Instruction {
        make(0x7b, target, source, offset, 0)
    }
    pub(super) const fn set(target: u8, source: u8) -> Instruction {
        make(0xbf, target, source, 0, 0)
    }
    pub(super) const fn set_to(target: u8, value: i32) -> Instruction {
        make(0xb7, target, 0, 0, value)
    }
    pub(super) const fn add(target: u8, value: i32) -> Instruction {
        make(0x07, target, 0, 0, value)
    }
    /// `if register == 0 goto …`
    pub(super) const fn if_zero(register: u8) -> Instruction {
        make(0x15, register, 0, 0, 0)
    }
    pub(super) const fn call(function: i32) -> Instruction {
        make(0x85, 0, 0, 0, function)
    }
    pub(super) const fn exit() -> Instruction {
        make(0x95, 0, 0, 0, 0)
    }
}

/// The frame.
const FRAME: u8 = 10;

/// Where a word of the record lies in the frame.
const fn place(word: usize) -> i16 {
    8 * (word as i16 - WORDS as i16)
}

/// Begins with the program's argument in register 1: `struct bpf_iter__task_vma { meta, task, vma }`.
fn of_mappings(fields: &Fields) -> Vec<Instruction> {
    let mut code = vec![
        code::load(6, 1, 0),
        code::load(7, 1, 8),
        code::if_zero(7),
        code::load(8, 1, 16),
        code::if_zero(8),
        code::load(9, 8, fields.mapping_file),
        code::if_zero(9),
        code::load(1, 8, fields.mapping_memory),
        code::store(FRAME, place(0), 1),
        code::load(1, 8, fields.mapping_start),
        code::store(FRAME, place(1), 1),
    ];
    code.extend(of_file(fields, fields.uncounted));
    finish(code)
}

/// `struct bpf_iter__task_file { meta, task, u32 fd, file }`.
fn of_descriptors(fields: &Fields) -> Vec<Instruction> {
    let mut code = vec![
        code::load(6, 1, 0),
        code::load(7, 1, 8),
        code::if_zero(7),
        code::load(9, 1, 24),
        code::if_zero(9),
        code::load_half(2, 1, 16),
        code::store(FRAME, place(1), 2),
        code::load(2, 7, fields.task_files),
        code::store(FRAME, place(0), 2),
    ];
    // The iterator itself has the file meanwhile.
    code.extend(of_file(fields, fields.uncounted - 1));
    finish(code)
}

/// What is read of the file in register 9, the references first, and written for `meta` in register 6.
fn of_file(fields: &Fields, uncounted: i32) -> Vec<Instruction> {
    vec![
        code::load(3, 9, fields.file_inode),
        code::store(FRAME, place(2), 9),
        code::load(2, 9, fields.file_references),
        code::add(2, uncounted),
        code::store(FRAME, place(3), 2),
        code::load(4, 9, fields.file_entry),
        code::store(FRAME, place(4), 4),
        code::load_half(2, 4, fields.entry_openings),
        code::store(FRAME, place(5), 2),
        code::store(FRAME, place(6), 3),
        code::load_half(2, 3, fields.inode_entries),
        code::store(FRAME, place(7), 2),
        code::load_half(2, 3, fields.inode_names),
        code::store(FRAME, place(8), 2),
        code::load(1, 6, 0),
        code::set(2, FRAME),
        code::add(2, i32::from(place(0))),
        code::set_to(3, 8 * WORDS as i32),
        code::call(SEQ_WRITE),
    ]
}

/// Has all jumps lead to the end.
fn finish(mut code: Vec<Instruction>) -> Vec<Instruction> {
    let end = code.len();
    for (index, instruction) in code.iter_mut().enumerate() {
        if instruction.code == 0x15 {
            instruction.offset = (end - index - 1) as i16;
        }
    }
    code.extend([code::set_to(0, 0), code::exit()]);
    code
}

/// `union bpf_attr`, as far as it is used.
#[repr(C, align(8))]
struct Attributes([u8; 128]);

impl Attributes {
    fn new(fields: &[(usize, u64, usize)]) -> Self {
        let mut bytes = [0; 128];
        for (at, value, length) in fields {
            bytes[*at..at + length].copy_from_slice(&value.to_le_bytes()[..*length]);
        }
        Self(bytes)
    }

    /// A descriptor that a command makes. Whatever the attributes point at has to live over the call.
    fn make(&self, command: i32) -> io::Result<OwnedFd> {
        // SAFETY: of the commands of this module, all of which only read what their attributes point at: memory that the
        // functions of this module hold over the call.
        let result = check(unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_ptr(), self.0.len()) })?;
        let descriptor = i32::try_from(result).map_err(|_| io::ErrorKind::InvalidData)?;
        // SAFETY: it was just made and belongs to nobody else.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }
}

fn load(code: &[Instruction], iterator: u32) -> io::Result<OwnedFd> {
    let attributes = Attributes::new(&[
        (0, u64::from(TRACING), 4),
        (4, code.len() as u64, 4),
        (8, code.as_ptr().expose_provenance() as u64, 8),
        (16, LICENCE.as_ptr().expose_provenance() as u64, 8),
        (68, u64::from(TRACE_ITER), 4),
        (108, u64::from(iterator), 4),
    ]);
    attributes.make(PROG_LOAD)
}

/// Runs a program over what one process has.
fn run(program: &OwnedFd, pid: i32) -> io::Result<Vec<[u64; WORDS]>> {
    // `union bpf_iter_link_info`: `{ u32 tid, u32 pid, u32 pid_fd }`.
    let only = [0, pid.cast_unsigned(), 0];
    let link = Attributes::new(&[
        (0, program.as_raw_fd() as u64, 4),
        (8, u64::from(TRACE_ITER), 4),
        (16, only.as_ptr().expose_provenance() as u64, 8),
        (24, size_of_val(&only) as u64, 4),
    ]);
    let link = link.make(LINK_CREATE)?;
    let iterator = Attributes::new(&[(0, link.as_raw_fd() as u64, 4)]).make(ITER_CREATE)?;
    let mut bytes = Vec::new();
    let length = File::from(iterator).take(RECORDS_MAX).read_to_end(&mut bytes)? as u64;
    let (records, rest) = bytes.as_chunks::<{ 8 * WORDS }>();
    if !rest.is_empty() || length == RECORDS_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let words = |record: &[u8; 8 * WORDS]| {
        let (words, _) = record.as_chunks::<8>();
        std::array::from_fn(|index| words.get(index).map_or(0, |word| u64::from_ne_bytes(*word)))
    };
    Ok(records.iter().map(words).collect())
}

#[cfg(test)]
mod tests;
