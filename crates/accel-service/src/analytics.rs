//! The analytics pair: what a Python with PyTorch sees, beside what the devices tell.
//!
//! Python is a child with little around it: it has a time limit, its output is bounded, and its answer is kept for
//! a minute. The devices are those of this machine, or of the service at `XPU_MANAGER_URL`, so that the machine
//! that computes need not be the one that shows.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::http::StatusCode;
use minka_access::time;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::body::{HealthBody, Metrics};
use crate::http::Url;
use crate::problem::Problem;
use crate::server::{App, ServeError};
use crate::{child, contract};

/// How long Python may take: the first import of PyTorch is slow on a cold disk.
const PYTHON_TIME_MAX: Duration = Duration::from_secs(30);

/// How long its answer is believed.
const PYTHON_ANSWER_AGE_MAX: Duration = Duration::from_secs(60);

/// How many of another service's devices are asked.
const MANAGER_DEVICES_MAX: usize = 256;

/// What is asked of Python.
const QUESTION: &str = r#"
import json
answer = {"available": False, "device": None, "count": 0, "names": [], "intel_extension": False, "reason": None}
try:
    import torch
    try:
        import intel_extension_for_pytorch
        answer["intel_extension"] = True
    except Exception:
        pass
    for kind in ("xpu", "cuda"):
        module = getattr(torch, kind, None)
        if module is not None and module.is_available():
            count = module.device_count()
            answer.update(available=True, device=kind + ":0", count=count,
                          names=[module.get_device_name(i) for i in range(count)])
            break
    else:
        answer["reason"] = "PyTorch sees no GPU"
except Exception as error:
    answer["reason"] = type(error).__name__ + ": " + str(error)
print(json.dumps(answer))
"#;

/// What PyTorch sees.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct PytorchGpu {
    /// Whether it sees a GPU.
    pub available: bool,
    /// `xpu:0` or `cuda:0`.
    pub device: Option<String>,
    /// How many.
    pub count: u32,
    /// Their names.
    pub names: Vec<String>,
    /// Whether Intel's extension is there.
    pub intel_extension: bool,
    /// Why it sees none.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A device as the analytics have it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ManagedGpu {
    /// Its number.
    pub device_id: u32,
    /// Its name.
    pub device_name: String,
    /// How it is.
    #[schema(value_type = Object)]
    pub health: Value,
    /// What it does.
    #[schema(value_type = Object)]
    pub metrics: Value,
}

/// What the devices tell.
#[derive(Debug, Serialize, ToSchema)]
pub struct Manager {
    /// Whether the service that watches the devices answers.
    pub available: bool,
    /// The devices.
    pub gpus: Vec<ManagedGpu>,
    /// The other service that was asked, if it was another.
    pub xpu_manager_url: Option<String>,
    /// Why it does not answer.
    pub reason: Option<String>,
}

/// What Python and the devices say of GPUs.
#[derive(Debug, Serialize, ToSchema)]
pub struct GpuStatus {
    /// What PyTorch sees.
    pub pytorch_gpu: PytorchGpu,
    /// What the devices tell.
    pub xpu_manager: Manager,
    /// When, in UTC.
    pub timestamp: String,
}

/// Health and metrics of a device together.
#[derive(Debug, Serialize, ToSchema)]
pub struct GpuMetrics {
    /// The device.
    pub device_id: u32,
    /// How it is.
    #[schema(value_type = Object)]
    pub health: Value,
    /// What it does.
    #[schema(value_type = Object)]
    pub metrics: Value,
    /// When, in UTC.
    pub timestamp: String,
}

/// Who asks Python and other services.
#[derive(Debug)]
pub struct Analyst {
    python: PathBuf,
    manager: Option<Url>,
    answer: Arc<Mutex<Option<(Instant, PytorchGpu)>>>,
    turn: tokio::sync::Mutex<()>,
}

impl Analyst {
    /// Who asks this Python, and this service if one is named, with the token that is in a file.
    pub fn new(
        python: PathBuf,
        manager_url: Option<&str>,
        manager_token: Option<&Path>,
    ) -> Result<Self, ServeError> {
        let manager = match manager_url {
            Some(text) => {
                let url = Url::parse(text).ok_or_else(|| ServeError::ManagerUrl(text.to_owned()))?;
                Some(match manager_token {
                    Some(file) => url.with_token_of(file).map_err(ServeError::ManagerToken)?,
                    None => url,
                })
            }
            None => None,
        };
        Ok(Analyst { python, manager, answer: Arc::default(), turn: tokio::sync::Mutex::new(()) })
    }

