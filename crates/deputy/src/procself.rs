//! `/proc/self` files of a process that is away: what its home says of it, with the guest's memory and times put in.
//! Text in, text out.

use minka_image::maps::{Backing, Mapping};
use minka_wire::message::{Piece, ProcFile};
use std::fmt::Write;

/// The file's content; `home` is what the kernel shows at home, `maps` the home's mappings.
pub(crate) fn merge(file: &ProcFile, home: &str, maps: &[Mapping], keep_out: (u64, u64)) -> String {
    match file {
        ProcFile::Maps { space, heap } => merge_maps(space, *heap, maps, keep_out),
        ProcFile::Status { guest } => merge_status(home, guest),
        ProcFile::Stat { guest } => merge_stat(home, guest),
        ProcFile::Whole { content } => content.clone(),
    }
}

/// The guest's layout, with the names, offsets and inodes that the home has for what came from there.
fn merge_maps(
    space: &[Piece],
    heap: (u64, u64),
    maps: &[Mapping],
    (ring_start, ring_end): (u64, u64),
) -> String {
    let mut lines: Vec<(u64, String)> = maps
        .iter()
        .filter(|mapping| mapping.is_kernel())
        .map(|mapping| (mapping.start, kernel_line(mapping)))
        .collect();
    for piece in space {
        let origin = piece.source.and_then(|source| {
            let holds = |mapping: &&Mapping| {
                mapping.start <= source
                    && source < mapping.end
                    && !(ring_start <= source && source < ring_end)
            };
            maps.iter().find(holds).map(|mapping| (mapping, source - mapping.start))
        });
        lines.push((piece.start, piece_line(piece, heap, origin)));
    }
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}

fn kernel_line(mapping: &Mapping) -> String {
    let name = match mapping.backing {
        Backing::Vdso => "[vdso]",
        Backing::Vsyscall => "[vsyscall]",
        _ => "[vvar]",
    };
    line(mapping.start, mapping.end, mapping.protection, false, 0, 0, 0, name)
}

fn piece_line(piece: &Piece, heap: (u64, u64), origin: Option<(&Mapping, u64)>) -> String {
    let Piece { start, end, protection, stack, .. } = *piece;
    let in_heap = heap.0 <= start && start < heap.1;
    match origin {
        Some((mapping, into)) => {
            let (offset, name) = match &mapping.backing {
                Backing::File { path, deleted } => {
                    let deleted = if *deleted { " (deleted)" } else { "" };
                    (mapping.offset + into, format!("{}{deleted}", path.replace('\n', "\\012")))
                }
                Backing::Heap => (0, "[heap]".to_owned()),
                Backing::Stack => (0, "[stack]".to_owned()),
                _ => (0, String::new()),
            };
            line(start, end, protection, mapping.shared, offset, mapping.device, mapping.inode, &name)
        }
        None if stack => line(start, end, protection, false, 0, 0, 0, "[stack]"),
        None if in_heap => line(start, end, protection, false, 0, 0, 0, "[heap]"),
        None => line(start, end, protection, false, 0, 0, 0, ""),
    }
}

/// One line as `proc_pid_maps(5)` lays it out: the name begins in column 74.
#[allow(clippy::too_many_arguments, reason = "the columns of a line")]
fn line(
    start: u64,
    end: u64,
    protection: u8,
    shared: bool,
    offset: u64,
    device: u64,
    inode: u64,
    name: &str,
) -> String {
    let bit = |value: u8, letter: char| if protection & value != 0 { letter } else { '-' };
    let sharing = if shared { 's' } else { 'p' };
    let mut text = format!(
        "{start:08x}-{end:08x} {}{}{}{sharing} {offset:08x} {:02x}:{:02x} {inode} ",
        bit(1, 'r'),
        bit(2, 'w'),
        bit(4, 'x'),
        device >> 32,
        device & 0xffff_ffff,
    );
    if !name.is_empty() {
        while text.len() < 73 {
            text.push(' ');
        }
        text.push_str(name);
    }
    text.push('\n');
    text
}

/// The home's lines, with the guest's memory; what tracing shows of the home is left out.
fn merge_status(home: &str, guest: &str) -> String {
    let of_guest =
        |name: &str| guest.lines().find(|line| line.split_once(':').is_some_and(|(found, _)| found == name));
    let mut text = String::with_capacity(home.len());
    for line in home.lines() {
        let name = line.split_once(':').map_or("", |(name, _)| name);
        let line = match name {
            "State" => "State:\tR (running)",
            "TracerPid" => "TracerPid:\t0",
            _ if name.starts_with("Vm") || name.starts_with("Rss") => of_guest(name).unwrap_or(line),
            _ => line,
        };
        // Into a string it cannot fail.
        let _ = writeln!(text, "{line}");
    }
    text
}

