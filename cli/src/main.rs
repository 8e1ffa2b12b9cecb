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

use clap::FromArgMatches;

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

fn main() -> ExitCode {
    if let Some(code) = hidden::route() {
        return code;
    }
    let text = Text::from_environment();
    let understood = understand(help::grammar()).or_else(|_| understand(help::command(&text)));
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
