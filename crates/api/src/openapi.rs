//! The description of the interface (OpenAPI 3.1), made from the functions that answer.

use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use crate::{events, paths, problem};

/// The description as JSON.
pub fn text() -> String {
    Description::openapi().to_json().unwrap_or_default()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Minka",
        description = "A node of a cluster in which running programs move: its processes, the other nodes, and what \
                       happens. Served at a UNIX socket, where what callers may do follows from their user, as the \
                       kernel tells it; and over TLS, where it follows from the role of their token: read, operate \
                       (also to move and follow processes) or admin."
    ),
    paths(
        paths::node, paths::steer, paths::nodes, paths::processes, paths::process, paths::reasons, paths::advise, paths::migrate,
        paths::scrape, events::of_node, events::of_process,
    ),
    components(schemas(problem::Problem)),
    modifiers(&Errors)
)]
struct Description;

/// The errors that hold for many operations.
struct Errors;

impl Modify for Errors {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("token", bearer);
        // At the UNIX socket the kernel says who asks; elsewhere it takes a token.
        let none = SecurityRequirement::default();
        document.security = Some(vec![none, SecurityRequirement::new("token", Vec::<String>::new())]);
        for (path, item) in &mut document.paths.paths {
            for (method, operation) in [("get", &mut item.get), ("post", &mut item.post)] {
                let Some(operation) = operation else { continue };
                let words = path.split(['/', '.', '{', '}']).filter(|word| !word.is_empty());
                operation.operation_id =
                    Some(words.fold(method.to_owned(), |name, word| format!("{name}_{word}")));
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
    let takes_body = operation.request_body.is_some();
    let mut add = |status: &str, description: &str| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response =
            ResponseBuilder::new().description(description).content("application/problem+json", content);
        let response = RefOr::T(response.build());
        operation.responses.responses.entry(status.to_owned()).or_insert(response);
    };
    add("401", "Over TLS: there is no token, or a wrong one.");
    add("503", "There are too many clients, or the daemon is ending.");
    if path.contains('{') {
        add("403", "The process belongs to another user, or the role of the token does not allow this.");
        add("404", "There is no such process, or no such node.");
    }
    if takes_body {
        add("400", "The body is not JSON.");
        add("403", "Only root may do that, or a token with the role for it.");
        add("409", "It cannot be done now, or not with this process; the detail says why.");
        add("413", "The body is too large.");
        add("415", "The body is not called JSON.");
        add("422", "The body is not what is expected.");
    }
    add("403", "Over TLS: the role of the token does not allow this.");
    if path.ends_with("/migrate") {
        add("504", "The process has not moved in time.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_described_with_its_errors() {
        let document: serde_json::Value = serde_json::from_str(&text()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let mut ids = std::collections::BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                assert!(ids.insert(operation["operationId"].to_string()), "{method} {path}");
                assert!(operation["responses"]["503"].is_object(), "{method} {path}");
                assert!(operation["summary"].is_string(), "{method} {path}");
            }
        }
        assert_eq!(ids.len(), 11, "{ids:?}");
        for schema in [
            "Status",
            "Node",
            "Figures",
            "DeviceFigures",
            "Process",
            "Migrated",
            "Steering",
            "Journey",
            "Problem",
        ] {
            assert!(document["components"]["schemas"][schema].is_object(), "{schema}");
        }
    }
}
