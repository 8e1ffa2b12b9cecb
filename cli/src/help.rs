//! The command line's own words, taken from `locales/` and put into what [`crate::args`] declares.
//!
//! A command `lab up` is explained by the message `help-lab-up`, its option `--nodes` by
//! `help-lab-up--nodes`; what holds for all commands by `help--json` and the like.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, CommandFactory};

use crate::args::Arguments;
use crate::failure::Status;
use crate::text::{Language, Text};

/// The whole command line, explained.
pub(crate) fn command(text: &Text) -> Command {
    explain(grammar(), "help", text).after_help(text.get("help-after"))
}

/// The whole command line without a word of explanation, which takes longer to put together than most commands take.
pub(crate) fn grammar() -> Command {
    let version = Arg::new("version").short('V').long("version").action(ArgAction::Version);
    with_help_flag(Arguments::command()).disable_version_flag(true).arg(version)
}

/// What the whole command line has to say of `run`, without what only `run` has: what asks for more than it is taken for a flag.
pub(crate) fn grammar_of_run() -> Command {
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    Command::new("run")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .arg(flag("json"))
        .arg(flag("help").short('h'))
}

fn with_help_flag(command: Command) -> Command {
    let help = Arg::new("help").short('h').long("help").action(ArgAction::Help).global(false);
    command.disable_help_flag(true).arg(help).mut_subcommands(with_help_flag)
}

fn explain(command: Command, id: &str, text: &Text) -> Command {
    let command = command
        .about(text.get(id))
        .help_template(template(text))
        .subcommand_value_name(text.get("word-command"))
        .mut_args(|argument| {
            let name = argument.get_id().to_string();
            let own = text.find(&format!("{id}--{name}"), &[]);
            let words = own.or_else(|| text.find(&format!("help--{name}"), &[]));
            argument.help(words.unwrap_or_default())
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
            // Nobody is left to tell when the output fails.
            let _ = write!(io::stdout(), "{}", rendered(text, error, io::stdout().is_terminal()));
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = write!(io::stderr(), "{}", rendered(text, error, io::stderr().is_terminal()));
            Status::Usage.into()
        }
        _ if text.language() == Language::English => {
            let _ = error.print();
            Status::Usage.into()
        }
        kind => {
            let mut stderr = io::stderr();
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

/// A help text, with the words that the parser puts in by itself in the reader's language too.
fn rendered(text: &Text, error: &clap::Error, terminal: bool) -> String {
    let styled = error.render();
    let plain = !terminal || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let rendered = if plain { styled.to_string() } else { styled.ansi().to_string() };
    let words = [
        ("Commands:", "heading-commands"),
        ("Arguments:", "heading-arguments"),
        ("Options:", "heading-options"),
        ("[OPTIONS]", "word-options"),
        ("[default:", "word-default"),
        ("[possible values:", "word-values"),
    ];
    words.iter().fold(rendered, |rendered, (word, id)| rendered.replace(word, &text.get(id)))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The help texts of a command and all below it.
    fn helps(words: &[String], command: &Command, text: &Text, into: &mut String) {
        let mut line = words.to_vec();
        line.push("--help".to_owned());
        let error = super::command(text).try_get_matches_from(line).unwrap_err();
        into.push_str(&format!("$ {} --help\n{}\n", words.join(" "), rendered(text, &error, false)));
        for subcommand in command.get_subcommands() {
            let mut words = words.to_vec();
            words.push(subcommand.get_name().to_owned());
            helps(&words, subcommand, text, into);
        }
    }

    fn all_helps(language: Language) -> String {
        let text = Text::new(language);
        let mut all = String::new();
        helps(&["minka".to_owned()], &super::command(&text), &text, &mut all);
        all
    }

    #[test]
    fn the_help_in_english() {
        insta::assert_snapshot!(all_helps(Language::English));
    }

    #[test]
    fn the_help_in_spanish() {
        insta::assert_snapshot!(all_helps(Language::Spanish));
    }

    #[test]
    fn everything_is_explained() {
        fn check(command: &Command) {
            let name = command.get_name();
            let about = command.get_about().unwrap().to_string();
            assert!(!about.starts_with("help") && !about.is_empty(), "{name}: {about}");
            for argument in command.get_arguments() {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(!help.is_empty(), "{name} {}", argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        let mut command = super::command(&Text::new(Language::Spanish));
        command.build();
        check(&command);
    }

    #[test]
    fn the_command_line_holds_together() {
        super::command(&Text::new(Language::English)).debug_assert();
    }

    #[test]
    fn mistakes_are_told_in_spanish() {
        let text = Text::new(Language::Spanish);
        let check = |line: &str, expected: &str| {
            let error = super::command(&text).try_get_matches_from(line.split(' ')).unwrap_err();
            assert_eq!(sentence(&text, error.kind(), &error), expected, "{line}");
        };
        check("minka fly", "no existe la orden fly");
        check("minka ps --fast", "no existe el argumento --fast");
        check("minka migrate 1", "falta: <NODE>");
        check("minka migrate x b", "el valor «x» no sirve para <PID>");
        check("minka lab run --lab a --nodes 2 true", "--lab <NAME> no casa con los demás argumentos");
    }
}
