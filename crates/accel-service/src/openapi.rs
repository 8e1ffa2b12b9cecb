//! The description of the interface, made from the functions that answer.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use crate::server::App;
use crate::{contract, problem, rest};

/// The path.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/openapi.json", get(document))
}

async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], text())
}

/// The description as JSON.
pub fn text() -> String {
    Description::openapi().to_json().unwrap_or_default()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Minka accelerators",
        description = "GPUs and coprocessors of any vendor: what they are, how they do, and whether they are well. \
                       Values that are not known are null, with the reason beside them."
    ),
    paths(
        contract::alive, contract::devices, contract::health, contract::metrics, contract::gpu_status,
        contract::gpu_metrics, contract::scrape, contract::alive_xpum,
        rest::version, rest::devices, rest::device, rest::health, rest::health_of, rest::set_threshold, rest::stats,
        rest::topology, rest::firmware, rest::config, rest::processes, rest::processes_of, rest::sensors,
        rest::settings, rest::set_settings,
        rest::groups, rest::new_group, rest::group, rest::set_group, rest::end_group, rest::group_health,
        rest::group_stats,
        rest::restore, rest::set_frequency_range, rest::set_power_limit, rest::set_scheduler, rest::set_standby,
        rest::set_performance_factor, rest::set_memory_ecc, rest::set_port_enabled, rest::set_port_beaconing,
        rest::reset, rest::repair,
        rest::policies, rest::device_policies, rest::set_device_policy, rest::end_device_policy,
        rest::group_policies, rest::set_group_policy, rest::end_group_policy,
        rest::group_health_of, rest::set_group_threshold,
        rest::diagnose, rest::diagnosis, rest::diagnose_group, rest::group_diagnosis,
        rest::begin_dump, rest::dumps, rest::end_dump,
        rest::update_firmware, rest::update_all_firmware, rest::update_state, rest::controller_versions,
        rest::topology_document, rest::links,
        rest::vgpu_precheck, rest::create_functions, rest::remove_functions, rest::functions,
        rest::function_statistics,
    ),
    components(schemas(problem::Problem, rest::KindName)),
    modifiers(&Errors)
)]
struct Description;

/// The errors that hold for many operations, and how callers show who they are.
struct Errors;

impl Modify for Errors {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        if let Some(components) = &mut document.components {
            let scheme = |scheme, text: &str| {
                SecurityScheme::Http(Http::builder().scheme(scheme).description(Some(text)).build())
            };
            let bearer = scheme(HttpAuthScheme::Bearer, "A token as `minka xpu token add` prints it.");
            let basic =
                scheme(HttpAuthScheme::Basic, "The token's name as user, the rest of it as password.");
            components.add_security_scheme("token", bearer);
            components.add_security_scheme("basic", basic);
        }
        for (path, item) in &mut document.paths.paths {
            let operations = [
                ("get", &mut item.get),
                ("put", &mut item.put),
                ("post", &mut item.post),
                ("delete", &mut item.delete),
            ];
            for (method, operation) in operations {
                let Some(operation) = operation else { continue };
                // Functions of several modules have the same names; paths have their own.
                let words: Vec<&str> =
                    path.split(['/', '.', '{', '}']).filter(|word| !word.is_empty()).collect();
                operation.operation_id = Some(format!("{method}_{}", words.join("_")));
                add_errors(path, operation);
            }
        }
    }
}

fn add_errors(path: &str, operation: &mut Operation) {
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            response.description = operation.summary.clone().unwrap_or_default();
        }
    }
    let mut add = |status: &str, description: &str| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response =
            ResponseBuilder::new().description(description).content("application/problem+json", content);
        let response = RefOr::T(response.build());
        operation.responses.responses.entry(status.to_owned()).or_insert(response);
    };
    add("401", "The token is missing or wrong; after several wrong ones this comes late.");
    if path.contains('{') {
        add("404", "There is no such thing.");
    }
    if path.contains("gpu/metrics") {
        add("400", "The request makes no sense.");
        add("502", "The other service does not answer.");
    }
    if operation.security.is_some() {
        add("403", "The token's role does not allow this.");
        add("409", "It cannot be done now, not with this device, or it contradicts itself.");
    }
    if operation.request_body.is_some() {
        add("400", "The body is not JSON.");
        add("413", "The body is too large.");
        add("415", "The body is not called JSON.");
        add("422", "The body is not what is expected.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_described_with_its_errors() {
        let document: serde_json::Value = serde_json::from_str(&text()).unwrap();
        assert_eq!(document["openapi"].as_str().unwrap().split('.').next(), Some("3"));
        let paths = document["paths"].as_object().unwrap();
        assert!(paths.len() >= 24, "{}", paths.len());
        let mut ids = std::collections::BTreeSet::new();
        for (path, item) in paths {
            for (method, operation) in item.as_object().unwrap() {
                assert!(ids.insert(operation["operationId"].to_string()), "{method} {path}");
                let responses = operation["responses"].as_object().unwrap();
                assert!(responses.contains_key("401"), "{method} {path}");
                assert!(operation["summary"].is_string(), "{method} {path}");
            }
        }
    }

    /// XPU Manager 1's paths below `/rest/v1/`, with their methods.
    const XPU_MANAGER: &[(&str, &str)] = &[
        ("version", "get"),
        ("devices", "get"),
        ("devices/{id}", "get"),
        ("devices/amcversions", "get"),
        ("devices/{id}/diagnostics", "post get"),
        ("groups/{id}/diagnostics", "post get"),
        ("devices/{id}/health", "get"),
        ("groups/{id}/health", "get"),
        ("devices/{id}/health/{kind}", "get put"),
        ("groups/{id}/health/{kind}", "get put"),
        ("policy", "get"),
        ("devices/{id}/policy", "get post delete"),
        ("groups/{id}/policy", "get post delete"),
        ("groups", "get post"),
        ("groups/{id}", "get post delete"),
        ("devices/{id}/updatefw", "post"),
        ("devices/{id}/firmware", "get"),
        ("devices/updatefw", "post"),
        ("devices/firmware", "get"),
        ("agentSettings", "get post"),
        ("devices/{id}/stats", "get"),
        ("groups/{id}/stats", "get"),
        ("devices/{id}/standby", "put"),
        ("devices/{id}/powerlimit", "put"),
        ("devices/{id}/frequencyrange", "put"),
        ("devices/{id}/scheduler", "put"),
        ("devices/{id}/config", "get"),
        ("devices/{id}/performancefactor", "put"),
        ("devices/{id}/reset", "post"),
        ("devices/{id}/ppr", "post"),
        ("devices/{id}/portenabled", "put"),
        ("devices/{id}/portbeaconing", "put"),
        ("devices/{id}/memoryecc", "put"),
        ("devices/{id}/topology", "get"),
        ("topology", "get"),
        ("topology/xelink", "get"),
        ("devices/{id}/ps", "get"),
        ("ps", "get"),
        ("dump", "post get"),
        ("dump/{id}", "delete"),
        ("sensor", "get"),
        ("vgpu/precheck", "get"),
        ("vgpu/createvf", "post"),
        ("vgpu/removevf", "post"),
        ("devices/{id}/vgpulist", "get"),
        ("devices/{id}/vgpustats", "get"),
    ];

    #[test]
    fn every_operation_of_xpu_manager_is_there() {
        let document: serde_json::Value = serde_json::from_str(&text()).unwrap();
        for (path, methods) in XPU_MANAGER {
            for method in methods.split(' ') {
                let operation = &document["paths"][format!("/rest/v1/{path}")][method];
                assert!(operation.is_object(), "{method} {path}");
            }
        }
    }
}