    async fn pytorch(&self) -> PytorchGpu {
        let _turn = self.turn.lock().await;
        let kept = self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, answer)) = kept.filter(|(when, _)| when.elapsed() < PYTHON_ANSWER_AGE_MAX) {
            return answer;
        }
        let python = self.python.clone();
        let asked = tokio::task::spawn_blocking(move || ask_python(&python)).await;
        let nothing = |reason: String| PytorchGpu { reason: Some(reason), ..PytorchGpu::default() };
        let answer = match asked {
            Ok(Ok(answer)) => answer,
            Ok(Err(reason)) => nothing(reason),
            Err(error) => nothing(error.to_string()),
        };
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), answer.clone()));
        answer
    }
}

fn ask_python(python: &PathBuf) -> Result<PytorchGpu, String> {
    let kept = ["PATH", "HOME", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH"];
    let environment = kept.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut command = Command::new(python);
    command.args(["-c", QUESTION]).env_clear().envs(environment);
    let ended = child::run(command, &[], PYTHON_TIME_MAX)?;
    let line = ended.output.lines().next_back().unwrap_or_default();
    serde_json::from_str(line).map_err(|_| format!("Python gave no answer ({})", ended.status))
}

/// What Python and the devices say.
pub async fn status(app: &Arc<App>) -> GpuStatus {
    let (pytorch_gpu, xpu_manager) = tokio::join!(app.analyst.pytorch(), manager(app));
    GpuStatus { pytorch_gpu, xpu_manager, timestamp: time::text(SystemTime::now()) }
}

async fn manager(app: &Arc<App>) -> Manager {
    let Some(url) = app.analyst.manager.clone() else {
        let reports = app.station.reports();
        let gpus = reports.iter().map(|report| ManagedGpu {
            device_id: report.sample.identity.device_id,
            device_name: report.sample.identity.device_name.clone(),
            health: value(&HealthBody::of(report)),
            metrics: value(&Metrics::of(&report.sample)),
        });
        return Manager { available: true, gpus: gpus.collect(), xpu_manager_url: None, reason: None };
    };
    let text = url.to_string();
    let asked = tokio::task::spawn_blocking(move || ask_manager(&url)).await;
    match asked.map_err(|error| error.to_string()).and_then(|asked| asked) {
        Ok(gpus) => Manager { available: true, gpus, xpu_manager_url: Some(text), reason: None },
        Err(reason) => {
            Manager { available: false, gpus: Vec::new(), xpu_manager_url: Some(text), reason: Some(reason) }
        }
    }
}

fn ask_manager(url: &Url) -> Result<Vec<ManagedGpu>, String> {
    url.get("/api/v1/health")?;
    let list = url.get("/api/v1/xpum/device")?;
    let devices = list["devices"].as_array().ok_or("the answer has no devices")?;
    let entries = devices.iter().take(MANAGER_DEVICES_MAX).filter_map(|device| {
        let id = u32::try_from(device["device_id"].as_u64()?).ok()?;
        Some((id, device["device_name"].as_str().unwrap_or_default().to_owned()))
    });
    entries
        .map(|(device_id, device_name)| {
            let health = url.get(&format!("/api/v1/xpum/device/{device_id}/health"))?;
            let metrics = url.get(&format!("/api/v1/xpum/device/{device_id}/metrics"))?;
            Ok(ManagedGpu { device_id, device_name, health, metrics })
        })
        .collect()
}

fn value(body: &impl Serialize) -> Value {
    serde_json::to_value(body).unwrap_or_default()
}

/// Health and metrics of a device, of this machine or of the other service.
pub async fn metrics(app: &Arc<App>, device_id: u32) -> Result<GpuMetrics, Problem> {
    let timestamp = time::text(SystemTime::now());
    let Some(url) = app.analyst.manager.clone() else {
        let report = contract::report(app, device_id)?;
        let (health, metrics) = (value(&HealthBody::of(&report)), value(&Metrics::of(&report.sample)));
        return Ok(GpuMetrics { device_id, health, metrics, timestamp });
    };
    let ask = move || {
        let health = url.get(&format!("/api/v1/xpum/device/{device_id}/health"))?;
        let metrics = url.get(&format!("/api/v1/xpum/device/{device_id}/metrics"))?;
        Ok(GpuMetrics { device_id, health, metrics, timestamp })
    };
    let asked =
        tokio::task::spawn_blocking(ask).await.map_err(|error| error.to_string()).and_then(|asked| asked);
    asked.map_err(|reason: String| {
        Problem::new(StatusCode::BAD_GATEWAY, format!("the other service: {reason}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_python_that_is_missing_or_talks_nonsense_is_a_reason() {
        assert!(ask_python(&"/nonexistent/python".into()).unwrap_err().contains("cannot be started"));
        assert!(ask_python(&"/bin/echo".into()).unwrap_err().contains("no answer"));
    }
}
