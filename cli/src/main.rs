//! The `minka` program: the tools, the node daemon, and the programs that the daemon starts.
//!
//! Reading order: `args` (what can be said), `commands` (what each does), `failure` (what can go wrong and
//! the exit status it gives), `text` (what is shown to people, from `locales/`).

mod args;
mod commands;
mod failure;
mod help;
mod hidden;
mod output;
mod text;
mod zygote;

use std::process::ExitCode;

use clap::{Args, FromArgMatches};

use args::Arguments;
use output::Output;
use text::Text;

/// The command line. Under the names of XPU Manager's tools the program is its own command `xpu`, and under those of
/// openMosix's it is them.
fn words() -> Vec<std::ffi::OsString> {
    let mut words: Vec<_> = std::env::args_os().collect();
    let name = words.first().and_then(|word| std::path::Path::new(word).file_name()?.to_str());
    if name.is_some_and(|name| commands::xpu::NAMES.contains(&name)) {
        words.insert(1, "xpu".into());
    }
    let name =
        words.first().and_then(|word| std::path::Path::new(word).file_name()?.to_str()).map(str::to_owned);
    if let Some(name) = name.filter(|name| args::openmosix::NAMES.contains(&name.as_str())) {
        let rest = words.split_off(1);
        words.extend(args::openmosix::translate(&name, rest));
    }
    words
}

fn understand(command: clap::Command) -> Result<Arguments, clap::Error> {
    Arguments::from_arg_matches(&command.try_get_matches_from(words())?)
}

/// `minka run`, which somebody waits for, by its own part of the grammar: to put all of it together takes as long as to load
/// this program. `None` if it is something else, or asks for more than that.
fn understand_run(words: Vec<std::ffi::OsString>) -> Option<Arguments> {
    let mut words = words.into_iter();
    let name = words.next()?;
    words.next().filter(|command| command == "run")?;
    let run = args::Run::augment_args(help::grammar_of_run());
    let matches = run.try_get_matches_from([name].into_iter().chain(words)).ok()?;
    if matches.get_flag("help") || matches.get_flag("json") {
        return None;
    }
    let run = args::Run::from_arg_matches(&matches).ok()?;
    Some(Arguments { json: false, command: args::Command::Run(run) })
}

fn main() -> ExitCode {
    if let Some(code) = hidden::route() {
        return code;
    }
    let text = Text::from_environment();
    let understood = understand_run(words())
        .map_or_else(|| understand(help::grammar()), Ok)
        .or_else(|_| understand(help::command(&text)));
    let arguments = match understood {
        Ok(arguments) => arguments,
        Err(error) => return help::report(&text, &error),
    };
    let mut output = Output::new(text, arguments.json);
    match commands::perform(arguments.command, &mut output) {
        Ok(code) => code,
        Err(failure) => output.fail(&failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_understood_quickly_is_the_same() {
        let words = |line: &str| -> Vec<std::ffi::OsString> {
            line.split(' ').map(std::ffi::OsString::from).collect()
        };
        let whole = |line: &str| {
            let matches = help::grammar().try_get_matches_from(words(line)).expect("a command line");
            Arguments::from_arg_matches(&matches).expect("arguments")
        };
        for line in [
            "minka run true",
            "minka run -- true",
            "minka run --on b --strict -- gcc -c --json -h x.c",
            "minka run --on=b make -j4 --help",
            "minka run --gpu -- a",
            "minka run --gpu=intel -- a -- b",
        ] {
            let quick = understand_run(words(line)).expect(line);
            assert_eq!(format!("{quick:?}"), format!("{:?}", whole(line)), "{line}");
        }
        for line in [
            "minka run",
            "minka run -h",
            "minka run --help true",
            "minka run --json -- true",
            "minka --json run true",
            "minka run --on",
            "minka run --gpu=none -- a",
            "minka run --gpu --on b -- a",
            "minka ps",
            "minka",
        ] {
            assert!(understand_run(words(line)).is_none(), "{line}");
        }
    }
}
