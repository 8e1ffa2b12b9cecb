//! A node gets a certificate by an authority that takes another one's place; and does not by anybody else.

use std::cell::RefCell;
use std::thread;

use minka_link::{
    AUTHORITY_NAME, Authority, ChannelError, Credentials, NodeKey, NodeKeys, answer_renewal, offer_renewal,
};

use crate::fixture::{credentials, listen};

type Certify<'a> = &'a (dyn Fn(&minka_link::NodeRequest) -> String + Sync);

/// What both ends make of it, and the keys that the node keeps.
fn renew(
    authority: &Credentials,
    node: &Credentials,
    certify: Certify<'_>,
) -> (Result<(), ChannelError>, Result<bool, ChannelError>, Option<NodeKeys>) {
    let tuning = minka_link::Tuning { handshake_ms: 20_000, ..Default::default() };
    let (listener, address) = listen();
    thread::scope(|scope| {
        let node = scope.spawn(|| {
            let stream = listener.accept().unwrap().0;
            let preamble = minka_link::read_preamble(&stream, &tuning).unwrap();
            let kept = RefCell::new(None);
            let keep = |keys: &NodeKeys| {
                let NodeKeys { authority, certificate, key } = keys;
                let keys = (authority.clone(), certificate.clone(), key.clone());
                let (authority, certificate, key) = keys;
                *kept.borrow_mut() = Some(NodeKeys { authority, certificate, key });
                Ok(())
            };
            let outcome = answer_renewal(node, stream, &preamble, &tuning, keep);
            (outcome, kept.into_inner())
        });
        let offered = offer_renewal(authority, address, "b", &tuning, |request| Ok(certify(request)));
        let (answered, kept) = node.join().unwrap();
        (offered, answered, kept)
    })
}

/// An authority that takes another one's place, and a node of the former one that trusts both.
fn succession() -> (Authority, Credentials, Credentials) {
    let former = Authority::create().unwrap();
    let old = former.issue("b").unwrap();
    let succession = former.successor().unwrap();
    let authority = former.followed_by(&succession).unwrap();
    let node = NodeKeys { authority: authority.trusted().concat(), ..old };
    let own = Credentials::new(&authority.own_keys(1).unwrap()).unwrap();
    (authority, own, Credentials::new(&node).unwrap())
}

#[test]
fn a_node_gets_a_certificate_once() {
    let (authority, own, node) = succession();
    let certify: Certify<'_> = &|request| authority.certify("b", request, 7).unwrap();
    let (offered, answered, kept) = renew(&own, &node, certify);
    assert!(offered.is_ok() && matches!(answered, Ok(true)), "{offered:?} {answered:?}");
    let new = Credentials::new(&kept.unwrap()).unwrap();
    assert!(!node.is_current() && new.is_current() && new.trusted() == node.trusted());
    let (offered, answered, kept) = renew(&own, &new, &|_| panic!("it has one"));
    assert!(offered.is_ok() && matches!(answered, Ok(false)) && kept.is_none());
}

#[test]
fn nobody_but_the_authority_brings_certificates() {
    let (authority, _, node) = succession();
    assert_eq!(AUTHORITY_NAME, "authority");
    let other = credentials(&authority, "a");
    let (offered, answered, kept) = renew(&other, &node, &|_| panic!("it is not asked for"));
    assert!(offered.is_err() && kept.is_none());
    assert!(matches!(answered, Err(ChannelError::Protocol(_))), "{answered:?}");
    // Nor one of another cluster.
    let stranger = Credentials::new(&Authority::create().unwrap().own_keys(1).unwrap()).unwrap();
    let (offered, answered, kept) = renew(&stranger, &node, &|_| panic!("it is not asked for"));
    assert!(offered.is_err() && answered.is_err() && kept.is_none());
}

#[test]
fn certificates_that_are_of_no_use_are_not_kept() {
    let (authority, own, node) = succession();
    let key = NodeKey::create().unwrap().request().unwrap();
    let lone = Authority::create().unwrap();
    let check = |what: &str, certify: Certify<'_>| {
        let (offered, answered, kept) = renew(&own, &node, certify);
        assert!(offered.is_err() && answered.is_err() && kept.is_none(), "{what}: {offered:?} {answered:?}");
    };
    check("none", &|_| String::new());
    check("garbage", &|_| "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned());
    check("long", &|_| "x".repeat(100_000));
    check("for another name", &|request| authority.certify("c", request, 7).unwrap());
    check("for another key", &|_| authority.certify("b", &key, 7).unwrap());
    check("by another authority", &|request| lone.certify("b", request, 7).unwrap());
}
