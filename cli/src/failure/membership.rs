//! What could not be done about a cluster's nodes, in people's own language. In English it reads as the error itself does.

use std::path::Path;

use minka_enroll::client::EnrollError;
use minka_enroll::token::TokenError;
use minka_link::roster::RosterError;

use super::Failure;
use crate::text::Text;

/// What was to be done, and why not if that is said with it; nothing if the failure is another one.
pub(super) fn operation(failure: &Failure, text: &Text) -> Option<String> {
    let shown = |path: &Path| path.display().to_string();
    let (id, variables): (&str, Vec<(&str, String)>) = match failure {
        Failure::NoToken => ("cannot-join-without-token", vec![]),
        Failure::NoService => ("cannot-find-service", vec![]),
        Failure::JoinToken(TokenError::Malformed) => ("cannot-understand-token", vec![]),
        Failure::NotRenewed { .. } => ("cannot-renew-all", vec![]),
        Failure::NotEmpty { away, guests } => {
            ("cannot-empty", vec![("away", away.to_string()), ("guests", guests.to_string())])
        }
        Failure::OtherNode { path } => ("cannot-be-two-nodes", vec![("path", shown(path))]),
        Failure::ReservedName { name } => ("cannot-have-name", vec![("name", name.clone())]),
        Failure::Roster(RosterError::Exists { directory }) => {
            ("cannot-make-cluster", vec![("directory", shown(directory))])
        }
        Failure::Roster(RosterError::NoSuchNode { name, path }) => {
            ("cannot-find-node", vec![("name", name.clone()), ("path", shown(path))])
        }
        Failure::Enroll(EnrollError::Reach { address, .. }) => {
            ("cannot-reach-authority", vec![("address", address.to_string())])
        }
        Failure::Enroll(EnrollError::Speak { address, .. }) => {
            ("cannot-speak-to-authority", vec![("address", address.to_string())])
        }
        Failure::Enroll(EnrollError::Refused { what, .. }) => {
            let what = match *what {
                "join" => "cannot-join",
                "leave the cluster" => "cannot-leave",
                _ => "cannot-renew",
            };
            (what, vec![])
        }
        _ => return None,
    };
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.clone().into())).collect();
    Some(text.with(id, &variables))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Language;

    #[test]
    fn in_english_failures_read_as_their_errors_do_and_otherwise_differently() {
        let [english, spanish] = [Language::English, Language::Spanish].map(Text::new);
        let failures = [
            Failure::NoToken,
            Failure::NoService,
            Failure::JoinToken(TokenError::Malformed),
            Failure::NotRenewed { nodes: Vec::new() },
            Failure::NotEmpty { away: 2, guests: 1 },
            Failure::OtherNode { path: "/x".into() },
            Failure::ReservedName { name: "home".to_owned() },
            Failure::Roster(RosterError::Exists { directory: "d".into() }),
            Failure::Roster(RosterError::NoSuchNode { name: "a".to_owned(), path: "d".into() }),
        ];
        for failure in failures {
            assert_eq!(operation(&failure, &english).unwrap(), failure.to_string());
            assert_ne!(operation(&failure, &spanish).unwrap(), failure.to_string());
        }
    }
}
