//! Starting programs, here and on another node.

use std::io;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{Answer, since, unknown};

/// What is started: it does nothing but begin and end.
const NOTHING: &str = "true";

/// Carries out an order; `program` is Minka, `node` where to place.
pub(super) fn obey(words: &[&str], program: &str, node: &str) -> Answer {
    match words {
        ["local"] => run(Command::new(NOTHING)),
        ["placed"] => {
            let mut command = Command::new(program);
            command.args(["run", "--strict", "--on", node, "--", NOTHING]);
            run(command)
        }
        _ => Err(unknown(words)),
    }
}

fn run(mut command: Command) -> Answer {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status()?;
    let time = since(start);
    if status.success() {
        Ok(vec![time])
    } else {
        Err(io::Error::other(format!("{command:?} failed: {status}")))
    }
}
