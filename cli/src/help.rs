//! The command line's own words, taken from `locales/` and put into what [`crate::args`] declares.
//!
//! A command `lab up` is explained by the message `help-lab-up`, its option `--nodes` by
//! `help-lab-up--nodes`; what holds for all commands by `help--json` and the like.

use std::io::Write;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, CommandFactory};

use crate::args::Arguments;
use crate::failure::Status;
use crate::text::{Language, Text};

/// The whole command line, explained.
pub(crate) fn command(text: &Text) -> Command {
    let command = explain(Arguments::command(), "help", text);
    command.after_help(text.get("help-after"))
}

fn explain(command: Command, id: &str, text: &Text) -> Command {
    let version = Arg::new("version").short('V').long("version").action(ArgAction::Version);
    let help = Arg::new("help").short('h').long("help").action(ArgAction::Help).global(false);
    let mut command = command.disable_help_flag(true).arg(help);
    if id == "help" {
        command = command.disable_version_flag(true).arg(version);
    }
    command = command
        .about(text.get(id))
        .help_template(template(text))
        .subcommand_help_heading(text.get("heading-commands"))
        .mut_args(|argument| {
            let name = argument.get_id().to_string();
            let own = text.find(&format!("{id}--{name}"), &[]);
            let words = own.or_else(|| text.find(&format!("help--{name}"), &[]));
            let heading = if argument.is_positional() { "heading-arguments" } else { "heading-options" };
            argument
                .help(words.unwrap_or_default())
                .help_heading(text.get(heading))
                .hide_possible_values(false)
        });
    command.mut_subcommands(|subcommand| {
        let id = format!("{id}-{}", subcommand.get_name());
        explain(subcommand, &id, text)
    })
}

fn template(text: &Text) -> String {
    format!("{{about-with-newline}}\n{} {{usage}}\n\n{{all-args}}{{after-help}}", text.get("heading-usage"))
}

/// Shows the help that was asked for, or what is wrong with the command line.
pub(crate) fn report(text: &Text, error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Status::Usage.into()
        }
        _ if text.language() == Language::English => {
            let _ = error.print();
            Status::Usage.into()
        }
        kind => {
            let mut stderr = std::io::stderr();
            let _ = writeln!(stderr, "minka: {}", sentence(text, kind, error));
            if let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) {
                let usage = usage.to_string();
                let usage = usage.trim_start_matches("Usage:").trim();
                let _ = writeln!(stderr, "\n{} {usage}", text.get("heading-usage"));
            }
            let _ = writeln!(stderr, "\n{}", text.get("usage-more"));
            Status::Usage.into()
        }
    }
}

/// What is wrong with the command line, in the reader's language.
fn sentence(text: &Text, kind: ErrorKind, error: &clap::Error) -> String {
    let context = |kind| {
        let value = match error.get(kind) {
            Some(ContextValue::String(value)) => value.clone(),
            Some(ContextValue::Strings(values)) => values.join(", "),
            _ => String::new(),
        };
        value.into()
    };
    let argument = ("argument", context(ContextKind::InvalidArg));
    let value = ("value", context(ContextKind::InvalidValue));
    match kind {
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => text.with("usage-value", &[argument, value]),
        ErrorKind::UnknownArgument => text.with("usage-unknown", &[argument]),
        ErrorKind::InvalidSubcommand => {
            text.with("usage-command", &[("command", context(ContextKind::InvalidSubcommand))])
        }
        ErrorKind::MissingRequiredArgument => text.with("usage-missing", &[argument]),
        ErrorKind::MissingSubcommand => text.get("usage-no-command"),
        ErrorKind::ArgumentConflict => text.with("usage-conflict", &[argument]),
        _ => text.get("usage-other"),
    }
}
