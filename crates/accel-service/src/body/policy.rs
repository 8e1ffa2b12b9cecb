//! Policies, with XPU Manager's names.

use minka_accel::policy::{Action, Comparison, Kind, Policy};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::numbers;
use crate::problem::Problem;
use crate::state::Standing;

macro_rules! names {
    ($(#[doc = $text:literal])* $name:ident of $of:ty: $($variant:ident = $wire:literal => $value:path,)*) => {
        $(#[doc = $text])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $(#[doc = $wire] #[serde(rename = $wire)] $variant,)*
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .enum_values(Some([$($wire),*]))
                    .into()
            }
        }

        impl ToSchema for $name {}

        impl $name {
            fn meaning(self) -> $of {
                match self { $($name::$variant => $value,)* }
            }

            fn of(value: $of) -> Self {
                match value { $($value => $name::$variant,)* }
            }
        }
    };
}

names! {
    /// What a policy looks at.
    PolicyKind of Kind:
    GpuTemperature = "XPUM_POLICY_TYPE_GPU_TEMPERATURE" => Kind::GpuTemperature,
    GpuMemoryTemperature = "XPUM_POLICY_TYPE_GPU_MEMORY_TEMPERATURE" => Kind::GpuMemoryTemperature,
    GpuPower = "XPUM_POLICY_TYPE_GPU_POWER" => Kind::GpuPower,
    RasReset = "XPUM_POLICY_TYPE_RAS_ERROR_CAT_RESET" => Kind::RasReset,
    RasProgramming = "XPUM_POLICY_TYPE_RAS_ERROR_CAT_PROGRAMMING_ERRORS" => Kind::RasProgramming,
    RasDriver = "XPUM_POLICY_TYPE_RAS_ERROR_CAT_DRIVER_ERRORS" => Kind::RasDriver,
    RasCacheCorrectable = "XPUM_POLICY_TYPE_RAS_ERROR_CAT_CACHE_ERRORS_CORRECTABLE" => Kind::RasCacheCorrectable,
    RasCacheUncorrectable = "XPUM_POLICY_TYPE_RAS_ERROR_CAT_CACHE_ERRORS_UNCORRECTABLE" => Kind::RasCacheUncorrectable,
    GpuMissing = "XPUM_POLICY_TYPE_GPU_MISSING" => Kind::GpuMissing,
    GpuThrottle = "XPUM_POLICY_TYPE_GPU_THROTTLE" => Kind::GpuThrottle,
}

names! {
    /// How a value is compared.
    PolicyComparison of Comparison:
    Greater = "XPUM_POLICY_CONDITION_TYPE_GREATER" => Comparison::Greater,
    Less = "XPUM_POLICY_CONDITION_TYPE_LESS" => Comparison::Less,
    WhenOccur = "XPUM_POLICY_CONDITION_TYPE_WHEN_OCCUR" => Comparison::WhenOccur,
}

/// What is done while a policy is raised, besides telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum PolicyActionKind {
    /// Nothing else.
    #[serde(rename = "XPUM_POLICY_ACTION_TYPE_NULL")]
    Null,
    /// The clock is held in a range.
    #[serde(rename = "XPUM_POLICY_ACTION_TYPE_THROTTLE_DEVICE")]
    Throttle,
    /// The node takes no work that wants this device.
    #[serde(rename = "MINKA_POLICY_ACTION_TYPE_DRAIN")]
    Drain,
}

/// When a policy is raised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyCondition {
    #[serde(rename = "type")]
    kind: PolicyComparison,
    /// For greater and less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -1000, maximum = 1000000000000_i64)]
    threshold: Option<f64>,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyAction {
    #[serde(rename = "type")]
    kind: PolicyActionKind,
    /// In MHz, to throttle.
    #[serde(default, deserialize_with = "numbers::maybe", skip_serializing_if = "Option::is_none")]
    throttle_device_frequency_min: Option<u32>,
    /// In MHz, to throttle.
    #[serde(default, deserialize_with = "numbers::maybe", skip_serializing_if = "Option::is_none")]
    throttle_device_frequency_max: Option<u32>,
}

