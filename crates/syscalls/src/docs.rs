//! `docs/syscalls.md`, made from the table.

use crate::coverage::{commands, coverage, places};
use crate::spec::{Argument, Case, Condition, Kind, Outcome, Place, Spec};
use crate::table::CALLS;
use core::fmt::Write;

/// The page. A test compares it with the file and writes the file when `MINKA_WRITE_DOCS` is set.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "# System calls\n\n\
         <!-- Made from crates/syscalls/src/table. Do not edit: run\n     \
         MINKA_WRITE_DOCS=1 cargo test -p minka-syscalls --test docs -->\n\n\
         Where each system call of a migrated process runs. The words are those of the table:\n\n",
    );
    for place in Place::ALL {
        line(&mut page, format_args!("* **{place}**: {}", meaning(place)));
    }
    page.push_str(
        "\nA call that is not in the table is homeward. Calls that block may wait for long. An arrow marks memory \
         that the kernel writes.\n\n",
    );
    summary(&mut page);
    for place in Place::ALL {
        let here: Vec<&Spec> = CALLS.iter().filter(|spec| places(spec) == [place]).collect();
        if !here.is_empty() {
            line(&mut page, format_args!("\n## Always {place}\n"));
            table(&mut page, &here);
        }
    }
    page.push_str("\n## Depending on the arguments\n\n");
    for spec in CALLS.iter().filter(|spec| places(spec).len() > 1) {
        depending(&mut page, spec);
    }
    page.push_str("\n## Commands\n");
    for spec in
        CALLS.iter().filter(|spec| commands(spec).next().is_some_and(|command| command.name != spec.name))
    {
        line(&mut page, format_args!("\n### {}\n", spec.name));
        let commands: Vec<&Spec> = commands(spec).collect();
        for place in Place::ALL {
            let named: Vec<&str> = commands
                .iter()
                .filter(|command| command.otherwise == place)
                .map(|command| command.name)
                .collect();
            if !named.is_empty() {
                line(&mut page, format_args!("* **{place}**: {}", named.join(", ")));
            }
        }
        line(&mut page, format_args!("* any other: **{}**", spec.otherwise));
    }
    page
}

fn line(page: &mut String, text: core::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(page, "{text}");
}

fn meaning(place: Place) -> &'static str {
    match place {
        Place::Here => "in the guest, at native speed; the seccomp filter lets it pass.",
        Place::Both => "at home first, then in the guest too: both keep the state it changes.",
        Place::Cached => "at home, or from a copy on the host while the copy is exact.",
        Place::Home => "forwarded: the original process performs it.",
        Place::Own => "by code of its own in the host and deputy programs.",
        Place::Homeward => "the process goes home and performs it natively.",
    }
}

fn summary(page: &mut String) {
    let coverage = coverage();
    page.push_str("| place | calls |\n|---|---:|\n");
    for (place, count) in Place::ALL.into_iter().zip(coverage.at) {
        line(page, format_args!("| {place} | {count} |"));
    }
    line(page, format_args!("| depending on the arguments | {} |", coverage.depending));
    line(page, format_args!("| **all** | **{}** |", coverage.calls));
    let (away, commands) = (coverage.away, coverage.commands);
    line(
        page,
        format_args!(
            "\n{away} calls need no way home, for some arguments at least; {commands} commands have lines of their own."
        ),
    );
}

fn table(page: &mut String, specs: &[&Spec]) {
    page.push_str("| number | call | blocks | note |\n|---:|---|---|---|\n");
    for spec in specs {
        let blocks = if spec.marks.blocks { "blocks" } else { "" };
        let note = if spec.marks.absent { "no kernel has it: ENOSYS" } else { spec.note };
        line(page, format_args!("| {} | `{}` | {blocks} | {note} |", spec.number, signature(spec)));
    }
}

fn signature(spec: &Spec) -> String {
    let arguments: Vec<String> = spec.arguments.iter().map(argument).collect();
    let result = if spec.outcome == Outcome::Fd { " → fd" } else { "" };
    format!("{}({}){result}", spec.name, arguments.join(", "))
}

/// A pointer that the kernel writes through has an arrow.
fn argument(argument: &Argument) -> String {
    let direction = match argument.kind {
        Kind::Data(data) => Some(data.direction),
        Kind::Counted(counted) => Some(counted.direction),
        Kind::Vector(direction, _) | Kind::Message(direction) | Kind::Messages(direction, _) => {
            Some(direction)
        }
        _ => None,
    };
    let arrow = if direction.is_some_and(crate::spec::Direction::is_written) { "→" } else { "" };
    format!("{arrow}{}", argument.name)
}

fn depending(page: &mut String, spec: &'static Spec) {
    let mut rules = Vec::new();
    for case in spec.cases {
        match case {
            Case::When(conditions, place) => {
                let tests: Vec<String> = conditions.iter().map(|test| condition(spec, test)).collect();
                rules.push(format!("**{place}** if {}", tests.join(" and ")));
            }
            // Only another description of the same call.
            Case::By(by) if by.list.iter().all(|command| command.name == spec.name) => {}
            Case::By(by) => {
                let selector =
                    spec.arguments.get(usize::from(by.argument)).map_or("", |argument| argument.name);
                let rule = format!("by {selector}, see below");
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
    }
    rules.push(format!("otherwise **{}**", spec.otherwise));
    let blocks = if spec.marks.blocks { " Blocks." } else { "" };
    let note = if spec.note.is_empty() { String::new() } else { format!(" *({})*", spec.note) };
    line(page, format_args!("* {} `{}`: {}.{blocks}{note}", spec.number, signature(spec), rules.join("; ")));
}

fn condition(spec: &Spec, condition: &Condition) -> String {
    let name = spec.arguments.get(usize::from(condition.argument)).map_or("", |argument| argument.name);
    let number = |value: &u64| if *value < 1024 { value.to_string() } else { format!("{value:#x}") };
    let left = match condition.mask {
        u64::MAX => name.to_owned(),
        mask => format!("{name} & {mask:#x}"),
    };
    match condition.values {
        [value] => format!("`{left} == {}`", number(value)),
        values => format!("`{left}` is one of {}", values.iter().map(number).collect::<Vec<_>>().join(", ")),
    }
}
