//! `minka install`: makes this machine the node whose directory `minka cluster add` has made.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use minka_link::NodeConfig;
use minka_link::keys::NODE_KEY;
use minka_link::roster::NODE_FILE;

use crate::args::Install;
use crate::failure::Failure;
use crate::output::Output;

/// Where things go, below the root.
const CONFIG: &str = "etc/minka";
const PROGRAM: &str = "usr/local/bin/minka";
const UNIT: &str = "etc/systemd/system/minkad.service";

/// Where a package has put them.
const PACKAGED_PROGRAM: &str = "usr/bin/minka";
const PACKAGED_UNIT: &str = "usr/lib/systemd/system/minkad.service";

/// The unit, with a mark where the program's place goes.
const UNIT_TEXT: &str = include_str!("../../../packaging/node/minkad.service");
const UNIT_PROGRAM: &str = "@PROGRAM@";

pub(super) fn install(arguments: &Install, output: &mut Output) -> Result<(), Failure> {
    let root = &arguments.root;
    // Before anything is changed: the directory must be one of a node, with good keys.
    let config = NodeConfig::read(&arguments.directory.join(NODE_FILE))?;
    minka_link::Credentials::new(&config.read_keys()?)?;
    refuse_another_node(&config.keys, &root.join(CONFIG))?;
    let own = std::env::current_exe().map_err(Failure::Prepare)?;
    let program = program(&own, root)?;
    copy_tree(&arguments.directory, &root.join(CONFIG))?;
    let packaged = root.join(PACKAGED_UNIT);
    let unit = if program == Path::new(PACKAGED_PROGRAM) && packaged.exists() {
        packaged
    } else {
        let text = UNIT_TEXT.replace(UNIT_PROGRAM, &format!("/{}", program.display()));
        write(&root.join(UNIT), text.as_bytes(), 0o644)?;
        root.join(UNIT)
    };
    let started = root == Path::new("/") && start()?;
    if output.is_json() {
        let (name, config) = (config.name, root.join(CONFIG));
        let installed = serde_json::json!({
            "node": name, "program": root.join(program), "config": config, "unit": unit,
            "started": started,
        });
        return output.json(&installed);
    }
    let message = if started { "install-started" } else { "install-done" };
    let lines = output.text.with(message, &[("name", config.name.into())]);
    output.line(&lines)
}

/// A machine that is a node already has another one's key.
fn refuse_another_node(keys: &Path, target: &Path) -> Result<(), Failure> {
    let there = target.join(keys.file_name().unwrap_or_default()).join(NODE_KEY);
    let own = keys.join(NODE_KEY);
    match (fs::read(&there), fs::read(&own)) {
        (Ok(one), Ok(other)) if one != other => Err(Failure::OtherNode { path: there }),
        _ => Ok(()),
    }
}

/// The program's place below the root: where a package has put it, or where it is put now.
fn program(own: &Path, root: &Path) -> Result<PathBuf, Failure> {
    let packaged = Path::new(PACKAGED_PROGRAM);
    let place = Path::new(PROGRAM);
    let same = |path: PathBuf| match (fs::metadata(own), fs::metadata(path)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    };
    if same(root.join(packaged)) {
        return Ok(packaged.to_owned());
    }
    if !same(root.join(place)) {
        let mut bytes = Vec::new();
        let read = fs::File::open(own).and_then(|mut file| file.read_to_end(&mut bytes));
        read.map_err(failure(own))?;
        write(&root.join(place), &bytes, 0o755)?;
    }
    Ok(place.to_owned())
}

/// Copies the directory of a node.
fn copy_tree(from: &Path, to: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(to).map_err(failure(to))?;
    for entry in fs::read_dir(from).map_err(failure(from))? {
        let entry = entry.map_err(failure(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(failure(&source))?;
        if kind.is_dir() {
            copy_tree(&source, &target)?;
        } else if kind.is_file() {
            let bytes = fs::read(&source).map_err(failure(&source))?;
            let mode = fs::metadata(&source).map_err(failure(&source))?.permissions().mode() & 0o777;
            write(&target, &bytes, mode)?;
        }
    }
    Ok(())
}

/// Writes a file as a whole or not at all, and the directories above it.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failure(directory))?;
    }
    let new = path.with_extension("new");
    let write = || {
        // One that was left behind may have another mode.
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(failure(path))
}

fn failure(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    move |source| Failure::Install { path, source }
}

/// Has systemd start the daemon, now and with the machine. False where systemd does not run.
fn start() -> Result<bool, Failure> {
    if !Path::new("/run/systemd/system").exists() {
        return Ok(false);
    }
    for words in [&["daemon-reload"][..], &["enable", "--now", "minkad.service"]] {
        let program = PathBuf::from("systemctl");
        let status = Command::new(&program).args(words).status();
        let status = status.map_err(|source| Failure::Start { program, source })?;
        if !status.success() {
            return Err(Failure::Systemd { words: words.join(" ") });
        }
    }
    Ok(true)
}