/// A policy to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPolicy {
    #[serde(rename = "type")]
    kind: PolicyKind,
    condition: PolicyCondition,
    action: PolicyAction,
    /// Told by a POST of JSON whenever the policy is raised and when it is clear again; `http://` or `https://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4096)]
    notify_callback_url: Option<String>,
}

/// Which policy.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WhichPolicy {
    /// Its type.
    #[serde(rename = "type")]
    pub(crate) kind: PolicyKind,
}

/// A policy of a device.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyBody {
    device_id: u32,
    #[serde(rename = "type")]
    kind: PolicyKind,
    condition: PolicyCondition,
    action: PolicyAction,
    /// Where it is told.
    notify_callback_url: Option<String>,
    /// The program that is told; only the command line can set one.
    command: Vec<String>,
    /// Since when it is raised; null while it is clear.
    raised_since: Option<String>,
    /// What was compared when it was raised.
    description: Option<String>,
}

/// The policies of a device.
#[derive(Debug, Serialize, ToSchema)]
pub struct DevicePolicies {
    /// The device.
    pub device_id: u32,
    /// Its policies.
    pub policy_list: Vec<PolicyBody>,
}

/// What became of a request.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyDone {
    /// 0: it was done.
    status: u32,
    message: String,
}

impl PolicyDone {
    /// It was done.
    pub fn done() -> Self {
        PolicyDone { status: 0, message: "success".to_owned() }
    }
}

impl PolicyBody {
    /// A policy as it is sent.
    pub fn of(device_id: u32, standing: &Standing) -> Self {
        let Policy { kind, condition, threshold, notify, command, action } = standing.policy.clone();
        let (action, range) = match action {
            Action::Notify => (PolicyActionKind::Null, None),
            Action::Throttle { least, greatest } => (PolicyActionKind::Throttle, Some((least, greatest))),
            Action::Drain => (PolicyActionKind::Drain, None),
        };
        PolicyBody {
            device_id,
            kind: PolicyKind::of(kind),
            condition: PolicyCondition { kind: PolicyComparison::of(condition), threshold },
            action: PolicyAction {
                kind: action,
                throttle_device_frequency_min: range.map(|(least, _)| least),
                throttle_device_frequency_max: range.map(|(_, greatest)| greatest),
            },
            notify_callback_url: notify,
            command,
            raised_since: standing.raised.as_ref().map(|raised| raised.since.clone()),
            description: standing.raised.as_ref().map(|raised| raised.description.clone()),
        }
    }
}

impl WhichPolicy {
    /// The kind that is meant.
    pub fn kind(&self) -> Kind {
        self.kind.meaning()
    }
}

impl NewPolicy {
    /// Whether it changes the device or its work, for which one has to be admin.
    pub fn acts(&self) -> bool {
        self.action.kind != PolicyActionKind::Null
    }

    /// The policy that is meant.
    pub fn policy(self) -> Result<Policy, Problem> {
        let range = self.action.throttle_device_frequency_min.zip(self.action.throttle_device_frequency_max);
        let action = match (self.action.kind, range) {
            (PolicyActionKind::Null, None) => Action::Notify,
            (PolicyActionKind::Drain, None) => Action::Drain,
            (PolicyActionKind::Throttle, Some((least, greatest))) => Action::Throttle { least, greatest },
            (PolicyActionKind::Throttle, None) => {
                return Err(Problem::contradiction("throttling takes a least and a greatest clock"));
            }
            (_, Some(_)) => return Err(Problem::contradiction("only throttling takes clocks")),
        };
        Ok(Policy {
            kind: self.kind.meaning(),
            condition: self.condition.kind.meaning(),
            threshold: self.condition.threshold,
            notify: self.notify_callback_url,
            command: Vec::new(),
            action,
        })
    }
}
