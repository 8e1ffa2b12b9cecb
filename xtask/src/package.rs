//! Packages for Debian's and Fedora's families, made with their own tools from one staged tree.
//!
//! ```text
//! usr/bin/minka                    and the names under which it is other programs
//! usr/lib/systemd/system/*.service
//! usr/share/{man,bash-completion,zsh,fish,doc}/…
//! ```

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::{cargo, program, succeed};
use crate::scripts::{DEBIAN, FEDORA, SCRIPTS};
use crate::{Failure, pages};

/// Other names of the program.
pub(crate) const LINKS: [&str; 19] = [
    "omdiscd",
    "xpumcli",
    "xpu-smi",
    "mosctl",
    "mosmon",
    "mosrun",
    "nomig",
    "runhome",
    "runon",
    "cpujob",
    "iojob",
    "nodecay",
    "slowdecay",
    "fastdecay",
    "mtop",
    "setpe",
    "showmap",
    "migrate",
    "mps",
];

/// What `cargo xtask pages` makes, and where systems look for it.
const PAGES: [(&str, &str); 5] = [
    ("man1", "usr/share/man/man1"),
    ("es/man1", "usr/share/man/es/man1"),
    ("completions/minka.bash", "usr/share/bash-completion/completions/minka"),
    ("completions/_minka", "usr/share/zsh/vendor-completions/_minka"),
    ("completions/minka.fish", "usr/share/fish/vendor_completions.d/minka.fish"),
];

/// Other files of the repository, and where they go.
const FILES: [(&str, &str); 8] = [
    ("packaging/xpu/minka-xpu.service", "usr/lib/systemd/system/minka-xpu.service"),
    ("packaging/xpu/minka-xpu.sysusers", "usr/lib/sysusers.d/minka-xpu.conf"),
    ("packaging/xpu/prometheus-rules.yml", "usr/share/doc/minka/prometheus-rules.yml"),
    ("packaging/xpu/grafana-dashboard.json", "usr/share/doc/minka/grafana-dashboard.json"),
    ("README.md", "usr/share/doc/minka/README.md"),
    ("README.es.md", "usr/share/doc/minka/README.es.md"),
    ("CHANGELOG.md", "usr/share/doc/minka/CHANGELOG.md"),
    ("packaging/copyright", "usr/share/doc/minka/copyright"),
];

const SUMMARY: &str = "the Linux machines you own, working as one computer";
const DESCRIPTION: &str = "Minka moves running, unmodified programs between the machines of a cluster, and shows and \
                           serves the accelerators that they have.";

/// Makes the packages, those for which there is a tool here; `release` tells packages of one version apart.
pub(crate) fn make(root: &Path, directory: Option<PathBuf>, release: Option<u32>) -> Result<(), Failure> {
    succeed(cargo(root).args(["build", "--release", "--package", "minka"]))?;
    let target = std::env::current_exe()?;
    let target = target.parent().and_then(Path::parent).ok_or("find the target directory")?;
    let directory = directory.unwrap_or_else(|| target.join("package"));
    let tree = directory.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    stage(root, &target.join("release/minka"), &tree)?;
    let made: Vec<PathBuf> = [debian(&directory, &tree, release)?, fedora(&directory, &tree, release)?]
        .into_iter()
        .flatten()
        .collect();
    if made.is_empty() {
        return Err("make a package: neither dpkg-deb nor rpmbuild is here".into());
    }
    made.iter().for_each(|package| println!("{}", package.display()));
    Ok(())
}

/// Lays out what every package holds.
fn stage(root: &Path, minka: &Path, tree: &Path) -> Result<(), Failure> {
    put(minka, &tree.join("usr/bin/minka"), 0o755)?;
    // Debugging information has its place elsewhere; without `strip` the package is only larger.
    let _ = program("strip", root).arg(tree.join("usr/bin/minka")).stderr(Stdio::null()).status();
    for name in LINKS {
        symlink("minka", tree.join("usr/bin").join(name))?;
    }
    let made = tree.with_file_name("pages");
    pages::write(&tree.join("usr/bin/minka"), &made)?;
    for (from, to) in PAGES {
        let from = made.join(from);
        if from.is_dir() {
            for page in fs::read_dir(&from)? {
                let page = page?;
                put(&page.path(), &tree.join(to).join(page.file_name()), 0o644)?;
            }
        } else {
            put(&from, &tree.join(to), 0o644)?;
        }
    }
    for (from, to) in FILES {
        put(&root.join(from), &tree.join(to), 0o644)?;
    }
    let unit = fs::read_to_string(root.join("packaging/node/minkad.service"))?;
    fs::write(
        tree.join("usr/lib/systemd/system/minkad.service"),
        unit.replace("@PROGRAM@", "/usr/bin/minka"),
    )?;
    Ok(())
}

