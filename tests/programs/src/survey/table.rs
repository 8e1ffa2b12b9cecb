//! The page `docs/programs.md`. What is run again gets a new row; all other rows stay as they are.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::list;
use super::{Entry, Part};
use crate::shaken::Tally;

/// Reasons that tell of a moment only: the process had ended, or was just being moved or made.
const MOMENTARY: [&str; 9] = [
    "it is ending",
    "what it maps has just become something else",
    "it is being moved already",
    "no such process",
    "No such process",
    "No such file or directory",
    "a kernel thread has no memory",
    "its main thread has ended",
    "ended meanwhile",
];

/// How long reasons may be on the page.
const REASON_MAX: usize = 160;

const HEAD: &str = "| program | version | moves | processes | result | alone | moved | slowdown | where it stayed at home |\n|---|---|---:|---:|---|---:|---:|---:|---|\n";

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    name: String,
    line: String,
}

impl Row {
    /// What came of a program; the times are seconds.
    pub fn new(name: &str, version: &str, tally: &Tally, result: &str, native_s: f64, moved_s: f64) -> Self {
        let line = format!(
            "| {} | {version} | {} | {} | {result} | {native_s:.1} s | {moved_s:.1} s | {:.2} | {} |\n",
            escaped(name),
            tally.moves,
            tally.processes,
            moved_s / native_s,
            reasons(&tally.refusals)
        );
        Self { name: escaped(name), line }
    }

    /// As it is written.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// A line of an earlier page.
    fn read(line: &str) -> Option<Self> {
        let cells: Vec<&str> = line.strip_prefix("| ")?.split(" | ").collect();
        let is_row = cells.len() == 9 && cells[0] != "program";
        is_row.then(|| Self { name: cells[0].to_owned(), line: format!("{line}\n") })
    }
}

/// A bar would end the cell.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The reasons for which processes stayed, the most frequent first, as a cell of a table.
pub(crate) fn reasons(refusals: &BTreeMap<String, u64>) -> String {
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    for (reason, count) in refusals {
        if !MOMENTARY.iter().any(|part| reason.contains(part)) {
            *told.entry(general(reason)).or_default() += count;
        }
    }
    let mut told: Vec<(String, u64)> = told.into_iter().collect();
    told.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let told: Vec<String> = told.into_iter().map(|(reason, count)| format!("{count} × {reason}")).collect();
    told.join("; ")
}

/// A reason without names and numbers that each run makes up anew; what several things have in common is said once.
fn general(reason: &str) -> String {
    let mut parts: Vec<(String, Vec<String>)> = Vec::new();
    for part in reason.split("; ") {
        let words: Vec<String> = part.split(' ').map(word).collect();
        let mut part = words.join(" ");
        // How many they are is as it comes.
        if let Some((what, _)) = part.split_once(" with processes ") {
            part = format!("{what} with process …");
        }
        let (what, which) =
            part.split_once(": ").map_or((part.as_str(), None), |(a, b)| (a, Some(b.to_owned())));
        match parts.iter_mut().find(|(other, _)| other == what) {
            Some((_, all)) => all.extend(which.filter(|which| !all.contains(which))),
            None => parts.push((what.to_owned(), which.into_iter().collect())),
        }
    }
    let part = |(what, which): &(String, Vec<String>)| match which.is_empty() {
        true => what.clone(),
        false => format!("{what}: {}", which.join(", ")),
    };
    let mut text = escaped(&parts.iter().map(part).collect::<Vec<_>>().join("; "));
    if let Some((end, _)) = text.char_indices().nth(REASON_MAX) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn word(word: &str) -> String {
    const MADE_UP: [&str; 7] = [
        "/memfd:memfd-",
        "/dev/shm/sem.",
        "/dev/shm/pym-",
        "/dev/shm/psm_",
        "/dev/shm/PostgreSQL.",
        "/dev/shm/ucx_shm_posix_",
        "/SYSV",
    ];
    if let Some((open, word)) = word.strip_prefix('(').map(|word| ("(", word)) {
        return format!("{open}{}", self::word(word));
    }
    if let Some(start) = MADE_UP.iter().find(|start| word.starts_with(**start)) {
        let close = if word.ends_with(')') { ")" } else { "" };
        return format!("{start}…{close}");
    }
    let number = word.trim_end_matches([',', ':']);
    if number.len() > 1 && number.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("…{}", &word[number.len()..])
    } else {
        word.to_owned()
    }
}

