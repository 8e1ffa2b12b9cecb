//! Sizes of the kernel's structures on x86-64, from the kernel's `include/uapi` and, where glibc's structures
//! have the same layout, checked against them in the tests.
//!
//! The marshaller needs no more than sizes, so each is an array of bytes with the structure's name.

#![allow(non_camel_case_types)]

pub(crate) use core::primitive::{i32, i64, u8, u16, u32, u64};

macro_rules! layouts {
    ($($name:ident $size:literal;)*) => {
        $( pub(crate) type $name = [::core::primitive::u8; $size]; )*
    };
}

layouts! {
    cachestat 40;
    cachestat_range 16;
    capability_data 24;
    capability_header 8;
    epoll_event 12;
    flock 32;
    fs_label 256;
    fs_trim_range 24;
    fsxattr 28;
    file_clone_range 32;
    ifreq 40;
    input_id 8;
    itimerspec 32;
    itimerval 32;
    mq_attr 64;
    msginfo 32;
    msqid_ds 120;
    net_port_rule 16;
    owner_ex 8;
    path_beneath_rule 12;
    pollfd 8;
    rlimit 16;
    rusage 144;
    sched_param 4;
    sembuf 6;
    semid_ds 104;
    seminfo 40;
    shm_info 48;
    shmid_ds 112;
    shminfo 72;
    sigaction 32;
    sigevent 64;
    siginfo 128;
    stat 144;
    statfs 120;
    statx 256;
    sysinfo 112;
    termio 18;
    termios 36;
    termios2 44;
    timespec 16;
    timeval 16;
    timex 208;
    timezone 8;
    tms 32;
    ustat 32;
    utimbuf 16;
    utsname 390;
    winsize 8;
}

/// A signal set as the kernel has it.
pub(crate) type sigset = [::core::primitive::u8; 8];

#[cfg(test)]
mod test {
    /// Compares layouts with glibc's structures of the same name and meaning.
    macro_rules! equal {
        ($($name:ident)*) => { $(
            assert_eq!(size_of::<super::$name>(), size_of::<libc::$name>(), stringify!($name));
        )* };
    }

    #[test]
    fn sizes_are_those_of_glibc_where_it_has_the_kernels_layout() {
        equal! {
            epoll_event flock ifreq itimerspec itimerval mq_attr msqid_ds pollfd rlimit rusage sched_param sembuf
            semid_ds seminfo shmid_ds sigevent stat statfs statx sysinfo termios2 timespec timeval timex tms
            utimbuf utsname winsize input_id
        }
        assert_eq!(size_of::<super::siginfo>(), size_of::<libc::siginfo_t>());
    }
}
