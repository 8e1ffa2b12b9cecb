//! Diagnostics of devices and groups.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use minka_accel::Station;
use minka_accel::compute::Bench;
use minka_accel::diagnostics::{self, Clinic, Component, Outcome, Patient, Watch};
use minka_accel::station::Report;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{beside, find_group, members};
use crate::contract::report;
use crate::guard::Operator;
use crate::numbers;
use crate::problem::{Body, Id, Problem};
use crate::server::App;
use minka_access::time;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/rest/v1/devices/{id}/diagnostics", post(diagnose).get(diagnosis))
        .route("/rest/v1/groups/{id}/diagnostics", post(diagnose_group).get(group_diagnosis))
}

/// Whoever begins diagnostics waits so long for their end; those that compute take longer, and are asked for later.
const PATIENCE: Duration = Duration::from_secs(10);

/// How thorough diagnostics are.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Level {
    /// From 1 to 3.
    #[serde(deserialize_with = "numbers::one")]
    #[schema(minimum = 1, maximum = 3)]
    level: u8,
}

/// A test and how it came out.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DiagnosticComponent {
    component_type: String,
    finished: bool,
    /// `Pass`, `Fail`, or `Unknown` for what was not done.
    result: String,
    /// What was found, or what the test lacks.
    message: String,
    /// What was measured, by tests that compute.
    figures: Vec<DiagnosticFigure>,
}

/// Something that was measured.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DiagnosticFigure {
    name: String,
    value: f64,
    unit: String,
    /// What such a device should reach: nobody says.
    reference: Option<f64>,
}

/// Diagnostics of a device.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Diagnosis {
    device_id: u32,
    level: u8,
    finished: bool,
    /// `Pass`, `Fail`, or `Unknown` if a test was not done.
    result: String,
    message: String,
    component_count: usize,
    start_time: String,
    end_time: String,
    component_list: Vec<DiagnosticComponent>,
}

/// Diagnostics of a group.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupDiagnosis {
    group_id: u32,
    device_count: usize,
    finished: bool,
    device_list: Vec<Diagnosis>,
}

fn word(outcome: Outcome) -> String {
    match outcome {
        Outcome::Unknown => "Unknown",
        Outcome::Pass => "Pass",
        Outcome::Fail => "Fail",
    }
    .to_owned()
}

impl Diagnosis {
    /// One that has begun.
    fn begun(device_id: u32, level: u8) -> Self {
        let now = time::text(SystemTime::now());
        Diagnosis {
            device_id,
            level,
            finished: false,
            result: word(Outcome::Unknown),
            message: "it goes on".to_owned(),
            component_count: 0,
            start_time: now.clone(),
            end_time: now,
            component_list: Vec::new(),
        }
    }

    /// Examines a device of a level from 1 to 3.
    pub fn make(station: &Station, report: &Report, level: u8, watch: Watch<'_>) -> Self {
        Diagnosis::make_of(station, report, level, &diagnostics::of_level(level), watch)
    }

    /// Examines a device by some tests; takes as long as they do.
    pub fn make_of(
        station: &Station,
        report: &Report,
        level: u8,
        tests: &[&'static str],
        watch: Watch<'_>,
    ) -> Self {
        let device_id = report.sample.identity.device_id;
        let start_time = time::text(SystemTime::now());
        let variable = |name: &str| std::env::var(name).ok();
        let root = station.root();
        let watts = || station.report(device_id)?.sample.power();
        let bench = Bench::default();
        let clinic = root.is_machine().then_some(Clinic { bench: &bench, watts: &watts });
        let patient = Patient { root, sample: &report.sample, health: &report.health, variable, clinic };
        let components = diagnostics::run(&patient, tests, watch);
        let of = |outcome| components.iter().filter(|component| component.result == outcome).count();
        let (failed, left) = (of(Outcome::Fail), of(Outcome::Unknown));
        let message = format!("{} passed, {failed} failed, {left} not done", of(Outcome::Pass));
        Diagnosis {
            device_id,
            level,
            finished: true,
            result: word(diagnostics::verdict(&components)),
            message,
            component_count: components.len(),
            start_time,
            end_time: time::text(SystemTime::now()),
            component_list: components.into_iter().map(DiagnosticComponent::of).collect(),
        }
    }

    /// Whether a test failed.
    pub fn failed(&self) -> bool {
        self.result == "Fail"
    }

    /// Name, result and message of each test.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        let components = self.component_list.iter();
        components.map(|one| (one.component_type.as_str(), one.result.as_str(), one.message.as_str()))
    }
}