/// The page, with these rows instead of those that it had for the same programs.
pub fn page(before: &str, new: &[Row], introduction: &str) -> String {
    let mut rows: BTreeMap<String, Row> =
        before.lines().filter_map(Row::read).map(|row| (row.name.clone(), row)).collect();
    rows.extend(new.iter().map(|row| (row.name.clone(), row.clone())));
    let entries = list::entries();
    let mut page = introduction.to_owned();
    for (part, title) in [
        (Part::Threads, "Programs with several threads"),
        (Part::Families, "Programs that make others"),
        (Part::Servers, "Servers"),
        (Part::Plain, "Programs of one thread, and pipelines of them"),
    ] {
        let of_part = |entry: &&Entry| entry.part == part;
        let lines: Vec<&str> = entries
            .iter()
            .filter(of_part)
            .filter_map(|entry| rows.get(&escaped(entry.name)))
            .map(Row::line)
            .collect();
        if !lines.is_empty() {
            let _ = write!(page, "\n## {title}\n\n{HEAD}{}", lines.concat());
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(refusals: &[(&str, u64)]) -> Tally {
        let refusals = refusals.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
        Tally { moves: 7, refusals, processes: 2 }
    }

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let row = Row::new("a | b", "1.2", &tally(&[]), "equal", 2.0, 3.0);
        assert_eq!(row.line(), "| a \\| b | 1.2 | 7 | 2 | equal | 2.0 s | 3.0 s | 1.50 |  |\n");
        assert_eq!(Row::read(row.line().trim_end()), Some(row));
    }

    #[test]
    fn reasons_are_told_without_names_that_each_run_makes_up() {
        let found = tally(&[
            (
                "it shares writable memory outside itself: /dev/shm/sem.abc; it shares writable memory outside itself: /dev/shm/sem.xyz",
                3,
            ),
            ("it shares writable memory outside itself: /dev/shm/sem.q", 4),
            ("it shares its memory with process 4711", 1),
            ("it shares writable memory (/dev/shm/sem.a1) with process 4711", 1),
            ("it shares writable memory (/dev/shm/sem.b2) with processes 4711, 4712 and 7 others", 1),
            ("it is ending", 9),
            (
                "process 29, with which it would have to move, stays: it has attached the System V shared memory 98365, as others may",
                1,
            ),
            (
                "process 30, with which it would have to move, stays: it has attached the System V shared memory 65543, as others may",
                1,
            ),
            (
                "a process that shares its memory could not go on: process 31: the process is stopped (signal 9)",
                1,
            ),
        ]);
        let told = reasons(&found.refusals);
        assert_eq!(
            told,
            "7 × it shares writable memory outside itself: /dev/shm/sem.…; \
             2 × it shares writable memory (/dev/shm/sem.…) with process …; \
             2 × process …, with which it would have to move, stays: it has attached the System V shared memory …, as others may; \
             1 × a process that shares its memory could not go on: process …: the process is stopped (signal 9); \
             1 × it shares its memory with process …"
        );
    }

    #[test]
    fn a_new_row_takes_the_place_of_the_old_one_and_all_others_stay() {
        let row = |name, result| Row::new(name, "1", &tally(&[]), result, 1.0, 1.0);
        let names: Vec<&str> = list::entries().iter().map(|entry| entry.name).take(2).collect();
        let first = page("", &[row(names[0], "old"), row(names[1], "kept")], "Intro\n");
        let second = page(&first, &[row(names[0], "new")], "Intro\n");
        assert!(!second.contains("| old |"), "{second}");
        assert!(second.contains("| new |") && second.contains("| kept |"), "{second}");
    }
}