fn put(from: &Path, to: &Path, mode: u32) -> Result<(), Failure> {
    let directory = to.parent().ok_or("find a directory")?;
    fs::create_dir_all(directory).map_err(|error| format!("make {}: {error}", directory.display()))?;
    fs::copy(from, to).map_err(|error| format!("copy {}: {error}", from.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

fn is_here(name: &str) -> bool {
    let asked = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// The C library that the program has been linked with, as "2.36": it runs with this one and with newer ones.
fn c_library() -> Result<String, Failure> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().nth(1).ok_or("find the version of the C library")?.to_owned())
}

fn debian(directory: &Path, tree: &Path, release: Option<u32>) -> Result<Option<PathBuf>, Failure> {
    if !is_here("dpkg-deb") {
        return Ok(None);
    }
    let version = env!("CARGO_PKG_VERSION");
    let version = release.map_or_else(|| version.to_owned(), |release| format!("{version}-{release}"));
    let whole = directory.join("debian");
    if whole.exists() {
        fs::remove_dir_all(&whole)?;
    }
    succeed(program("cp", directory).args(["--archive"]).arg(tree).arg(&whole))?;
    let control = whole.join("DEBIAN");
    fs::create_dir(&control)?;
    fs::write(
        control.join("control"),
        format!(
            "Package: minka\nVersion: {version}\nArchitecture: amd64\nMaintainer: Minka's authors <minka@localhost>\n\
             Section: admin\nPriority: optional\nDepends: libc6 (>= {}), libgcc-s1\nDescription: {SUMMARY}\n {DESCRIPTION}\n",
            c_library()?
        ),
    )?;
    for (name, what) in DEBIAN {
        let script = control.join(name);
        fs::write(&script, format!("#!/bin/sh\nset -e\n{SCRIPTS}{what}\n"))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    }
    let package = directory.join(format!("minka_{version}_amd64.deb"));
    succeed(
        program("dpkg-deb", directory).args(["--root-owner-group", "--build"]).arg(&whole).arg(&package),
    )?;
    Ok(Some(package))
}

fn fedora(directory: &Path, tree: &Path, release: Option<u32>) -> Result<Option<PathBuf>, Failure> {
    if !is_here("rpmbuild") {
        return Ok(None);
    }
    let version = env!("CARGO_PKG_VERSION");
    let release = release.unwrap_or(1);
    let tree = fs::canonicalize(tree)?;
    let top = fs::canonicalize(directory)?.join("rpm");
    fs::create_dir_all(&top)?;
    let files: Vec<String> = listed(&tree)?;
    let scripts: String = FEDORA.map(|(name, what)| format!("%{name}\n{SCRIPTS}{what}\n")).concat();
    let spec = top.join("minka.spec");
    fs::write(
        &spec,
        format!(
            "Name: minka\nVersion: {version}\nRelease: {release}\nSummary: {SUMMARY}\nLicense: MIT OR Apache-2.0\n\
             BuildArch: x86_64\n%global debug_package %{{nil}}\n%global __os_install_post %{{nil}}\n\
             %description\n{DESCRIPTION}\n%install\nmkdir -p %{{buildroot}}\ncp -a {}/. %{{buildroot}}/\n\
             {scripts}%files\n%defattr(-,root,root)\n{}\n",
            tree.display(),
            files.join("\n"),
        ),
    )?;
    let topdir = format!("_topdir {}", top.display());
    succeed(program("rpmbuild", directory).args(["-bb", "--quiet", "--define", &topdir]).arg(&spec))?;
    let package = top.join("RPMS/x86_64").join(format!("minka-{version}-{release}.x86_64.rpm"));
    let place = directory.join(format!("minka-{version}-{release}.x86_64.rpm"));
    fs::copy(&package, &place).map_err(|error| format!("find {}: {error}", package.display()))?;
    Ok(Some(place))
}

/// The files of a tree, as they are called where it is installed.
fn listed(tree: &Path) -> Result<Vec<String>, Failure> {
    let mut files = Vec::new();
    let mut directories = vec![tree.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            } else {
                files.push(format!("/{}", entry.path().strip_prefix(tree)?.display()));
            }
        }
    }
    files.sort();
    Ok(files)
}
