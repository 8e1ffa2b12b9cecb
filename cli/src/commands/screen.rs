//! The terminal as a whole screen: taken over, drawn on, and given back as it was.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGTERM};

/// A size for what is no terminal, or does not know its own.
pub(super) const USUAL: (usize, usize) = (80, 24);

/// Another screen, without a cursor; and back.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Character(char),
    Enter,
    Left,
    Right,
    /// Whatever ends a program: Ctrl-C, escape, the end of input, or a signal.
    End,
}

/// The terminal, until this is dropped.
#[derive(Debug)]
pub(super) struct Screen {
    before: Termios,
    ended: Arc<AtomicBool>,
    signals: Vec<SigId>,
}

impl Screen {
    /// Takes the terminal over; `None` if standard input or output is none.
    pub(super) fn open() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let ended = Arc::new(AtomicBool::new(false));
        let register = |signal| signal_hook::flag::register(signal, Arc::clone(&ended));
        let signals = vec![register(SIGTERM)?, register(SIGHUP)?];
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        let screen = Screen { before, ended, signals };
        write(ENTER)?;
        Ok(Some(screen))
    }

    /// Columns that can be written to, and rows. The last column is none: behind it some terminals are in the next line.
    pub(super) fn size() -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (usize::from(size.ws_col) - 1, size.ws_row.into())
            }
            _ => USUAL,
        }
    }

    /// Shows lines in the place of all that is there.
    pub(super) fn show(&self, lines: &[String]) -> io::Result<()> {
        let body: Vec<String> = lines.iter().map(|line| format!("{line}\u{1b}[K")).collect();
        write(&format!("\u{1b}[H{}\u{1b}[J", body.join("\r\n")))
    }

    /// The keys that were pressed; waits for the first one, so long at most.
    pub(super) fn keys(&self, limit: Duration) -> io::Result<Vec<Key>> {
        let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
        let stdin = io::stdin();
        let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
        let count = match poll(&mut ready, Some(&limit)) {
            Err(rustix::io::Errno::INTR) => 0,
            outcome => outcome?,
        };
        if self.ended.load(Ordering::Relaxed) {
            return Ok(vec![Key::End]);
        }
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut bytes = [0; 64];
        match rustix::io::read(&stdin, &mut bytes) {
            Ok(0) => Ok(vec![Key::End]),
            Ok(count) => Ok(understood(bytes.get(..count).unwrap_or_default())),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

/// As much of a line as fits into so many columns, with its colours, which end with it.
pub(super) fn fitting(line: &str, width: usize) -> String {
    let mut fitting = String::with_capacity(line.len());
    let (mut columns, mut in_colour, mut in_sequence) = (0, false, false);
    for character in line.chars() {
        if in_sequence {
            in_sequence = character != 'm';
        } else if character == '\u{1b}' {
            (in_colour, in_sequence) = (true, true);
        } else if columns == width {
            break;
        } else {
            columns += 1;
        }
        fitting.push(character);
    }
    if in_colour {
        fitting.push_str("\u{1b}[0m");
    }
    fitting
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody is left to tell when the terminal is gone.
        let _ = write(LEAVE);
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
        for id in self.signals.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// The keys that a terminal sends as these bytes. What is not known is no key.
fn understood(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (0x1b, [b'[' | b'O', code, after @ ..]) => {
                rest = after;
                keys.extend(match code {
                    b'C' => Some(Key::Right),
                    b'D' => Some(Key::Left),
                    _ => None,
                });
                // Of longer ones nothing but their end is of interest.
                if code.is_ascii_digit() {
                    let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b';');
                    rest = end.and_then(|end| rest.get(end + 1..)).unwrap_or_default();
                }
            }
            (0x03 | 0x1b, _) => keys.push(Key::End),
            (b'\r' | b'\n', _) => keys.push(Key::Enter),
            (0x20..0x7f, _) => keys.push(Key::Character(char::from(*first))),
            _ => {}
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_where_they_are_seen_to_end() {
        assert_eq!(fitting("ñandú", 4), "ñand");
        assert_eq!(fitting("ñandú", 9), "ñandú");
        assert_eq!(fitting("a \u{1b}[32mgood\u{1b}[0m day", 4), "a \u{1b}[32mgo\u{1b}[0m");
    }

    #[test]
    fn keys_are_told_from_what_terminals_send() {
        let check = |bytes: &[u8], expected: &[Key]| assert_eq!(understood(bytes), expected, "{bytes:?}");
        check(b"", &[]);
        check(b"vV\r", &[Key::Character('v'), Key::Character('V'), Key::Enter]);
        check(b"\x1b[C\x1b[D\x1bOCq", &[Key::Right, Key::Left, Key::Right, Key::Character('q')]);
        check(b"\x1b[5~l\x1b[1;5Cl", &[Key::Character('l'), Key::Character('l')]);
        check(b"\x03", &[Key::End]);
        check(b"\x1b", &[Key::End]);
        check("ñ\x07".as_bytes(), &[]);
    }
}
