//! Rules about manifests: whatever the members have in common stands once, in the workspace's own manifest.

use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::Failure;
use crate::check::Findings;

/// Keys that every package takes from the workspace.
const SHARED: [&str; 5] = ["version", "edition", "rust-version", "license", "publish"];

const DEPENDENCIES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

pub(crate) fn check(root: &Path, findings: &mut Findings) -> Result<(), Failure> {
    for path in members(root)? {
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        let manifest = read(&path)?;
        findings.errors.extend(mistakes(&manifest).into_iter().map(|mistake| format!("{name}: {mistake}")));
    }
    Ok(())
}

/// The manifests of all members, as `[workspace] members` names them.
fn members(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let workspace = read(&root.join("Cargo.toml"))?;
    let members = workspace.get("workspace").and_then(|workspace| workspace.get("members"));
    let members = members.and_then(Value::as_array).ok_or("find the members of the workspace")?;
    let mut manifests = Vec::new();
    for member in members.iter().filter_map(Value::as_str) {
        match member.strip_suffix("/*") {
            Some(directory) => {
                for entry in fs::read_dir(root.join(directory))? {
                    manifests.push(entry?.path().join("Cargo.toml"));
                }
            }
            None => manifests.push(root.join(member).join("Cargo.toml")),
        }
    }
    manifests.retain(|manifest| manifest.is_file());
    manifests.sort();
    Ok(manifests)
}

fn read(path: &Path) -> Result<Table, Failure> {
    let text = fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))?;
    text.parse().map_err(|error| format!("understand {}: {error}", path.display()).into())
}

/// What a member's manifest says by itself although the workspace should.
fn mistakes(manifest: &Table) -> Vec<String> {
    let inherits = |value: Option<&Value>| {
        value.and_then(|value| value.get("workspace")).and_then(Value::as_bool) == Some(true)
    };
    let mut mistakes = Vec::new();
    if !inherits(manifest.get("lints")) {
        mistakes.push("must have `[lints] workspace = true`".to_owned());
    }
    let package = manifest.get("package");
    for key in SHARED.iter().filter(|key| !inherits(package.and_then(|package| package.get(key)))) {
        mistakes.push(format!("must have `{key}.workspace = true`"));
    }
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(|targets| targets.values().filter_map(Value::as_table));
    for table in std::iter::once(manifest).chain(targets) {
        for kind in DEPENDENCIES {
            let dependencies = table.get(kind).and_then(Value::as_table);
            for (name, _) in dependencies.into_iter().flatten().filter(|(_, value)| !inherits(Some(value))) {
                mistakes.push(format!("must take the dependency {name} from the workspace"));
            }
        }
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
        [package]
        name = 'a'
        version.workspace = true
        edition.workspace = true
        rust-version.workspace = true
        license.workspace = true
        publish.workspace = true
        [lints]
        workspace = true
        [dependencies]
        libc = { workspace = true }
        [target.'cfg(unix)'.dependencies]
        nix = { workspace = true, features = ['socket'] }
    ";

    fn check(good: &str, bad: &str, expected: &[&str]) {
        assert!(GOOD.contains(good), "{good}");
        let manifest: Table = GOOD.replace(good, bad).parse().expect("valid TOML");
        assert_eq!(mistakes(&manifest), expected, "{bad}");
    }

    #[test]
    fn a_member_that_inherits_everything_is_right() {
        check("", "", &[]);
    }

    #[test]
    fn whatever_a_member_says_by_itself_is_found() {
        check("[lints]\n        workspace = true", "", &["must have `[lints] workspace = true`"]);
        check("edition.workspace = true", "edition = '2021'", &["must have `edition.workspace = true`"]);
        let libc = "must take the dependency libc from the workspace";
        check("libc = { workspace = true }", "libc = '0.2'", &[libc]);
        let nix = "must take the dependency nix from the workspace";
        check("nix = { workspace = true,", "nix = { version = '0.31',", &[nix]);
    }
}
