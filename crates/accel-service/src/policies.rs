//! Giving devices policies and taking them away. Whatever a policy has changed is put back with it.

use std::sync::Arc;

use minka_accel::config::Desk;
use minka_accel::policy::{Kind, Policy};
use minka_accel::{Identity, Root};

use crate::http::Url;
use crate::settings::SettingsError;
use crate::state::{Standing, StateError, Store};

/// Gives a device a policy, in place of the one of the same kind.
pub fn set(
    store: &Store,
    root: &Root,
    identity: &Arc<Identity>,
    policy: Policy,
) -> Result<(), SettingsError> {
    if let Some(url) = policy.notify.as_deref().filter(|url| Url::parse(url).is_none()) {
        return Err(StateError::Address(url.to_owned()).into());
    }
    policy.check().map_err(StateError::from)?;
    let key = identity.key();
    if let Some(standing) = store.read()?.policy(&key, policy.kind) {
        put_back(root, identity, standing)?;
    }
    Ok(store.change(|state| state.set_policy(&key, policy)).map(|_| ())?)
}

/// Takes a device's policy of a kind away.
pub fn end(store: &Store, root: &Root, identity: &Arc<Identity>, kind: Kind) -> Result<(), SettingsError> {
    let key = identity.key();
    if let Some(standing) = store.read()?.policy(&key, kind) {
        put_back(root, identity, standing)?;
    }
    Ok(store.change(|state| state.end_policy(&key, kind)).map(|_| ())?)
}

/// Puts back what a policy that is raised has changed since the machine was started.
pub(crate) fn put_back(
    root: &Root,
    identity: &Arc<Identity>,
    standing: &Standing,
) -> Result<(), SettingsError> {
    match &standing.raised {
        Some(raised) if raised.boot == Desk::boot(root) => {
            Ok(Desk::of(root, identity, &[]).put_back(&raised.before)?)
        }
        _ => Ok(()),
    }
}
