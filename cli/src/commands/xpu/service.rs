//! What a running service is asked to do: to write values into files, as `minka xpu dump --rawdata` wants it.

use minka_accel::dump::NAMES;
use minka_accel_service::http::Url;
use serde_json::{Value, json};

use super::{manager_token, manager_url};
use crate::args::xpu::Dump;
use crate::failure::Failure;
use crate::output::{Output, printable};

/// Where the service is, unless `XPU_MANAGER_URL` says otherwise.
const HERE: &str = "http://127.0.0.1:12788";

pub(super) fn raw(dump: &Dump, json: bool, output: &mut Output) -> Result<(), Failure> {
    let text = manager_url().unwrap_or_else(|| HERE.to_owned());
    let failed = |reason: String| Failure::XpuService { url: text.clone(), reason };
    let url = Url::parse(&text).ok_or_else(|| failed("that is no address".to_owned()))?;
    let url = match manager_token() {
        Some(file) => url.with_token_of(&file).map_err(failed)?,
        None => url,
    };
    let answer = if dump.raw.list {
        url.get("/rest/v1/dump").map_err(failed)?
    } else if let Some(task) = dump.raw.stop {
        url.ask("DELETE", &format!("/rest/v1/dump/{task}"), None).map_err(failed)?
    } else {
        let [device] = &dump.device[..] else {
            return Err(Failure::NoSuchXpu { device: dump.device.join(",") });
        };
        let number = device.parse::<u32>().map_err(|_| Failure::NoSuchXpu { device: device.clone() })?;
        let columns = dump.metrics.iter().filter_map(|column| NAMES.get(usize::try_from(*column).ok()?));
        let columns: Vec<&&str> = columns.collect();
        let mut body = json!({"device_id": number, "metrics_type_list": columns});
        if let Some(tile) = dump.tile {
            body["tile_id"] = tile.into();
        }
        url.ask("POST", "/rest/v1/dump", Some(&body)).map_err(failed)?
    };
    if json {
        return output.json(&answer);
    }
    let line = |id: &Value, path: &str| {
        let variables = [("task", id.to_string().into()), ("file", printable(path).into())];
        output.text.with("xpu-raw-task", &variables)
    };
    let lines: Vec<String> = match answer["dump_task_ids"].as_array() {
        Some(ids) => ids.iter().map(Value::to_string).collect(),
        None => vec![line(&answer["task_id"], answer["dump_file_path"].as_str().unwrap_or_default())],
    };
    lines.iter().try_for_each(|line| output.line(line))
}
