//! The survey behind `docs/programs.md`: real programs, as everybody runs them and moved all the while they run.
//!
//! | module | what |
//! |---|---|
//! | [`list`] | the programs |
//! | [`service`] | a server, which is moved, and its client, which is not |
//! | [`table`] | the page: what a run adds to it, and what stays |

pub mod list;
pub mod service;
pub mod table;

use std::process::Command;

use crate::program::Program;
use crate::shaken::Tally;
use service::Service;
use table::Row;

/// What of the output counts.
pub type View = fn(&[u8]) -> Vec<u8>;

/// A program of the list.
#[derive(Debug)]
pub struct Entry {
    /// Under which it stands in the table.
    pub name: &'static str,
    /// Which part of the table it belongs to.
    pub part: Part,
    /// A command line of the shell that tells its version, and fails where it is not installed.
    pub version: &'static str,
    /// How it is run.
    pub subject: Subject,
    /// What of its output counts.
    pub view: View,
}

/// The parts of the table, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Programs of one thread, and pipelines of them.
    Plain,
    /// Programs with several threads.
    Threads,
    /// Programs that make others.
    Families,
    /// Servers under their clients.
    Servers,
}

/// A program or a server.
#[derive(Debug)]
pub enum Subject {
    /// Runs and ends.
    Program(Box<Program>),
    /// Runs until its client is done.
    Service(Service),
}

/// How a program fared.
struct Outcome {
    tally: Tally,
    difference: Option<String>,
    native_s: f64,
    moved_s: f64,
}

impl Entry {
    /// Its version, or nothing where it is not installed.
    pub fn version(&self) -> Option<String> {
        let output = Command::new("/bin/sh").args(["-c", self.version]).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        output.status.success().then(|| version_in(&String::from_utf8_lossy(&text)))
    }

    /// Runs it natively and moved; what fails natively is worth no row, and the status is returned.
    pub fn run(&self, version: &str) -> Result<Row, i32> {
        let outcome = match &self.subject {
            Subject::Program(program) => self.run_program(program)?,
            Subject::Service(service) => self.run_service(service)?,
        };
        let result = outcome.difference.unwrap_or_else(|| "equal".to_owned());
        Ok(Row::new(self.name, version, &outcome.tally, &result, outcome.native_s, outcome.moved_s))
    }

    fn run_program(&self, program: &Program) -> Result<Outcome, i32> {
        let native = program.natively();
        if native.status != 0 {
            eprintln!("{}", String::from_utf8_lossy(&native.errors()));
            return Err(native.status);
        }
        let shaken = program.shaken();
        let difference = if shaken.run.status != 0 {
            Some(format!("**status {}**", shaken.run.status))
        } else {
            let same = (self.view)(&native.output()) == (self.view)(&shaken.run.output());
            (!same).then(|| "**another output**".to_owned())
        };
        if difference.is_some() {
            eprintln!("--- natively\n{}", String::from_utf8_lossy(&native.errors()));
            eprintln!("--- moved\n{}\n{}", String::from_utf8_lossy(&shaken.run.errors()), shaken.logs);
        }
        Ok(Outcome {
            tally: shaken.tally,
            difference,
            native_s: native.time.as_secs_f64(),
            moved_s: shaken.run.time.as_secs_f64(),
        })
    }

    fn run_service(&self, service: &Service) -> Result<Outcome, i32> {
        let native = service.run(None);
        if native.status != (0, 0) {
            eprintln!("{}\n{}", String::from_utf8_lossy(&native.answers), native.logs);
            return Err(if native.status.0 == 0 { native.status.1 } else { native.status.0 });
        }
        let moved = service.run(Some(INTERVAL));
        let difference = if moved.status != (0, 0) {
            Some(format!("**status {:?}**", moved.status))
        } else {
            let same = (self.view)(&native.answers) == (self.view)(&moved.answers);
            (!same).then(|| "**other answers**".to_owned())
        };
        if difference.is_some() {
            for run in [&native, &moved] {
                eprintln!("--- {:?}\n{}", run.status, String::from_utf8_lossy(&run.answers));
            }
            eprintln!("{}", moved.logs);
        }
        Ok(Outcome {
            tally: moved.tally,
            difference,
            native_s: native.time.as_secs_f64(),
            moved_s: moved.time.as_secs_f64(),
        })
    }
}

/// How often they are moved.
pub const INTERVAL: std::time::Duration = std::time::Duration::from_millis(200);

/// The first word of a text that looks like a version.
fn version_in(text: &str) -> String {
    let trim = |word: &str| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
    let numbered = |word: &String| {
        let number = word.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        number.starts_with(|c: char| c.is_ascii_digit()) && number.contains('.')
    };
    text.split(|c: char| c.is_whitespace() || c == '/' || c == ',')
        .map(trim)
        .find(numbered)
        .map(|word| word.trim_start_matches(|c: char| c.is_ascii_alphabetic()).to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn versions_are_found() {
        for (text, version) in [
            ("xz (XZ Utils) 5.4.1\nliblzma 5.4.1", "5.4.1"),
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("v18.19.0", "18.19.0"),
            ("go version go1.19.8 linux/amd64", "1.19.8"),
            ("openjdk version \"17.0.15\" 2025-04-15", "17.0.15"),
            ("postgres (PostgreSQL) 15.12 (Debian 15.12-0+deb12u2)", "15.12"),
            ("nothing", ""),
        ] {
            assert_eq!(version_in(text), version);
        }
    }
}
