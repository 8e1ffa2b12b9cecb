//! How an authority takes the place of another one, whose key was lost, stolen or only used for long.
//!
//! ```text
//!   cluster.toml        ca.key   succession.toml    signed by      certificates by
//!   ─ one authority ─── former ─ none ───────────── former ─────── former
//!        │ begin: the new one is kept, and then listed
//!   ─ two of them ───── former ─ new, renewed ───── new, former ── new; the former's are good
//!        │ finish: the former is taken off the list
//!   ─ the new one ───── new ──── none ───────────── new ────────── new; the former's are refused
//! ```
//!
//! Meanwhile everybody can talk to everybody: a certificate by the new authority comes with the former one's for that
//! authority, so that a node that was off all the time believes it, too, and by that hears the list that names the new one.
//! From then on the node believes lists by the new authority only, however many somebody signs with the former one's key.
//!
//! Each arrow is one file's being replaced, and what is left to be done after it is done by whoever opens the directory next.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::directory::{Admitted, Roster};
use super::{List, RosterError, sync_rename};
use crate::authority::{NodeRequest, SUCCESSION, Succession};
use crate::keys::{self, AUTHORITY_CERTIFICATE, AUTHORITY_KEY, Authority};

/// The files of a directory that say who its authority is.
pub const AUTHORITY_FILES: [&str; 2] = [AUTHORITY_CERTIFICATE, SUCCESSION];

/// How far an authority has come in taking another one's place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Nodes that have certificates of the new one.
    pub renewed: BTreeSet<String>,
    /// Nodes that are not known to.
    pub missing: BTreeSet<String>,
}

impl Roster {
    /// Has a new authority take the place of the one there is, unless one does so already; returns whether it is begun now.
    pub fn begin_succession(&mut self) -> Result<bool, RosterError> {
        let is_begun = self.authority().is_new();
        if !is_begun {
            let succession = self.authority().successor()?;
            write_secret(&self.path(SUCCESSION), &succession)?;
            self.read_authority()?;
        }
        if !self.is_listed() {
            self.list_authorities()?;
        }
        Ok(!is_begun)
    }

    /// How far that has come; `None` if no authority takes another one's place.
    pub fn standing(&self) -> Result<Option<Standing>, RosterError> {
        let Some(succession) = read(&self.path(SUCCESSION))? else { return Ok(None) };
        let names: BTreeSet<String> = self.nodes().keys().cloned().collect();
        let renewed: BTreeSet<String> = names.intersection(&succession.renewed).cloned().collect();
        let missing = names.difference(&renewed).cloned().collect();
        Ok(Some(Standing { renewed, missing }))
    }

    /// These have certificates of the new authority.
    pub fn note_renewed(&mut self, names: impl IntoIterator<Item = String>) -> Result<(), RosterError> {
        let Some(mut succession) = read(&self.path(SUCCESSION))? else { return Ok(()) };
        let before = succession.renewed.len();
        succession.renewed.extend(names);
        if succession.renewed.len() == before {
            return Ok(());
        }
        write_secret(&self.path(SUCCESSION), &succession)
    }

    /// Makes a certificate for a node of the list that has shown a good one, without changing the list.
    pub fn certify(&self, name: &str, request: &NodeRequest) -> Result<Admitted, RosterError> {
        if !self.nodes().contains_key(name) {
            return Err(self.no_such(name));
        }
        self.admitted(self.authority().certify(name, request, self.list().version)?)
    }

    /// The former authority's certificates are refused from now on; `false` if there is no former one.
    pub fn finish_succession(&mut self) -> Result<bool, RosterError> {
        if !self.authority().is_new() {
            return Ok(false);
        }
        self.leave_former();
        self.list_authorities()?;
        settle(self.directory(), self.list())?;
        Ok(true)
    }

    fn list_authorities(&mut self) -> Result<(), RosterError> {
        self.change(|list, authority| {
            list.authorities = authority.trusted().into_iter().map(str::to_owned).collect();
            Ok(())
        })
    }

    fn is_listed(&self) -> bool {
        self.list().authorities == self.authority().trusted()
    }
}

/// The authority of a directory, with the one whose place it takes. What somebody has left half done is done.
pub(super) fn authority(directory: &Path, list: &List) -> Result<Authority, RosterError> {
    settle(directory, list)?;
    let authority = Authority::read(directory)?;
    match read(&directory.join(SUCCESSION))? {
        Some(succession) => Ok(authority.followed_by(&succession)?),
        None => Ok(authority),
    }
}

/// If the list names only the authority that is taking another one's place, that is over.
fn settle(directory: &Path, list: &List) -> Result<(), RosterError> {
    let path = directory.join(SUCCESSION);
    let Some(succession) = read(&path)?.filter(|it| list.authorities == [it.certificate.as_str()]) else {
        return Ok(());
    };
    write(&directory.join(AUTHORITY_CERTIFICATE), &succession.certificate, 0o644)?;
    write(&directory.join(AUTHORITY_KEY), &succession.key, 0o600)?;
    fs::remove_file(&path).map_err(|source| RosterError::Write { path, source })
}

fn read(path: &Path) -> Result<Option<Succession>, RosterError> {
    if !path.exists() {
        return Ok(None);
    }
    let text = keys::read_secret(path)?;
    let parsed = toml::from_str(&text);
    parsed.map(Some).map_err(|source| RosterError::Parse { path: path.to_owned(), source: Box::new(source) })
}

