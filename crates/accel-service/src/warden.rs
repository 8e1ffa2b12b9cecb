//! Who looks after policies: judges each by the device's last sample, acts, and tells.
//!
//! ```text
//!   every interval ──► each policy: watch ──► raised: act, write down what was before ──► tell
//!                                        └──► clear:  put back, write that down       ──► tell
//!                                                                                          │ bounded queue
//!                                                       webhook (three attempts), command ◄┘ a thread of its own
//! ```
//!
//! What is raised is in the file of the state, so that the next service goes on where this one ended, and what was
//! changed is put back whoever finds that it is over.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use minka_accel::config::{Change, Content, Desk, Write};
use minka_accel::policy::{Action, Kind, Policy, Turn, Verdict, Watch};
use minka_accel::{Identity, Moment, Station};
use minka_access::time;
use serde::Serialize;

use crate::http::Url;
use crate::problem::words;
use crate::settings::SettingsError;
use crate::state::{Keeper, Raised, Standing, Store};
use crate::{child, policies};

/// More messages are not kept; a policy that turns so often is not told each time.
const MESSAGES_MAX: usize = 256;

/// A webhook is tried so often, with pauses between that grow.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);

/// A command may take so long.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(60);

/// What is told of a policy that was raised or is clear again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Message {
    /// When.
    pub timestamp: String,
    /// The device's number; null when it is not there.
    pub device_id: Option<u32>,
    /// The device, by what tells it from others on its machine.
    pub device: String,
    /// What the policy looks at.
    pub policy_type: Kind,
    /// `raised` or `cleared`.
    pub state: Turn,
    /// The value that was looked at.
    pub value: Option<f64>,
    /// The policy's threshold.
    pub threshold: Option<f64>,
    /// In words: what was compared.
    pub description: String,
    /// Why the policy's action could not be taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// The watches, and the way to the thread that tells.
#[derive(Debug)]
pub struct Warden {
    watches: Mutex<BTreeMap<(String, Kind), Post>>,
    started: Instant,
    teller: SyncSender<(Policy, Message)>,
}

/// A policy that is watched.
#[derive(Debug)]
struct Post {
    policy: Policy,
    watch: Watch,
    /// What it found last is in the file of the state.
    written: bool,
}

impl Post {
    fn new(standing: &Standing) -> Self {
        let watch = Watch::new(standing.raised.is_some());
        Post { policy: standing.policy.clone(), watch, written: true }
    }

    /// Whether it is still this policy that is watched: somebody may have set it anew.
    fn is(&self, standing: &Standing) -> bool {
        let agreed = self.watch.is_raised() == standing.raised.is_some();
        self.policy == standing.policy && (agreed || !self.written)
    }
}

impl Warden {
    /// A warden, with the thread that tells.
    pub fn start() -> std::io::Result<Self> {
        let (teller, messages) = sync_channel(MESSAGES_MAX);
        std::thread::Builder::new().name("xpu-teller".to_owned()).spawn(move || tell_all(&messages))?;
        Ok(Warden { watches: Mutex::default(), started: Instant::now(), teller })
    }

    /// Judges all policies once.
    pub fn round(&self, station: &Station, keeper: &Keeper) {
        let state = keeper.state();
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        if state.policies().is_empty() {
            watches.clear();
            return;
        }
        let identities = station.identities();
        let now = Moment(self.started.elapsed().as_secs_f64());
        watches.retain(|(device, kind), post| {
            state.policy(device, *kind).is_some_and(|standing| post.is(standing))
        });
        for standing in state.policies() {
            let identity = identities.iter().find(|identity| identity.key() == standing.device);
            let report = identity.and_then(|identity| station.report(identity.device_id));
            if identity.is_some() && report.is_none() {
                // It has just come and was not sampled yet.
                continue;
            }
            let key = (standing.device.clone(), standing.policy.kind);
            let post = watches.entry(key).or_insert_with(|| Post::new(standing));
            let verdict =
                post.watch.step(&standing.policy, report.as_ref().map(|report| &*report.sample), now);
            let Some(turn) = verdict.turn else { continue };
            let acted = act(station, keeper.store(), identity, standing, turn, &verdict);
            post.written = !matches!(acted, Err(SettingsError::State(_)));
            if let (Some(identity), Action::Throttle { .. }) = (identity, standing.policy.action) {
                station.look_again(identity.device_id);
            }
            self.tell(standing, identity, turn, verdict, acted.err().map(|error| words(&error)));
        }
    }

