//! openMosix's own tools: `mosctl`, `mosrun` and its short forms, `showmap`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Mosctl {
    #[arg(value_name = "VERB", value_enum)]
    pub(crate) verb: Verb,
    #[arg(value_name = "NODE")]
    pub(crate) node: Option<String>,
    #[arg(value_name = "PART", num_args = 0..=2)]
    pub(crate) parts: Vec<u16>,
}

/// What `mosctl` does, under openMosix's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verb {
    Stay,
    Nostay,
    Lstay,
    Nolstay,
    Block,
    Noblock,
    Expel,
    Bring,
    Setspeed,
    Setdecay,
    Getdecay,
    Getyard,
    Setyard,
    Gettune,
    Whois,
    Getload,
    Getspeed,
    Status,
    Isup,
    Getmem,
    Getfree,
    Getutil,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct Setpe {
    #[arg(short = 'r', long, group = "what")]
    pub(crate) read: bool,
    #[arg(short = 'c', long, group = "what")]
    pub(crate) check: bool,
    #[arg(short = 'w', long, group = "what")]
    pub(crate) write: bool,
    #[arg(long, group = "what")]
    pub(crate) off: bool,
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Omdiscd {
    #[arg(short = 'i', long = "interface", value_name = "INTERFACE", value_delimiter = ',')]
    pub(crate) interfaces: Vec<String>,
    #[arg(short = 'n', long)]
    pub(crate) nodaemon: bool,
    #[arg(short = 'm', long, value_name = "TTL", default_value_t = 1)]
    pub(crate) multicast_ttl: u8,
    #[arg(long, value_name = "FILE", default_value = "/etc/minka/node.toml")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Tune {
    #[arg(long)]
    pub(crate) set: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Mosrun {
    #[arg(long, conflicts_with_all = ["on", "jobs"])]
    pub(crate) home: bool,
    #[arg(long, value_name = "NODE", conflicts_with = "jobs")]
    pub(crate) on: Option<String>,
    #[arg(long, value_name = "LIST")]
    pub(crate) jobs: Option<String>,
    #[arg(short = 'F')]
    pub(crate) anyway: bool,
    #[arg(short = 'L')]
    pub(crate) lock: bool,
    #[arg(short = 'l', conflicts_with = "lock")]
    pub(crate) unlock: bool,
    #[arg(short = 'k', conflicts_with_all = ["lock", "unlock"])]
    pub(crate) keep: bool,
    #[arg(long, value_name = "KIND", value_enum)]
    pub(crate) job: Option<Job>,
    #[arg(long, value_name = "PACE", value_enum)]
    pub(crate) decay: Option<Pace>,
    #[arg(short = 't', long, value_name = "SECONDS")]
    pub(crate) interval: Option<std::num::NonZeroU16>,
    #[arg(short = 'd', long, value_name = "PARTS", value_parser = clap::value_parser!(u16).range(..=1000))]
    pub(crate) kept: Option<u16>,
    #[arg(short = 'z')]
    pub(crate) zero: bool,
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

/// What a process mostly does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Job {
    Cpu,
    Io,
}

impl Job {
    /// As the daemon reads it in a program's environment.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Job::Cpu => "cpu",
            Job::Io => "io",
        }
    }
}

/// How fast what is known of a process is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pace {
    Slow,
    Fast,
    Never,
}

impl Pace {
    /// As the daemon reads it in a program's environment.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Pace::Slow => "slow",
            Pace::Fast => "fast",
            Pace::Never => "never",
        }
    }
}

/// The names under which the program is one of these tools.
pub(crate) const NAMES: [&str; 19] = [
    "omdiscd",
    "mosctl",
    "mosrun",
    "showmap",
    "migrate",
    "mps",
    "nomig",
    "runhome",
    "runon",
    "cpujob",
    "iojob",
    "nodecay",
    "slowdecay",
    "fastdecay",
    "mosmon",
    "mon",
    "mtop",
    "setpe",
    "tune",
];

