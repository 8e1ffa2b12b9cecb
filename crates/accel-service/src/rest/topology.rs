//! Where devices are.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use minka_accel::Metric;
use minka_accel::metric::Kind;
use minka_accel::station::Report;
use serde::Serialize;
use utoipa::ToSchema;

use crate::body::ReadingBody;
use crate::contract::report;
use crate::problem::{Id, Problem};
use crate::server::App;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/rest/v1/devices/{id}/topology", get(topology))
        .route("/rest/v1/topology", get(topology_document))
        .route("/rest/v1/topology/xelink", get(links))
}

/// Where a device is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Topology {
    device_id: u32,
    /// Processors of the host that are nearest.
    affinity_localcpulist: Option<String>,
    /// Memory node of the host that is nearest.
    numa_node: Option<i32>,
    /// Speed and width of the link to the host, with reasons where they are not known.
    link: Vec<ReadingBody>,
}

fn property(report: &Report, place: &str) -> Option<String> {
    Some(report.sample.at(Metric::Property, place)?.value.as_ref().ok()?.to_string())
}

/// Where a device is.
#[utoipa::path(
    get, path = "/rest/v1/devices/{id}/topology", tag = "topology", params(Id),
    responses((status = 200, body = Topology))
)]
pub(crate) async fn topology(State(app): State<Arc<App>>, Id(id): Id) -> Result<Json<Topology>, Problem> {
    let report = report(&app, id)?;
    let link = |metric: Metric| metric.name().starts_with("pcie_") && metric.kind() == Kind::Setting;
    let readings = report.sample.sorted().into_iter().filter(|reading| link(reading.metric));
    Ok(Json(Topology {
        device_id: id,
        affinity_localcpulist: property(&report, "processors of the host nearby"),
        numa_node: property(&report, "memory node of the host").and_then(|node| node.parse().ok()),
        link: readings.map(ReadingBody::of).collect(),
    }))
}

/// All devices as an XML document.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TopologyDocument {
    /// Bytes of the document.
    length: usize,
    xmlstring: String,
}

/// All devices as an XML document: where each is, and how it is linked.
#[utoipa::path(get, path = "/rest/v1/topology", tag = "topology", responses((status = 200, body = TopologyDocument)))]
pub(crate) async fn topology_document(State(app): State<Arc<App>>) -> Json<TopologyDocument> {
    let xmlstring = document(&app.station.reports());
    Json(TopologyDocument { length: xmlstring.len(), xmlstring })
}

/// The devices of some reports as an XML document.
pub fn document(reports: &[Report]) -> String {
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<topology>\n".to_owned();
    for report in reports {
        let (sample, identity) = (&report.sample, &report.sample.identity);
        let number = |metric| sample.number(metric, &[""]).map(|number| number.to_string());
        let attributes = [
            ("id", Some(identity.device_id.to_string())),
            ("name", Some(identity.device_name.clone())),
            ("vendor", Some(identity.vendor_name.clone())),
            ("uuid", Some(identity.uuid.clone())),
            ("pci", identity.pci.as_ref().map(|pci| pci.address.clone())),
            ("cpulist", property(report, "processors of the host nearby")),
            ("numa_node", property(report, "memory node of the host")),
            ("link_gts", number(Metric::LinkSpeed)),
            ("link_width", number(Metric::LinkWidth)),
        ];
        text.push_str("  <device");
        for (name, value) in attributes {
            if let Some(value) = value {
                // Writing to a text does not fail.
                let _ = write!(text, " {name}=\"{}\"", escaped(&value));
            }
        }
        text.push_str("/>\n");
    }
    text + "</topology>\n"
}

/// A text inside of quotation marks; what XML cannot hold is left out.
fn escaped(text: &str) -> String {
    let character = |character: char| match character {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        control if control.is_control() => String::new(),
        other => other.to_string(),
    };
    text.chars().map(character).collect()
}

/// A link between two cards.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CardLink {
    local_device_id: u32,
    remote_device_id: u32,
    link_type: String,
}

/// Links between cards.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CardLinks {
    topo_list: Vec<CardLink>,
    /// Why the list is empty.
    reason: String,
}

/// Links between cards: the kernel shows none.
#[utoipa::path(get, path = "/rest/v1/topology/xelink", tag = "topology", responses((status = 200, body = CardLinks)))]
pub(crate) async fn links() -> Json<CardLinks> {
    let reason = "the kernel shows no links between cards".to_owned();
    Json(CardLinks { topo_list: Vec::new(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_quotation_marks() {
        assert_eq!(escaped("a\"b<c>&d\u{1}é"), "a&quot;b&lt;c&gt;&amp;dé");
        assert!(document(&[]).ends_with("<topology>\n</topology>\n"));
    }
}
