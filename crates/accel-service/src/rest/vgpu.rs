//! Virtual functions.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use minka_accel::{Identity, vgpu};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::beside;
use crate::contract::report;
use crate::guard::Administrator;
use crate::numbers;
use crate::problem::{Body, Id, Problem};
use crate::server::App;
use crate::settings::SettingsError;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/rest/v1/vgpu/precheck", get(vgpu_precheck))
        .route("/rest/v1/vgpu/createvf", post(create_functions))
        .route("/rest/v1/vgpu/removevf", post(remove_functions))
        .route("/rest/v1/devices/{id}/vgpulist", get(functions))
        .route("/rest/v1/devices/{id}/vgpustats", get(function_statistics))
}

/// Whether this machine and its cards can have virtual functions.
#[derive(Debug, Serialize, ToSchema)]
pub struct VgpuPrecheck {
    /// `Pass` or `Fail`.
    vmx_flag: String,
    vmx_message: String,
    /// `Pass` or `Fail`.
    iommu_status: String,
    iommu_message: String,
    /// `Pass` or `Fail`.
    sriov_status: String,
    sriov_message: String,
}

impl VgpuPrecheck {
    /// What is found.
    pub fn of(readiness: &vgpu::Readiness) -> Self {
        let say = |found: Result<&str, &str>| match found {
            Ok(message) => ("Pass".to_owned(), message.to_owned()),
            Err(message) => ("Fail".to_owned(), message.to_owned()),
        };
        let (vmx_flag, vmx_message) = say(readiness.processor);
        let (iommu_status, iommu_message) = say(readiness.iommu);
        let (sriov_status, sriov_message) = say(readiness.sriov);
        VgpuPrecheck { vmx_flag, vmx_message, iommu_status, iommu_message, sriov_status, sriov_message }
    }
}

/// Virtual functions to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewFunctions {
    #[serde(deserialize_with = "numbers::one")]
    device_id: u32,
    /// How many.
    #[serde(deserialize_with = "numbers::one")]
    #[schema(minimum = 1)]
    num_vfs: u32,
    /// Memory of each in MiB; the driver shares it by itself, so that nothing can be chosen here.
    #[serde(default, deserialize_with = "numbers::maybe")]
    lmem_per_vf: Option<u32>,
}

/// Which device.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhichDevice {
    #[serde(deserialize_with = "numbers::one")]
    device_id: u32,
}

/// A virtual function.
#[derive(Debug, Serialize, ToSchema)]
pub struct FunctionBody {
    /// Its number, from 0.
    number: u32,
    bdf_address: String,
    /// The device that it is a part of.
    device_id: u32,
}

/// The virtual functions of a device.
#[derive(Debug, Serialize, ToSchema)]
pub struct FunctionList {
    vf_list: Vec<FunctionBody>,
    /// How many it can have; null when it cannot have any.
    total: Option<u32>,
}

impl FunctionList {
    /// The virtual functions of a device.
    pub fn of(root: &minka_accel::Root, identity: &Identity) -> Self {
        let device_id = identity.device_id;
        let list = vgpu::list(root, identity).into_iter();
        let body = |(number, bdf_address)| FunctionBody { number, bdf_address, device_id };
        FunctionList { vf_list: list.map(body).collect(), total: vgpu::total(root, identity) }
    }

    /// Number and address of each.
    pub fn rows(&self) -> impl Iterator<Item = (u32, &str)> {
        self.vf_list.iter().map(|function| (function.number, function.bdf_address.as_str()))
    }
}

/// What a virtual function does.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FunctionStatistics {
    bdf_address: String,
    metric_list: Vec<FunctionMetric>,
    /// Why the list is empty.
    reason: String,
}

/// A value of a virtual function.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FunctionMetric {
    metric_type: u32,
    value: i64,
    scale: u32,
}

/// What virtual functions do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FunctionsStatistics {
    vf_list: Vec<FunctionStatistics>,
}

/// Whether this machine and its cards can have virtual functions.
#[utoipa::path(get, path = "/rest/v1/vgpu/precheck", tag = "vgpu", responses((status = 200, body = VgpuPrecheck)))]
pub(crate) async fn vgpu_precheck(State(app): State<Arc<App>>) -> Json<VgpuPrecheck> {
    let identities = app.station.identities();
    let devices: Vec<&Identity> = identities.iter().map(|identity| &**identity).collect();
    Json(VgpuPrecheck::of(&vgpu::precheck(app.station.root(), &devices)))
}

async fn divide(app: Arc<App>, device: u32, count: u32) -> Result<Json<FunctionList>, Problem> {
    let missing = |_| Problem::new(StatusCode::CONFLICT, format!("there is no device {device}"));
    let identity = Arc::clone(&report(&app, device).map_err(missing)?.sample.identity);
    beside(move || {
        vgpu::divide(app.station.root(), &identity, count).map_err(SettingsError::from)?;
        Ok::<_, SettingsError>(Json(FunctionList::of(app.station.root(), &identity)))
    })
    .await
}

/// Divides a device into virtual functions.
#[utoipa::path(
    post, path = "/rest/v1/vgpu/createvf", tag = "vgpu", security(("token" = []), ("basic" = [])),
    request_body = NewFunctions, responses((status = 200, body = FunctionList))
)]
pub(crate) async fn create_functions(
    _: Administrator,
    State(app): State<Arc<App>>,
    Body(new): Body<NewFunctions>,
) -> Result<Json<FunctionList>, Problem> {
    if new.num_vfs == 0 {
        return Err(Problem::unprocessable("num_vfs is at least 1"));
    }
    if new.lmem_per_vf.is_some_and(|memory| memory > 0) {
        let reason = "the driver shares the memory by itself: no file of the kernel's takes another share";
        return Err(Problem::new(StatusCode::CONFLICT, reason));
    }
    divide(app, new.device_id, new.num_vfs).await
}

/// Takes all virtual functions of a device away.
#[utoipa::path(
    post, path = "/rest/v1/vgpu/removevf", tag = "vgpu", security(("token" = []), ("basic" = [])),
    request_body = WhichDevice, responses((status = 200, body = FunctionList))
)]
pub(crate) async fn remove_functions(
    _: Administrator,
    State(app): State<Arc<App>>,
    Body(which): Body<WhichDevice>,
) -> Result<Json<FunctionList>, Problem> {
    divide(app, which.device_id, 0).await
}

/// The virtual functions of a device.
#[utoipa::path(
    get, path = "/rest/v1/devices/{id}/vgpulist", tag = "vgpu", params(Id),
    responses((status = 200, body = FunctionList))
)]
pub(crate) async fn functions(
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<Json<FunctionList>, Problem> {
    Ok(Json(FunctionList::of(app.station.root(), &report(&app, id)?.sample.identity)))
}

/// What the virtual functions of a device do: the kernel tells nothing of it, and the answer says so.
#[utoipa::path(
    get, path = "/rest/v1/devices/{id}/vgpustats", tag = "vgpu", params(Id),
    responses((status = 200, body = FunctionsStatistics))
)]
pub(crate) async fn function_statistics(
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<Json<FunctionsStatistics>, Problem> {
    let list = vgpu::list(app.station.root(), &report(&app, id)?.sample.identity).into_iter();
    let vf_list = list.map(|(_, bdf_address)| FunctionStatistics {
        bdf_address,
        metric_list: Vec::new(),
        reason: "the kernel tells the host nothing of what a virtual function does".to_owned(),
    });
    Ok(Json(FunctionsStatistics { vf_list: vf_list.collect() }))
}
