//! Files of values that the service writes.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, post};
use axum::{Json, Router};
use minka_accel::dump::NAMES;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::beside;
use crate::contract::report;
use crate::guard::Operator;
use crate::numbers;
use crate::problem::{Body, Id, Problem};
use crate::server::App;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/rest/v1/dump", post(begin_dump).get(dumps))
        .route("/rest/v1/dump/{id}", delete(end_dump))
}

/// A column, by XPU Manager's name.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct DumpColumn(usize);

impl TryFrom<String> for DumpColumn {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let column = NAMES.iter().position(|known| *known == name);
        column.map(DumpColumn).ok_or("there is no such column")
    }
}

impl utoipa::PartialSchema for DumpColumn {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .enum_values(Some(NAMES))
            .description(Some("A column, by XPU Manager's name."))
            .into()
    }
}

impl ToSchema for DumpColumn {}

/// What is to be written.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewDump {
    #[serde(deserialize_with = "numbers::one")]
    device_id: u32,
    #[serde(default, rename = "tile_id", deserialize_with = "numbers::maybe")]
    #[schema(maximum = 255)]
    _tile_id: Option<u8>,
    #[schema(min_items = 1, max_items = 37)]
    metrics_type_list: Vec<DumpColumn>,
    /// Lines always begin with date and time.
    #[serde(default, rename = "show_date")]
    _show_date: Option<bool>,
}

/// A file that is written, or was.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DumpTask {
    task_id: u32,
    dump_file_path: String,
}

/// The files that are being written.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DumpTasks {
    dump_task_ids: Vec<u32>,
}

/// Begins to write a device's values into a file, a line for each sample.
#[utoipa::path(
    post, path = "/rest/v1/dump", tag = "dump", security(("token" = []), ("basic" = [])),
    request_body = NewDump, responses((status = 200, body = DumpTask))
)]
pub(crate) async fn begin_dump(
    _: Operator,
    State(app): State<Arc<App>>,
    Body(new): Body<NewDump>,
) -> Result<Json<DumpTask>, Problem> {
    let device = new.device_id;
    report(&app, device)
        .map_err(|_| Problem::new(StatusCode::CONFLICT, format!("there is no device {device}")))?;
    let columns: Vec<usize> = new.metrics_type_list.iter().map(|column| column.0).collect();
    if !(1..=NAMES.len()).contains(&columns.len()) {
        return Err(Problem::unprocessable("a dump has 1 to 37 columns"));
    }
    let (task_id, path) = beside(move || app.dumps.begin(device, columns)).await?;
    Ok(Json(DumpTask { task_id, dump_file_path: path.display().to_string() }))
}

/// The files that are being written.
#[utoipa::path(get, path = "/rest/v1/dump", tag = "dump", responses((status = 200, body = DumpTasks)))]
pub(crate) async fn dumps(State(app): State<Arc<App>>) -> Json<DumpTasks> {
    Json(DumpTasks { dump_task_ids: app.dumps.list() })
}

/// Ends a file; it stays where it is.
#[utoipa::path(
    delete, path = "/rest/v1/dump/{id}", tag = "dump", security(("token" = []), ("basic" = [])), params(Id),
    responses((status = 200, body = DumpTask))
)]
pub(crate) async fn end_dump(
    _: Operator,
    State(app): State<Arc<App>>,
    Id(id): Id,
) -> Result<Json<DumpTask>, Problem> {
    let path = app.dumps.end(id)?;
    Ok(Json(DumpTask { task_id: id, dump_file_path: path.display().to_string() }))
}
