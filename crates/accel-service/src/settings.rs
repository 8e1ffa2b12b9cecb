//! Changing devices, in a way that can be undone: what was there first is written down before anything is changed.

use std::sync::Arc;

use minka_accel::config::{Change, ConfigError, Content, Current, Desk, Write};
use minka_accel::{Identity, Root, process};

use crate::state::{StateError, Store};

/// Why a device was not changed.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The device does not take it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Programs would lose their work.
    #[error("reset the device: {0} uses it, and others may")]
    InUse(String),
    /// What was there before cannot be written down.
    #[error(transparent)]
    State(#[from] StateError),
}

/// How a device is set, and what somebody changed about it.
pub fn current(store: &Store, root: &Root, identity: &Arc<Identity>) -> Result<Current, StateError> {
    let state = store.read()?;
    Ok(Desk::of(root, identity, state.remembered(&identity.key(), &Desk::boot(root))).current())
}

/// Changes a device, on one tile or on all; tells what its files hold then.
pub fn change(
    store: &Store,
    root: &Root,
    identity: &Arc<Identity>,
    change: &Change,
    tile: Option<u32>,
) -> Result<Vec<Content>, SettingsError> {
    let (key, boot) = (identity.key(), Desk::boot(root));
    let state = store.read()?;
    let desk = Desk::of(root, identity, state.remembered(&key, &boot));
    let plan = desk.plan(change, tile)?;
    let before: Vec<Content> = plan.iter().filter_map(Write::before).collect();
    store.change(|state| state.remember(&key, &boot, before))?;
    Ok(desk.apply(&plan)?)
}

/// Puts back everything that was changed about a device since the machine was started; tells what that was.
pub fn restore(store: &Store, root: &Root, identity: &Arc<Identity>) -> Result<Vec<Content>, SettingsError> {
    let (key, boot) = (identity.key(), Desk::boot(root));
    let before = store.read()?.remembered(&key, &boot).to_vec();
    Desk::of(root, identity, &before).put_back(&before)?;
    store.change(|state| {
        state.forget(&key);
        Ok(())
    })?;
    Ok(before)
}

/// Has the driver forget the errors that it has counted or recorded.
pub fn clear_errors(root: &Root, identity: &Arc<Identity>) -> Result<Vec<Content>, SettingsError> {
    let file = Desk::of(root, identity, &[]).clear_errors()?;
    Ok(vec![Content { file: file.to_owned(), value: "0".to_owned() }])
}

/// Resets a device; unless forced, only while no program is seen that uses it.
pub fn reset(store: &Store, root: &Root, identity: &Arc<Identity>, force: bool) -> Result<(), SettingsError> {
    let address = identity.pci.as_ref().map(|pci| pci.address.as_str());
    let (processes, _) = if force { Default::default() } else { process::list(root) };
    if let Some(user) = processes.iter().find(|process| Some(process.pci_address.as_str()) == address) {
        return Err(SettingsError::InUse(format!("process {} ({})", user.process_id, user.process_name)));
    }
    Desk::of(root, identity, &[]).reset()?;
    // The driver has begun anew, with nothing set.
    store.change(|state| {
        state.forget(&identity.key());
        Ok(())
    })?;
    Ok(())
}
