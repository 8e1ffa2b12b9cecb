//! `minka completions` and `minka man`: what shells and readers of manuals want.

use std::fs;

use clap_mangen::Man;

use crate::args::{self, Completions};
use crate::failure::Failure;
use crate::help;
use crate::output::Output;

pub(super) fn completions(arguments: &Completions, output: &mut Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut help::command(&output.text), "minka", &mut script);
    output.line(String::from_utf8_lossy(&script).trim_end())
}

pub(super) fn man(arguments: &args::Man, output: &mut Output) -> Result<(), Failure> {
    let command = help::command(&output.text);
    if let Some(directory) = &arguments.dir {
        let written =
            fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(command, directory));
        return written.map_err(|source| Failure::Report { path: directory.clone(), source });
    }
    let mut page = Vec::new();
    Man::new(command).render(&mut page).map_err(Failure::Output)?;
    output.line(String::from_utf8_lossy(&page).trim_end())
}