/// The command line of a tool of openMosix in the words of this program.
pub(crate) fn translate(name: &str, arguments: Vec<OsString>) -> Vec<OsString> {
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let mut arguments = arguments.into_iter();
    match name {
        "mosmon" | "mon" => {
            let letters = |word: &OsString| match word.to_str() {
                Some("-l") => words(&["--show", "load"]),
                Some("-L") => words(&["--show", "log-load"]),
                Some("-s") => words(&["--show", "speed"]),
                Some("-m") => words(&["--show", "memory"]),
                Some("-r") => words(&["--show", "raw-memory"]),
                Some("-u") => words(&["--show", "use"]),
                Some("-w") => words(&["--columns", "wide"]),
                Some("-v") => words(&["--columns", "vertical"]),
                Some("-V") => words(&["--columns", "tight"]),
                Some("-a") => words(&["--columns", "auto"]),
                Some("-d") => words(&["--dead"]),
                Some("-t") => words(&["--total"]),
                _ => vec![word.clone()],
            };
            std::iter::once("mon".into()).chain(arguments.flat_map(|word| letters(&word))).collect()
        }
        "migrate" => {
            let word = |word: OsString| if word == "balance" { "best".into() } else { word };
            std::iter::once("migrate".into()).chain(arguments.map(word)).collect()
        }
        "setpe" => {
            let word = |word: OsString| if word == "-off" { "--off".into() } else { word };
            std::iter::once("setpe".into()).chain(arguments.map(word)).collect()
        }
        "mps" => [words(&["ps"]), arguments.collect()].concat(),
        "nomig" | "runhome" => translate("mosrun", [words(&["-h", "-L"]), arguments.collect()].concat()),
        "runon" => {
            let node = arguments.next().into_iter().collect();
            translate("mosrun", [words(&["-L", "--on"]), node, arguments.collect()].concat())
        }
        "cpujob" => translate("mosrun", [words(&["-c"]), arguments.collect()].concat()),
        "iojob" => translate("mosrun", [words(&["-i"]), arguments.collect()].concat()),
        "nodecay" => translate("mosrun", [words(&["-n"]), arguments.collect()].concat()),
        "slowdecay" => translate("mosrun", [words(&["-s"]), arguments.collect()].concat()),
        "fastdecay" => translate("mosrun", [words(&["-f"]), arguments.collect()].concat()),
        "mosrun" => {
            let mut translated = words(&["mosrun"]);
            // Only up to the command, whose options are its own.
            while let Some(word) = arguments.next() {
                let option = word.to_str().and_then(|word| word.strip_prefix('-'));
                match option {
                    Some("h") => translated.push("--home".into()),
                    Some("c") => translated.extend(words(&["--job", "cpu"])),
                    Some("i") => translated.extend(words(&["--job", "io"])),
                    Some("n") => translated.extend(words(&["--decay", "never"])),
                    Some("s") => translated.extend(words(&["--decay", "slow"])),
                    Some("f") => translated.extend(words(&["--decay", "fast"])),
                    Some(number)
                        if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) =>
                    {
                        translated.extend(["--on".into(), OsString::from(number)]);
                    }
                    Some("-on" | "-jobs" | "-decay" | "-job" | "t" | "-interval" | "d" | "-kept") => {
                        translated.extend(std::iter::once(word).chain(arguments.next()))
                    }
                    Some("j") => translated.extend(std::iter::once("--jobs".into()).chain(arguments.next())),
                    Some(list) if list.starts_with('j') => {
                        translated.extend(["--jobs".into(), OsString::from(&list[1..])]);
                    }
                    // It says that the command follows, and its arguments from argument 0 on.
                    Some("z") => {
                        translated.push("-z".into());
                        break;
                    }
                    Some("-") => break,
                    Some(_) => translated.push(word),
                    None => {
                        translated.extend(["--".into(), word]);
                        translated.extend(arguments);
                        return translated;
                    }
                }
            }
            let rest: Vec<OsString> = arguments.collect();
            if !rest.is_empty() {
                translated.push("--".into());
            }
            [translated, rest].concat()
        }
        name => [words(&[name]), arguments.collect()].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmosix_s_way_to_say_it_is_understood() {
        let check = |name: &str, line: &str, expected: &str| {
            let words = line.split_whitespace().map(OsString::from).collect();
            let expected: Vec<OsString> = expected.split_whitespace().map(OsString::from).collect();
            assert_eq!(translate(name, words), expected, "{name} {line}");
        };
        check("mosrun", "-3 -L ls -3 -h", "mosrun --on 3 -L -- ls -3 -h");
        check("mosrun", "-h ls", "mosrun --home -- ls");
        check("mosrun", "-j1-3,5 -F sort -n", "mosrun --jobs 1-3,5 -F -- sort -n");
        check("mosrun", "-j 1-3 -z sort sort", "mosrun --jobs 1-3 -z -- sort sort");
        check("mosrun", "-c -t 5 -d 900 -k ls", "mosrun --job cpu -t 5 -d 900 -k -- ls");
        check("cpujob", "-3 ls -c", "mosrun --job cpu --on 3 -- ls -c");
        check("iojob", "-z ls ls", "mosrun --job io -z -- ls ls");
        check("nomig", "-z ls -l", "mosrun --home -L -z -- ls -l");
        check("mosrun", "--help", "mosrun --help");
        check("nomig", "ls -l", "mosrun --home -L -- ls -l");
        check("runon", "2 ls -l", "mosrun -L --on 2 -- ls -l");
        check("mosrun", "-f -h ls -f", "mosrun --decay fast --home -- ls -f");
        check("mosrun", "--decay slow -- ls", "mosrun --decay slow -- ls");
        check("nodecay", "-2 ls -s", "mosrun --decay never --on 2 -- ls -s");
        check("slowdecay", "-z ls", "mosrun --decay slow -z -- ls");
        check("setpe", "-off", "setpe --off");
        check("setpe", "-w -f map", "setpe -w -f map");
        check("mtop", "--once", "mtop --once");
        check("mps", "--json", "ps --json");
        check("mosmon", "-m -V -t", "mon --show memory --columns tight --total");
        check("mon", "--once -x", "mon --once -x");
        check("migrate", "7 home", "migrate 7 home");
        check("migrate", "7 balance", "migrate 7 best");
    }
}
