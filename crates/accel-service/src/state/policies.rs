//! Policies, and what those that are raised have changed.

use minka_accel::config::Content;
use minka_accel::policy::{Action, Kind, Policy};
use serde::{Deserialize, Serialize};

use super::{State, StateError};

/// More policies are refused: ten kinds for each of many devices.
const POLICIES_MAX: usize = 1024;

/// A policy of a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// The device, by [`minka_accel::Identity::key`].
    pub device: String,
    /// The policy.
    pub policy: Policy,
    /// Since when it is raised, and what that has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raised: Option<Raised>,
}

/// A policy that is raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raised {
    /// Since when.
    pub since: String,
    /// In words: what was compared.
    pub description: String,
    /// The start of the machine in which it was raised: the next one forgets what was set.
    #[serde(default)]
    pub boot: String,
    /// What is to be put back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Content>,
}

/// Whether a file that anybody may have written holds what is made here.
pub(super) fn check(all: &[Standing]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if all.len() > POLICIES_MAX {
        return Err(Box::new(StateError::TooManyPolicies));
    }
    for (number, standing) in all.iter().enumerate() {
        standing.policy.check().map_err(|error| format!("failed to {error}"))?;
        let before = standing.raised.iter().flat_map(|raised| &raised.before);
        super::remembered::check_files(before)?;
        if all[..number].iter().any(|other| other.is(&standing.device, standing.policy.kind)) {
            return Err(
                format!("{} has two policies of type {}", standing.device, standing.policy.kind).into()
            );
        }
    }
    Ok(())
}

impl Standing {
    fn is(&self, device: &str, kind: Kind) -> bool {
        self.device == device && self.policy.kind == kind
    }
}

impl State {
    /// All policies.
    pub fn policies(&self) -> &[Standing] {
        &self.policies
    }

    /// A device's policy of a kind.
    pub fn policy(&self, device: &str, kind: Kind) -> Option<&Standing> {
        self.policies.iter().find(|standing| standing.is(device, kind))
    }

    /// Gives a device a policy, in place of the one of the same kind.
    pub fn set_policy(&mut self, device: &str, policy: Policy) -> Result<(), StateError> {
        policy.check()?;
        self.policies.retain(|standing| !standing.is(device, policy.kind));
        if self.policies.len() == POLICIES_MAX {
            return Err(StateError::TooManyPolicies);
        }
        self.policies.push(Standing { device: device.to_owned(), policy, raised: None });
        Ok(())
    }

    /// Takes a device's policy of a kind away.
    pub fn end_policy(&mut self, device: &str, kind: Kind) -> Result<(), StateError> {
        self.policy(device, kind).ok_or(StateError::NoSuchPolicy(kind))?;
        self.policies.retain(|standing| !standing.is(device, kind));
        Ok(())
    }

    /// Says that a policy is raised, or clear again; `false` when it is another one by now.
    pub fn turn_policy(&mut self, device: &str, policy: &Policy, raised: Option<Raised>) -> bool {
        let found = self.policies.iter_mut().find(|it| it.device == device && it.policy == *policy);
        found.is_some_and(|standing| {
            standing.raised = raised;
            true
        })
    }

    /// Devices that are to get no work, and why: the node's scheduling asks for this.
    pub fn drained(&self) -> impl Iterator<Item = (&str, &str)> {
        let drains = self.policies.iter().filter(|standing| standing.policy.action == Action::Drain);
        drains.filter_map(|standing| {
            Some((standing.device.as_str(), standing.raised.as_ref()?.description.as_str()))
        })
    }
}