impl DiagnosticComponent {
    fn of(component: Component) -> Self {
        DiagnosticComponent {
            component_type: component.name.to_owned(),
            finished: true,
            result: word(component.result),
            message: component.message,
            figures: component.figures.into_iter().map(DiagnosticFigure::of).collect(),
        }
    }
}

impl DiagnosticFigure {
    fn of(figure: minka_accel::compute::Figure) -> Self {
        DiagnosticFigure { name: figure.name, value: figure.value, unit: figure.unit, reference: None }
    }
}

/// Takes away what has begun and never came to its end.
struct Examined {
    app: Arc<App>,
    devices: Vec<u32>,
}

impl Drop for Examined {
    fn drop(&mut self) {
        let mut known = self.app.diagnoses.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|id, diagnosis| diagnosis.finished || !self.devices.contains(id));
    }
}

async fn examine(app: &Arc<App>, devices: Vec<u32>, level: u8) -> Result<(), Problem> {
    if !(1..=3).contains(&level) {
        return Err(Problem::unprocessable("a level is from 1 to 3"));
    }
    let reports = devices.iter().map(|id| report(app, *id)).collect::<Result<Vec<_>, _>>()?;
    {
        let mut known = app.diagnoses.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = devices.iter().find(|id| known.get(id).is_some_and(|diagnosis| !diagnosis.finished));
        if let Some(id) = busy {
            let text = format!("device {id} is being examined already");
            return Err(Problem::new(StatusCode::CONFLICT, text));
        }
        known.extend(devices.iter().map(|id| (*id, Diagnosis::begun(*id, level))));
    }
    let examined = Examined { app: Arc::clone(app), devices };
    let work = beside(move || {
        let app = &examined.app;
        for report in reports {
            let diagnosis = Diagnosis::make(&app.station, &report, level, &mut |_, _| true);
            let mut known = app.diagnoses.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(report.sample.identity.device_id, diagnosis);
        }
        Ok::<_, Problem>(())
    });
    // What takes longer goes on by itself.
    tokio::time::timeout(PATIENCE, work).await.unwrap_or(Ok(()))
}

fn known(app: &App, id: u32) -> Option<Diagnosis> {
    app.diagnoses.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
}

/// Examines a device.
#[utoipa::path(
    post, path = "/rest/v1/devices/{id}/diagnostics", tag = "diagnostics", security(("token" = []), ("basic" = [])),
    params(Id), request_body = Level, responses((status = 201, body = Level))
)]
pub(crate) async fn diagnose(
    _: Operator,
    State(app): State<Arc<App>>,
    Id(id): Id,
    Body(level): Body<Level>,
) -> Result<(StatusCode, Json<Level>), Problem> {
    report(&app, id)?;
    examine(&app, vec![id], level.level).await?;
    Ok((StatusCode::CREATED, Json(level)))
}

/// What the last examination of a device found.
#[utoipa::path(
    get, path = "/rest/v1/devices/{id}/diagnostics", tag = "diagnostics", params(Id),
    responses((status = 200, body = Diagnosis))
)]
pub(crate) async fn diagnosis(State(app): State<Arc<App>>, Id(id): Id) -> Result<Json<Diagnosis>, Problem> {
    report(&app, id)?;
    let missing = || Problem::new(StatusCode::NOT_FOUND, format!("device {id} was not examined yet"));
    known(&app, id).map(Json).ok_or_else(missing)
}

/// Examines the devices of a group.
#[utoipa::path(
    post, path = "/rest/v1/groups/{id}/diagnostics", tag = "diagnostics", security(("token" = []), ("basic" = [])),
    params(Id), request_body = Level, responses((status = 201, body = Level))
)]
pub(crate) async fn diagnose_group(
    _: Operator,
    State(app): State<Arc<App>>,
    Id(id): Id,
    Body(level): Body<Level>,
) -> Result<(StatusCode, Json<Level>), Problem> {
    let devices = members(&app, &find_group(&app, id)?);
    examine(&app, devices, level.level).await?;
    Ok((StatusCode::CREATED, Json(level)))
}

/// What the last examinations of a group's devices found.
#[utoipa::path(
    get, path = "/rest/v1/groups/{id}/diagnostics", tag = "diagnostics", params(Id),
    responses((status = 200, body = GroupDiagnosis))
)]
pub(crate) async fn group_diagnosis(
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<Json<GroupDiagnosis>, Problem> {
    let devices = members(&app, &find_group(&app, id)?);
    let device_list: Vec<Diagnosis> = devices.iter().filter_map(|device| known(&app, *device)).collect();
    Ok(Json(GroupDiagnosis {
        group_id: id,
        device_count: devices.len(),
        finished: device_list.len() == devices.len() && device_list.iter().all(|one| one.finished),
        device_list,
    }))
}
