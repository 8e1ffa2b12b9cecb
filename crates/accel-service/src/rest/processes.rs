//! Which processes use the devices.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use minka_accel::process;
use serde::Serialize;
use utoipa::ToSchema;

use crate::contract::report;
use crate::problem::{Id, Problem};
use crate::server::App;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/rest/v1/devices/{id}/ps", get(processes_of)).route("/rest/v1/ps", get(processes))
}

/// A process that uses a device.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ProcessBody {
    process_id: u32,
    process_name: String,
    device_id: Option<u32>,
    /// Memory of the device in bytes; null when the driver does not tell.
    mem_size: Option<u64>,
    /// Memory shared with others in bytes; null when the driver does not tell.
    shared_size: Option<u64>,
}

/// Processes that use devices.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Processes {
    device_util_by_proc_list: Vec<ProcessBody>,
    /// Processes of others that could not be looked into: that takes CAP_SYS_PTRACE.
    processes_not_permitted: usize,
}

async fn list_processes(app: &Arc<App>) -> Processes {
    let asked = Arc::clone(app);
    let listed = tokio::task::spawn_blocking(move || process::list(asked.station.root())).await;
    let (processes, hidden) = listed.unwrap_or_default();
    let identities = app.station.identities();
    let device_of = |address: &str| {
        let here = |pci: &minka_accel::identity::Pci| pci.address == address;
        let found = identities.iter().find(|identity| identity.pci.as_ref().is_some_and(here));
        found.map(|identity| identity.device_id)
    };
    let list = processes.into_iter().map(|process| ProcessBody {
        device_id: device_of(&process.pci_address),
        process_id: process.process_id,
        process_name: process.process_name,
        mem_size: process.memory_bytes,
        shared_size: process.shared_bytes,
    });
    Processes { device_util_by_proc_list: list.collect(), processes_not_permitted: hidden }
}

/// Processes that use devices.
#[utoipa::path(get, path = "/rest/v1/ps", tag = "rest", responses((status = 200, body = Processes)))]
pub(crate) async fn processes(State(app): State<Arc<App>>) -> Json<Processes> {
    Json(list_processes(&app).await)
}

/// Processes that use a device.
#[utoipa::path(
    get, path = "/rest/v1/devices/{id}/ps", tag = "rest",
    params(Id), responses((status = 200, body = Processes))
)]
pub(crate) async fn processes_of(
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<Json<Processes>, Problem> {
    report(&app, id)?;
    let mut processes = list_processes(&app).await;
    processes.device_util_by_proc_list.retain(|process| process.device_id == Some(id));
    Ok(Json(processes))
}
