//! Bytes behind pointers: strings, arrays, and the structures that are worth showing.

use super::{ELEMENTS, SHOWN, number};
use core::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes of an element type, by its name in the table.
pub(super) fn show(element: &str, argument: &str, bytes: &[u8], text: &mut String) {
    match element {
        "u8" if argument.contains("address") => address(bytes, text),
        "u8" => string(bytes, SHOWN, text),
        "i32" | "u32" | "i64" | "u64" | "u16" if bytes.len() <= 8 => bracketed(element, bytes, text),
        "i32" | "u32" | "i64" | "u64" | "u16" => numbers(element, bytes, text),
        "sigset" => bits(bytes, 1, number::signal, text),
        "timespec" => each(bytes, 16, text, |bytes, text| seconds("tv_nsec", bytes, text)),
        "timeval" => each(bytes, 16, text, |bytes, text| seconds("tv_usec", bytes, text)),
        "itimerspec" => interval("tv_nsec", bytes, text),
        "itimerval" => interval("tv_usec", bytes, text),
        "pollfd" => list(bytes.len() / 8, text, |index, text| poll(&bytes[8 * index..], text)),
        "epoll_event" => each(bytes, 12, text, epoll),
        "stat" => stat(bytes, text),
        "rlimit" => limit(bytes, text),
        "winsize" => window(bytes, text),
        "utsname" => names(bytes, text),
        _ => {
            let _ = write!(text, "{{{} bytes}}", bytes.len());
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    crate::marshal::load(bytes, at) as u32
}

fn long(bytes: &[u8], at: usize) -> u64 {
    crate::marshal::load(bytes, at)
}

fn half(bytes: &[u8], at: usize) -> u16 {
    crate::marshal::load(bytes, at) as u16
}

/// At most `most` bytes, quoted as C does.
pub(super) fn string(bytes: &[u8], most: usize, text: &mut String) {
    text.push('"');
    let shown = &bytes[..bytes.len().min(most)];
    for (index, byte) in shown.iter().enumerate() {
        let _ = match byte {
            b'\n' => write!(text, "\\n"),
            b'\r' => write!(text, "\\r"),
            b'\t' => write!(text, "\\t"),
            b'"' => write!(text, "\\\""),
            b'\\' => write!(text, "\\\\"),
            b' '..=b'~' => write!(text, "{}", char::from(*byte)),
            // A digit behind would be taken for a part of the number.
            _ if shown.get(index + 1).is_some_and(u8::is_ascii_digit) => write!(text, "\\{byte:03o}"),
            _ => write!(text, "\\{byte:o}"),
        };
    }
    text.push('"');
    if bytes.len() > most {
        text.push_str("...");
    }
}

/// A list in brackets, cut where it becomes long.
pub(super) fn list(count: usize, text: &mut String, mut show: impl FnMut(usize, &mut String)) {
    text.push('[');
    for index in 0..count.min(ELEMENTS) {
        if index > 0 {
            text.push_str(", ");
        }
        show(index, text);
    }
    if count > ELEMENTS {
        text.push_str(", ...");
    }
    text.push(']');
}

/// One element as it is, several as a list.
fn each(bytes: &[u8], size: usize, text: &mut String, show: impl Fn(&[u8], &mut String)) {
    if bytes.len() == size {
        return show(bytes, text);
    }
    list(bytes.len() / size, text, |index, text| show(&bytes[size * index..], text));
}

fn bracketed(element: &str, bytes: &[u8], text: &mut String) {
    let single = matches!((element, bytes.len()), ("u64" | "i64", 8) | ("u32" | "i32", 4) | ("u16", 2));
    if single {
        text.push('[');
        numbers(element, bytes, text);
        text.push(']');
    } else {
        numbers(element, bytes, text);
    }
}

/// Numbers of an element type: one as it is, several as a list.
pub(super) fn numbers(element: &str, bytes: &[u8], text: &mut String) {
    let size = match element {
        "u16" => 2,
        "i64" | "u64" => 8,
        _ => 4,
    };
    each(bytes, size, text, |bytes, text| {
        let _ = match element {
            "u16" => write!(text, "{}", half(bytes, 0)),
            "i64" => write!(text, "{}", long(bytes, 0) as i64),
            "u64" => write!(text, "{}", long(bytes, 0)),
            "i32" => write!(text, "{}", word(bytes, 0) as i32),
            _ => write!(text, "{}", word(bytes, 0)),
        };
    });
}

/// The members of a bit set, counted from `first`.
pub(super) fn bits(bytes: &[u8], first: u32, show: impl Fn(u32, &mut String), text: &mut String) {
    text.push('[');
    let mut shown = 0;
    for (index, byte) in bytes.iter().enumerate() {
        for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
            if shown > 0 {
                text.push(' ');
            }
            if shown == 2 * ELEMENTS {
                text.push_str("...]");
                return;
            }
            shown += 1;
            show(first + 8 * index as u32 + bit, text);
        }
    }
    text.push(']');
}

fn seconds(fraction: &str, bytes: &[u8], text: &mut String) {
    let _ = write!(text, "{{tv_sec={}, {fraction}={}}}", long(bytes, 0) as i64, long(bytes, 8) as i64);
}

fn interval(fraction: &str, bytes: &[u8], text: &mut String) {
    text.push_str("{it_interval=");
    seconds(fraction, bytes, text);
    text.push_str(", it_value=");
    seconds(fraction, bytes.get(16..).unwrap_or_default(), text);
    text.push('}');
}

fn poll(bytes: &[u8], text: &mut String) {
    let _ = write!(text, "{{fd={}, events=", word(bytes, 0) as i32);
    number::symbols(&crate::symbols::poll_events, half(bytes, 4).into(), text);
    if half(bytes, 6) != 0 {
        text.push_str(", revents=");
        number::symbols(&crate::symbols::poll_events, half(bytes, 6).into(), text);
    }
    text.push('}');
}

fn epoll(bytes: &[u8], text: &mut String) {
    text.push_str("{events=");
    number::symbols(&crate::symbols::epoll_events, word(bytes, 0), text);
    let _ = write!(text, ", data={:#x}}}", long(bytes, 4));
}

fn stat(bytes: &[u8], text: &mut String) {
    let mode = word(bytes, 24);
    let kind = match mode >> 12 {
        0o1 => "S_IFIFO",
        0o2 => "S_IFCHR",
        0o4 => "S_IFDIR",
        0o6 => "S_IFBLK",
        0o10 => "S_IFREG",
        0o12 => "S_IFLNK",
        0o14 => "S_IFSOCK",
        _ => "0",
    };
    let _ = write!(text, "{{st_mode={kind}|0{:o}, st_size={}, ...}}", mode & 0o7777, long(bytes, 48));
}

fn limit(bytes: &[u8], text: &mut String) {
    for (index, name) in ["{rlim_cur=", ", rlim_max="].into_iter().enumerate() {
        text.push_str(name);
        let _ = match long(bytes, 8 * index) {
            u64::MAX => write!(text, "RLIM64_INFINITY"),
            value => write!(text, "{value}"),
        };
    }
    text.push('}');
}

fn window(bytes: &[u8], text: &mut String) {
    let _ = write!(text, "{{ws_row={}, ws_col={}, ...}}", half(bytes, 0), half(bytes, 2));
}

/// `struct utsname`: six names of 65 bytes.
fn names(bytes: &[u8], text: &mut String) {
    let name = |index: usize| {
        let bytes = bytes.get(65 * index..).unwrap_or_default();
        bytes.split(|&byte| byte == 0).next().unwrap_or_default()
    };
    text.push_str("{sysname=");
    string(name(0), SHOWN, text);
    text.push_str(", nodename=");
    string(name(1), SHOWN, text);
    text.push_str(", ...}");
}

/// A socket address.
pub(super) fn address(bytes: &[u8], text: &mut String) {
    let family = half(bytes, 0);
    // A port has the same place in both, in the network's order.
    let port = half(bytes, 2).swap_bytes();
    let _ = match family {
        1 => {
            let path = bytes.get(2..).unwrap_or_default();
            text.push_str("{sa_family=AF_UNIX");
            if let Some((0, name)) = path.split_first() {
                text.push_str(", sun_path=@");
                string(name, 108, text);
            } else if !path.is_empty() {
                text.push_str(", sun_path=");
                string(path.split(|&byte| byte == 0).next().unwrap_or_default(), 108, text);
            }
            write!(text, "}}")
        }
        2 if bytes.len() >= 8 => {
            let host = Ipv4Addr::from_bits(word(bytes, 4).swap_bytes());
            write!(text, "{{sa_family=AF_INET, sin_port=htons({port}), sin_addr=inet_addr(\"{host}\")}}")
        }
        10 if bytes.len() >= 24 => {
            let mut host = [0; 16];
            host.copy_from_slice(&bytes[8..24]);
            let host = Ipv6Addr::from(host);
            write!(text, "{{sa_family=AF_INET6, sin6_port=htons({port}), sin6_addr=\"{host}\"}}")
        }
        _ => write!(text, "{{sa_family={family}, {} bytes}}", bytes.len()),
    };
}
