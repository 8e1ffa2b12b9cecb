//! Rules about prose: links lead somewhere, and translations have the same parts.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::check::Findings;
use crate::source;

/// Documents that exist in two languages.
const TRANSLATIONS: [(&str, &str); 1] = [("README.md", "README.es.md")];

pub(crate) fn check(root: &Path, findings: &mut Findings) -> Result<(), Failure> {
    for path in documents(root)? {
        let text = fs::read_to_string(&path)?;
        let name = path.strip_prefix(root).unwrap_or(&path).display();
        let directory = path.parent().unwrap_or(root);
        let broken = links(&text).filter(|link| !directory.join(link).exists());
        findings.errors.extend(broken.map(|link| format!("{name}: there is no {link}")));
    }
    for (original, translation) in TRANSLATIONS {
        let parts = |name: &str| fs::read_to_string(root.join(name)).map(|text| outline(&text));
        if parts(original)? != parts(translation)? {
            let mistake = format!("{translation}: must have the headings and examples of {original}");
            findings.errors.push(mistake);
        }
    }
    Ok(())
}

/// The documents of the root and those in `docs`.
fn documents(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut documents = source::files(&root.join("docs"), "md")?;
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            documents.push(path);
        }
    }
    documents.sort();
    Ok(documents)
}

/// The relative paths that a document links to.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let paths = targets.map(|target| target.split('#').next().unwrap_or_default());
    paths.filter(|path| !path.is_empty() && !path.contains("://") && !path.starts_with("mailto:"))
}

/// The levels of the headings, and 0 for each block of code.
fn outline(text: &str) -> Vec<usize> {
    let mut parts = Vec::new();
    let mut code = false;
    for line in text.lines() {
        if line.starts_with("```") {
            code = !code;
            if code {
                parts.push(0);
            }
        } else if !code && line.starts_with('#') {
            parts.push(line.bytes().take_while(|byte| *byte == b'#').count());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_files_are_found() {
        let text = "a [b](c/d.md#e), [f](https://g.h/), [i](#j) and [k](l)";
        assert_eq!(links(text).collect::<Vec<_>>(), ["c/d.md", "l"]);
    }

    #[test]
    fn an_outline_is_the_headings_and_the_code() {
        assert_eq!(outline("# a\ntext\n## b\n```sh\n# no heading\n```\n### c\n"), [1, 2, 0, 3]);
    }
}
