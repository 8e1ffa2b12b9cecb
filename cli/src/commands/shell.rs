//! `minka completions` and `minka man`: what shells and readers of manuals want.

use clap_mangen::Man;

use crate::args::Completions;
use crate::failure::Failure;
use crate::help;
use crate::output::Output;

pub(super) fn completions(arguments: &Completions, output: &mut Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut help::command(&output.text), "minka", &mut script);
    output.line(String::from_utf8_lossy(&script).trim_end())
}

pub(super) fn man(output: &mut Output) -> Result<(), Failure> {
    let mut page = Vec::new();
    Man::new(help::command(&output.text)).render(&mut page).map_err(Failure::Output)?;
    output.line(String::from_utf8_lossy(&page).trim_end())
}