fn write_secret(path: &Path, succession: &Succession) -> Result<(), RosterError> {
    let failed = |error| RosterError::Write { path: path.to_owned(), source: io::Error::other(error) };
    write(path, &toml::to_string(succession).map_err(failed)?, 0o600)
}

/// Writes a file as a whole or not at all, with these rights from the beginning.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), RosterError> {
    let new = path.with_extension("new");
    let write = || -> io::Result<()> {
        // One that was left behind may have another mode.
        let _ = fs::remove_file(&new);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        sync_rename(&file, &new, path)
    };
    write().map_err(|source| {
        // Half a file is of use to nobody.
        let _ = fs::remove_file(&new);
        RosterError::Write { path: path.to_owned(), source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Credentials, NodeKey};
    use std::os::unix::fs::PermissionsExt;

    fn cluster(directory: &Path) -> Roster {
        let mut roster = Roster::create(directory).unwrap();
        roster.add("a", "10.0.0.1:1".parse().unwrap(), &[]).unwrap();
        roster.add("b", "10.0.0.2:1".parse().unwrap(), &[]).unwrap();
        roster
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn an_authority_takes_anothers_place_and_then_nothing_of_that_one_is_left() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path();
        let mut roster = cluster(directory);
        assert!(roster.standing().unwrap().is_none() && !roster.finish_succession().unwrap());
        let former = roster.authority().certificate().to_owned();
        assert!(roster.begin_succession().unwrap());
        assert!(!roster.begin_succession().unwrap(), "once is enough");
        assert_eq!(roster.standing().unwrap().unwrap().missing, names(&["a", "b"]));
        let mode = directory.join(SUCCESSION).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // Who joins has a certificate by the new one; the others are told to have.
        let key = NodeKey::create().unwrap();
        let request = key.request().unwrap();
        let admitted = roster.admit("c", "10.0.0.3:1".parse().unwrap(), &[], &request).unwrap();
        let keys = key.certified(admitted.authority, admitted.certificate);
        assert!(Credentials::new(&keys).unwrap().is_current());
        roster.note_renewed(names(&["a", "stranger"])).unwrap();
        let standing = roster.standing().unwrap().unwrap();
        assert_eq!((standing.renewed, standing.missing), (names(&["a", "c"]), names(&["b"])));
        let version = roster.list().version;
        roster.certify("b", &request).unwrap();
        assert_eq!(roster.list().version, version);
        assert!(roster.certify("d", &request).is_err());
        drop(roster);
        let mut roster = Roster::open(directory).unwrap();
        assert!(roster.authority().is_new() && roster.finish_succession().unwrap());
        assert!(!directory.join(SUCCESSION).exists() && roster.standing().unwrap().is_none());
        drop(roster);
        let roster = Roster::open(directory).unwrap();
        assert_ne!(roster.authority().certificate(), former);
        assert_eq!(roster.list().authorities, [roster.authority().certificate()]);
        for entry in fs::read_dir(directory).unwrap().filter_map(|entry| entry.ok()) {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            assert!(!text.contains(&former), "{entry:?}");
        }
    }

    #[test]
    fn what_was_ended_in_the_middle_is_done_by_whoever_comes_next() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path();
        let file = |name: &str| directory.join(name);
        let read = |name: &str| fs::read_to_string(file(name)).unwrap();
        let mut roster = cluster(directory);
        // There is another authority, and the list does not say so yet.
        let succession = roster.authority().successor().unwrap();
        write_secret(&file(SUCCESSION), &succession).unwrap();
        drop(roster);
        roster = Roster::open(directory).unwrap();
        assert!(roster.authority().is_new() && roster.list().authorities.is_empty());
        assert!(!roster.begin_succession().unwrap());
        assert_eq!(roster.list().authorities[0], succession.certificate);
        // The list says that it is over, and no file has been exchanged; or one of them.
        let [certificate, key, waiting] = [AUTHORITY_CERTIFICATE, AUTHORITY_KEY, SUCCESSION].map(read);
        roster.finish_succession().unwrap();
        drop(roster);
        let put = |name: &str, text: &str, mode| write(&file(name), text, mode).unwrap();
        for former_certificate in [true, false] {
            if former_certificate {
                put(AUTHORITY_CERTIFICATE, &certificate, 0o644);
            }
            put(AUTHORITY_KEY, &key, 0o600);
            put(SUCCESSION, &waiting, 0o600);
            let roster = Roster::open(directory).unwrap();
            assert!(!roster.authority().is_new());
            assert_eq!(roster.authority().certificate(), succession.certificate);
            assert_eq!((read(AUTHORITY_KEY), file(SUCCESSION).exists()), (succession.key.clone(), false));
        }
    }

    #[test]
    fn a_successor_that_others_may_read_or_that_is_none_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path();
        cluster(directory).begin_succession().unwrap();
        let path = directory.join(SUCCESSION);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let error = Roster::open(directory).unwrap_err();
        assert!(matches!(error, RosterError::Keys(crate::KeyError::Exposed { .. })), "{error}");
        for wrong in ["", "certificate = 1\n", "certificate = 'x'\nkey = 'x'\ncross = 'x'\nrenewed = []\n"] {
            write(&path, wrong, 0o600).unwrap();
            assert!(Roster::open(directory).is_err(), "{wrong}");
        }
    }
}