/// The home's fields, with the guest's state, times, size and resident pages.
fn merge_stat(home: &str, guest: &str) -> String {
    const STATE: usize = 3;
    const TIMES: [usize; 2] = [14, 15];
    const MEMORY: [usize; 2] = [23, 24];
    let split = |text: &str| {
        let at = text.rfind(')').map_or(0, |at| at + 1);
        let fields: Vec<String> = text[at..].split_ascii_whitespace().map(str::to_owned).collect();
        (text[..at].to_owned(), fields)
    };
    let (head, mut fields) = split(home);
    let (_, of_guest) = split(guest);
    let value = |fields: &[String], number: usize| fields.get(number - 3).cloned().unwrap_or_default();
    if let Some(state) = fields.get_mut(STATE - 3) {
        "R".clone_into(state);
    }
    for number in TIMES {
        let ticks = |text: String| text.parse::<u64>().unwrap_or(0);
        let sum = ticks(value(&fields, number)) + ticks(value(&of_guest, number));
        fields[number - 3] = sum.to_string();
    }
    for number in MEMORY {
        fields[number - 3] = value(&of_guest, number);
    }
    format!("{head} {}\n", fields.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_show_the_guest_with_the_names_of_the_home() {
        let home = minka_image::maps::parse(
            "00400000-00402000 r-xp 00001000 fe:00 77                                 /usr/bin/a\n\
             00600000-00601000 rw-p 00000000 00:00 0                                  [heap]\n\
             7f0000000000-7f0000800000 rwxs 00000000 00:01 9                          /memfd: (deleted)\n\
             7ffff7fc0000-7ffff7fc2000 r-xp 00000000 00:00 0                          [vdso]",
        )
        .unwrap();
        let piece = |start, end, source| Piece { start, end, protection: 3, stack: false, source };
        let space = [
            piece(0x70_1000, 0x70_2000, Some(0x40_1000)),
            piece(0x60_0000, 0x60_1000, Some(0x60_0000)),
            piece(0x60_1000, 0x60_4000, None),
            piece(0x80_0000, 0x80_1000, None),
        ];
        let file = ProcFile::Maps { space: space.to_vec(), heap: (0x60_0000, 0x60_4000) };
        let text = merge(&file, "", &home, (0x7f00_0000_0000, 0x7f00_0080_0000));
        let column = |line: &str| line.split_at(73).1.to_owned();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        assert_eq!(column(lines[0]), "[heap]");
        assert_eq!(column(lines[1]), "[heap]");
        assert!(
            lines[2].starts_with("00701000-00702000 rw-p 00002000 fe:00 77 ")
                && column(lines[2]) == "/usr/bin/a"
        );
        assert_eq!(lines[3], "00800000-00801000 rw-p 00000000 00:00 0 ");
        assert_eq!(column(lines[4]), "[vdso]");
        assert_eq!(minka_image::maps::parse(&text).unwrap().len(), 5);
    }

    #[test]
    fn status_and_stat_hide_the_tracer() {
        let home = "Name:\ta\nState:\tt (tracing stop)\nTracerPid:\t9\nVmRSS:\t1 kB\nSigBlk:\t0\n";
        let merged = merge_status(home, "State:\tS\nVmRSS:\t77 kB\n");
        assert_eq!(merged, "Name:\ta\nState:\tR (running)\nTracerPid:\t0\nVmRSS:\t77 kB\nSigBlk:\t0\n");
        let fields = |base: u64| (4..=52).map(|n| (base + n).to_string()).collect::<Vec<_>>().join(" ");
        let merged =
            merge_stat(&format!("1 (a b) t {}\n", fields(0)), &format!("7 (x) S {}\n", fields(1000)));
        let values: Vec<&str> = merged.trim_end().split(' ').collect();
        assert_eq!((values[0], values[1], values[2], values[3]), ("1", "(a", "b)", "R"));
        assert_eq!((values[14], values[15]), ("1028", "1030"));
        assert_eq!((values[23], values[24], values[25]), ("1023", "1024", "25"));
    }
}
