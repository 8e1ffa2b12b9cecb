//! ioctl commands whose data is known and holds no addresses: terminals, sockets, files, block devices.

use crate::notation::syscalls;

syscalls! {
    /// ioctl, by command.
    pub(crate) static IOCTL of 16;

             2 FIGETBSZ (fd: Fd, command: hex32, size: out[i32]) = home;
        0x125e BLKROGET (fd: Fd, command: hex32, value: out[i32]) = home;
        0x125f BLKRRPART (fd: Fd, command: hex32) = home;
        0x1260 BLKGETSIZE (fd: Fd, command: hex32, value: out[u64]) = home;
        0x1261 BLKFLSBUF (fd: Fd, command: hex32) = home blocks;
        0x1263 BLKRAGET (fd: Fd, command: hex32, value: out[u64]) = home;
        0x1267 BLKSECTGET (fd: Fd, command: hex32, value: out[u16]) = home;
        0x1268 BLKSSZGET (fd: Fd, command: hex32, value: out[i32]) = home;
        0x1277 BLKDISCARD (fd: Fd, command: hex32, range: in[u64; 2]) = home blocks;
        0x1278 BLKIOMIN (fd: Fd, command: hex32, value: out[u32]) = home;
        0x1279 BLKIOOPT (fd: Fd, command: hex32, value: out[u32]) = home;
        0x127a BLKALIGNOFF (fd: Fd, command: hex32, value: out[i32]) = home;
        0x127b BLKPBSZGET (fd: Fd, command: hex32, value: out[u32]) = home;
        0x127e BLKROTATIONAL (fd: Fd, command: hex32, value: out[u16]) = home;
        0x5401 TCGETS (fd: Fd, command: hex32, settings: out[termios]) = home;
        0x5402 TCSETS (fd: Fd, command: hex32, settings: in[termios]) = home;
        0x5403 TCSETSW (fd: Fd, command: hex32, settings: in[termios]) = home blocks;
        0x5404 TCSETSF (fd: Fd, command: hex32, settings: in[termios]) = home blocks;
        0x5405 TCGETA (fd: Fd, command: hex32, settings: inout[termio]) = home;
        0x5406 TCSETA (fd: Fd, command: hex32, settings: in[termio]) = home;
        0x5407 TCSETAW (fd: Fd, command: hex32, settings: in[termio]) = home blocks;
        0x5408 TCSETAF (fd: Fd, command: hex32, settings: in[termio]) = home blocks;
        0x5409 TCSBRK (fd: Fd, command: hex32, value: i32) = home blocks;
        0x540a TCXONC (fd: Fd, command: hex32, value: i32) = home;
        0x540b TCFLSH (fd: Fd, command: hex32, value: i32) = home;
        0x540c TIOCEXCL (fd: Fd, command: hex32) = home;
        0x540d TIOCNXCL (fd: Fd, command: hex32) = home;
        0x540e TIOCSCTTY (fd: Fd, command: hex32, steal: i32) = home;
        0x540f TIOCGPGRP (fd: Fd, command: hex32, group: out[i32]) = home;
        0x5410 TIOCSPGRP (fd: Fd, command: hex32, group: in[i32]) = home;
        0x5411 TIOCOUTQ (fd: Fd, command: hex32, count: out[i32]) = home;
        0x5412 TIOCSTI (fd: Fd, command: hex32, byte: in[u8]) = home;
        0x5413 TIOCGWINSZ (fd: Fd, command: hex32, size: out[winsize]) = home;
        0x5414 TIOCSWINSZ (fd: Fd, command: hex32, size: in[winsize]) = home;
        0x5415 TIOCMGET (fd: Fd, command: hex32, lines: out[i32]) = home;
        0x5416 TIOCMBIS (fd: Fd, command: hex32, lines: in[i32]) = home;
        0x5417 TIOCMBIC (fd: Fd, command: hex32, lines: in[i32]) = home;
        0x5418 TIOCMSET (fd: Fd, command: hex32, lines: in[i32]) = home;
        0x5419 TIOCGSOFTCAR (fd: Fd, command: hex32, value: out[i32]) = home;
        0x541a TIOCSSOFTCAR (fd: Fd, command: hex32, value: in[i32]) = home;
        0x541b FIONREAD (fd: Fd, command: hex32, count: out[i32]) = home;
        0x5420 TIOCPKT (fd: Fd, command: hex32, on: in[i32]) = home;
        0x5421 FIONBIO (fd: Fd, command: hex32, on: in[i32]) = home;
        0x5422 TIOCNOTTY (fd: Fd, command: hex32) = home;
        0x5423 TIOCSETD (fd: Fd, command: hex32, discipline: in[i32]) = home;
        0x5424 TIOCGETD (fd: Fd, command: hex32, discipline: out[i32]) = home;
        0x5425 TCSBRKP (fd: Fd, command: hex32, value: i32) = home blocks;
        0x5427 TIOCSBRK (fd: Fd, command: hex32) = home;
        0x5428 TIOCCBRK (fd: Fd, command: hex32) = home;
        0x5429 TIOCGSID (fd: Fd, command: hex32, session: out[i32]) = home;
        0x5437 TIOCVHANGUP (fd: Fd, command: hex32) = home;
        0x5441 TIOCGPTPEER (fd: Fd, command: hex32, flags: open_flags) -> Fd = home;
        0x5450 FIONCLEX (fd: Fd, command: hex32) = home;
        0x5451 FIOCLEX (fd: Fd, command: hex32) = home;
        0x5452 FIOASYNC (fd: Fd, command: hex32, on: in[i32]) = home;
        0x5460 FIOQSIZE (fd: Fd, command: hex32, size: out[i64]) = home;
        0x8901 FIOSETOWN (fd: Fd, command: hex32, owner: in[i32]) = home;
        0x8902 SIOCSPGRP (fd: Fd, command: hex32, owner: in[i32]) = home;
        0x8903 FIOGETOWN (fd: Fd, command: hex32, owner: out[i32]) = home;
        0x8904 SIOCGPGRP (fd: Fd, command: hex32, owner: out[i32]) = home;
        0x8905 SIOCATMARK (fd: Fd, command: hex32, at: out[i32]) = home;
        0x8906 SIOCGSTAMP (fd: Fd, command: hex32, stamp: out[timeval]) = home;
        0x8907 SIOCGSTAMPNS (fd: Fd, command: hex32, stamp: out[timespec]) = home;
        0x8910 SIOCGIFNAME (fd: Fd, command: hex32, request: inout[ifreq]) = home;
        0x8913 SIOCGIFFLAGS (fd: Fd, command: hex32, request: inout[ifreq]) = home;
        0x8914 SIOCSIFFLAGS (fd: Fd, command: hex32, request: in[ifreq]) = home;
        0x8915 SIOCGIFADDR (fd: Fd, command: hex32, request: inout[ifreq]) = home;
        0x8916 SIOCSIFADDR (fd: Fd, command: hex32, request: in[ifreq]) = home;
        0x8917 SIOCGIFDSTADDR (fd: Fd, command: hex32, request: inout[ifreq]) = home;
        0x8919 SIOCGIFBRDADDR (fd: Fd, command: hex32, request: inout[ifreq]) = home;
        0x891b SIOCGIFNETMASK (fd: Fd, command: hex32, request: inout[ifreq]) = home;
        0x891d SIOCGIFMETRIC (fd: Fd, command: hex32, request: inout[ifreq]) = home;
        0x8921 SIOCGIFMTU (fd: Fd, command: hex32, request: inout[ifreq]) = home;
        0x8927 SIOCGIFHWADDR (fd: Fd, command: hex32, request: inout[ifreq]) = home;
        0x8933 SIOCGIFINDEX (fd: Fd, command: hex32, request: inout[ifreq]) = home;
        0x8942 SIOCGIFTXQLEN (fd: Fd, command: hex32, request: inout[ifreq]) = home;
        0x894b SIOCOUTQNSD (fd: Fd, command: hex32, count: out[i32]) = home;
        0xb701 NS_GET_USERNS (fd: Fd, command: hex32) -> Fd = home;
        0xb702 NS_GET_PARENT (fd: Fd, command: hex32) -> Fd = home;
        0xb703 NS_GET_NSTYPE (fd: Fd, command: hex32) = home;
        0xb704 NS_GET_OWNER_UID (fd: Fd, command: hex32, user: out[u32]) = home;
    0x40045431 TIOCSPTLCK (fd: Fd, command: hex32, lock: in[i32]) = home;
    0x40045436 TIOCSIG (fd: Fd, command: hex32, signal: signal) = home;
    0x40049409 FICLONE (fd: Fd, command: hex32, source: Fd) = home blocks;
    0x40085400 TFD_IOC_SET_TICKS (fd: Fd, command: hex32, ticks: in[u64]) = home;
    0x40086602 FS_IOC_SETFLAGS (fd: Fd, command: hex32, flags: in[i32]) = home;
    0x40087602 FS_IOC_SETVERSION (fd: Fd, command: hex32, version: in[i32]) = home;
    0x401c5820 FS_IOC_FSSETXATTR (fd: Fd, command: hex32, attributes: in[fsxattr]) = home;
    0x4020940d FICLONERANGE (fd: Fd, command: hex32, range: in[file_clone_range]) = home blocks;
    0x402c542b TCSETS2 (fd: Fd, command: hex32, settings: in[termios2]) = home;
    0x402c542c TCSETSW2 (fd: Fd, command: hex32, settings: in[termios2]) = home blocks;
    0x402c542d TCSETSF2 (fd: Fd, command: hex32, settings: in[termios2]) = home blocks;
    0x80044501 EVIOCGVERSION (fd: Fd, command: hex32, version: out[i32]) = home;
    0x80045200 RNDGETENTCNT (fd: Fd, command: hex32, count: out[i32]) = home;
    0x80045430 TIOCGPTN (fd: Fd, command: hex32, number: out[u32]) = home;
    0x80045432 TIOCGDEV (fd: Fd, command: hex32, device: out[u32]) = home;
    0x80045438 TIOCGPKT (fd: Fd, command: hex32, on: out[i32]) = home;
    0x80045439 TIOCGPTLCK (fd: Fd, command: hex32, locked: out[i32]) = home;
    0x80045440 TIOCGEXCL (fd: Fd, command: hex32, on: out[i32]) = home;
    0x80081270 BLKBSZGET (fd: Fd, command: hex32, size: out[i32]) = home;
    0x80081272 BLKGETSIZE64 (fd: Fd, command: hex32, size: out[u64]) = home;
    0x80084502 EVIOCGID (fd: Fd, command: hex32, id: out[input_id]) = home;
    0x80086601 FS_IOC_GETFLAGS (fd: Fd, command: hex32, flags: out[i32]) = home;
    0x80087601 FS_IOC_GETVERSION (fd: Fd, command: hex32, version: out[i32]) = home;
    0x80104592 EVIOCGMASK (fd: Fd, command: hex32, mask: Address) = homeward "an address inside";
    0x801c581f FS_IOC_FSGETXATTR (fd: Fd, command: hex32, attributes: out[fsxattr]) = home;
    0x802c542a TCGETS2 (fd: Fd, command: hex32, settings: out[termios2]) = home;
    0x81009431 FS_IOC_GETFSLABEL (fd: Fd, command: hex32, label: inout[fs_label]) = home;
    0xc0045877 FIFREEZE (fd: Fd, command: hex32, value: i32) = home blocks;
    0xc0045878 FITHAW (fd: Fd, command: hex32, value: i32) = home;
    0xc0185879 FITRIM (fd: Fd, command: hex32, range: inout[fs_trim_range]) = home blocks;
}

syscalls! {
    /// Families of commands that read as many bytes as their size bits say, by direction, type and upper half of the
    /// number. Few families keep to that: Bluetooth's commands (0x48, from 0xc0 on) and the joystick's JSIOCGCORR
    /// write more than their size bits say.
    pub(crate) static IOCTL_SIZED of 16;

    0x80004800 HIDIOCG (fd: Fd, command: hex32, data: encoded[command]) = home "hidraw";
}

syscalls! {
    /// The same for input devices, which use all numbers.
    pub(crate) static IOCTL_INPUT of 16;

    0x80004500 EVIOCG (fd: Fd, command: hex32, data: encoded[command]) = home "evdev";
}