    fn tell(
        &self,
        standing: &Standing,
        identity: Option<&Arc<Identity>>,
        state: Turn,
        verdict: Verdict,
        failure: Option<String>,
    ) {
        let policy = &standing.policy;
        let message = Message {
            timestamp: time::text(SystemTime::now()),
            device_id: identity.map(|identity| identity.device_id),
            device: standing.device.clone(),
            policy_type: policy.kind,
            state,
            value: verdict.value,
            threshold: policy.threshold,
            description: verdict.description,
            failure,
        };
        let (device, kind, failure) = (&message.device, message.policy_type, &message.failure);
        tracing::warn!(device, %kind, state = ?message.state, description = message.description, ?failure, "policy");
        if self.teller.try_send((policy.clone(), message)).is_err() {
            tracing::error!("too many messages wait to be told: one is left out");
        }
    }
}

/// Does what a policy wants when it is raised, or undoes it; in both cases it is written down.
fn act(
    station: &Station,
    store: &Store,
    identity: Option<&Arc<Identity>>,
    standing: &Standing,
    turn: Turn,
    verdict: &Verdict,
) -> Result<(), SettingsError> {
    let (root, policy) = (station.root(), &standing.policy);
    if turn == Turn::Cleared {
        let put_back = identity.map_or(Ok(()), |identity| policies::put_back(root, identity, standing));
        store.change(|state| Ok(state.turn_policy(&standing.device, policy, None)))?;
        return put_back;
    }
    let plan = match (policy.action, identity) {
        (Action::Throttle { least, greatest }, Some(identity)) => {
            Desk::of(root, identity, &[]).plan(&Change::FrequencyRange { least, greatest }, None)
        }
        _ => Ok(Vec::new()),
    };
    let before: Vec<Content> = plan.iter().flatten().filter_map(Write::before).collect();
    let raised = Raised {
        since: time::text(SystemTime::now()),
        description: verdict.description.clone(),
        boot: Desk::boot(root),
        before,
    };
    let (ours, _) =
        store.change(|state| Ok(state.turn_policy(&standing.device, policy, Some(raised.clone()))))?;
    let plan = plan?;
    if let (true, Some(identity)) = (ours, identity) {
        Desk::of(root, identity, &[]).apply(&plan)?;
    }
    Ok(())
}

/// Tells until nobody has anything to tell any more.
fn tell_all(messages: &Receiver<(Policy, Message)>) {
    for (policy, message) in messages {
        let Ok(body) = serde_json::to_vec(&message) else { continue };
        if let Some(url) = policy.notify.as_deref().and_then(Url::parse) {
            post(&url, &body);
        }
        if let Some((program, arguments)) = policy.command.split_first() {
            let mut command = Command::new(program);
            command.args(arguments).env("MINKA_XPU_DEVICE", &message.device);
            command.env("MINKA_XPU_POLICY", policy.kind.name());
            command.env("MINKA_XPU_STATE", if message.state == Turn::Raised { "raised" } else { "cleared" });
            match child::run(command, &body, COMMAND_TIME_MAX) {
                Ok(ended) if ended.status.success() => {}
                Ok(ended) => tracing::warn!(program, status = %ended.status, "a policy's command failed"),
                Err(error) => tracing::warn!(program, error, "a policy's command failed"),
            }
        }
    }
}

fn post(url: &Url, body: &[u8]) {
    for attempt in 1..=ATTEMPTS {
        match url.post(body) {
            Ok(()) => return,
            Err(error) => tracing::warn!(%url, error, attempt, "a policy could not be told"),
        }
        if attempt < ATTEMPTS {
            std::thread::sleep(PAUSE * attempt);
        }
    }
}
