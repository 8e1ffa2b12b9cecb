//! What a process is made of, as data, and the pure rules about moving it.
//!
//! Nothing here touches the kernel: the state comes in as values and the decisions go out as values,
//! so that each rule that could corrupt a program silently is tested by itself.
//!
//! | module | what |
//! |---|---|
//! | [`registers`] | the general registers of one thread, in the kernel's layout |
//! | [`restart`] | what an interrupted system call becomes when its thread is moved |
//! | [`timed`] | what is left of a time-out when a call is made again |
//! | [`robust`] | what a lock's word becomes whose owner ends |
//! | [`rseq`] | restartable sequences: where a thread stopped inside one goes on |
//! | [`maps`] | `/proc/PID/maps` as data |
//! | [`ranges`] | a map from address ranges to values |
//! | [`shared`] | shared memory that a process maps, and whether it can be elsewhere |
//! | [`holders`] | whether nobody else has memory that has no name |
//! | [`family`] | processes that share memory: what their deputies decide in common |
//! | [`origin`] | where each page of a guest has its content, followed through its local calls |
//! | [`process`] | the whole image that travels |
//! | [`vdso`] | what stands in for a vDSO on a machine with another kernel |
//! | [`cpu`] | CPU features by name, which of them a target lacks, and having a program do without some |
//! | [`xstate`] | extended registers, on machines that keep them otherwise |

pub mod cpu;
pub mod family;
pub mod holders;
pub mod maps;
pub mod origin;
pub mod process;
pub mod ranges;
pub mod registers;
pub mod restart;
pub mod robust;
pub mod rseq;
pub mod shared;
pub mod timed;
pub mod vdso;
pub mod xstate;

/// Bytes per page on x86-64.
pub const PAGE: u64 = 4096;

/// First address above user space with four-level page tables (`TASK_SIZE_MAX`).
pub const TASK_SIZE: u64 = 0x7fff_ffff_f000;
