//! Numbers, with names where they have some.

use crate::spec::Format;
use crate::symbols::{Rest, Symbols};
use core::fmt::Write;

/// A number as its format says.
pub(super) fn value(format: Format, value: u64, text: &mut String) {
    // Writing to a string cannot fail.
    let _ = match format {
        Format::I32 => write!(text, "{}", value as u32 as i32),
        Format::U32 => write!(text, "{}", value as u32),
        Format::I64 | Format::Position => write!(text, "{}", value as i64),
        Format::U64 | Format::Usize => write!(text, "{value}"),
        Format::Hex if value < 10 => write!(text, "{value}"),
        Format::Hex => write!(text, "{value:#x}"),
        Format::Hex32 if value < 10 => write!(text, "{value}"),
        Format::Hex32 => write!(text, "{:#x}", value as u32),
        Format::Symbols(names) => return symbols(names, value as u32, text),
    };
}

/// A descriptor, or the working directory in its place.
pub(super) fn descriptor(value: u64, text: &mut String) {
    let _ = match value as u32 as i32 {
        -100 => write!(text, "AT_FDCWD"),
        number => write!(text, "{number}"),
    };
}

/// An address that was not followed.
pub(super) fn address(value: u64, text: &mut String) {
    let _ = write!(text, "{value:#x}");
}

/// A plain number.
pub(super) fn plain(number: u32, text: &mut String) {
    let _ = write!(text, "{number}");
}

/// A signal in a set, without its prefix, as strace shows it.
pub(super) fn signal(number: u32, text: &mut String) {
    let named = crate::symbols::signal.values.iter().find(|(value, _)| *value == number);
    let _ = match named {
        Some((_, name)) => write!(text, "{}", name.strip_prefix("SIG").unwrap_or(name)),
        None => write!(text, "RT_{}", number.saturating_sub(32)),
    };
}

/// A number with names for its values and flags.
pub(super) fn symbols(names: &Symbols, number: u32, text: &mut String) {
    let start = text.len();
    let add = |text: &mut String, name: &str| {
        if text.len() > start {
            text.push('|');
        }
        text.push_str(name);
    };
    let mut rest = number;
    let named = names.values.iter().find(|(value, _)| *value == number & names.field);
    if let Some((_, name)) = named.filter(|_| names.field != 0 || number == 0) {
        add(text, name);
        rest &= !names.field;
    }
    for (flag, name) in names.flags {
        if rest & flag == *flag {
            add(text, name);
            rest &= !flag;
        }
    }
    if rest != 0 || text.len() == start {
        let shown = match names.rest {
            Rest::Decimal => format!("{}", rest as i32),
            Rest::Octal => format!("0{rest:o}"),
            Rest::Hexadecimal if rest == 0 => "0".to_owned(),
            Rest::Hexadecimal => format!("{rest:#x}"),
        };
        add(text, &shown);
    }
}
