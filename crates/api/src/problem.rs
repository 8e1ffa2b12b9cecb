//! Errors as RFC 9457 has them.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use minka_node::protocol::Refusal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong this time.
    pub detail: String,
}

impl Problem {
    /// A problem with a status and what went wrong.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Problem {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::BadRequest { .. } | Refusal::Version { .. } => StatusCode::BAD_REQUEST,
            Refusal::NotRoot | Refusal::NotPermitted { .. } => StatusCode::FORBIDDEN,
            Refusal::NoSuchProcess { .. } | Refusal::NoSuchNode { .. } => StatusCode::NOT_FOUND,
            Refusal::NoDevice { .. }
            | Refusal::NotStarted { .. }
            | Refusal::NotSteered
            | Refusal::CannotMove { .. }
            | Refusal::NotMoved { .. }
            | Refusal::Busy { .. } => StatusCode::CONFLICT,
            Refusal::TimedOut { .. } | Refusal::Silent { .. } => StatusCode::GATEWAY_TIMEOUT,
            Refusal::TooManyClients | Refusal::TooManyProcesses { .. } | Refusal::Ending => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Problem::new(status, refusal.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self).unwrap_or_default();
        let kind = HeaderValue::from_static("application/problem+json");
        (status, [(header::CONTENT_TYPE, kind)], body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_status_that_clients_expect() {
        let check = |refusal: Refusal, status| {
            let problem = Problem::from(refusal);
            assert_eq!(problem.status, status, "{problem:?}");
        };
        check(Refusal::NoSuchProcess { pid: 7 }, 404);
        check(Refusal::NotPermitted { pid: 7 }, 403);
        check(Refusal::NotRoot, 403);
        check(Refusal::CannotMove { pid: 7, reasons: vec!["it is locked".to_owned()] }, 409);
        check(Refusal::TimedOut { pid: 7, seconds: 60 }, 504);
        check(Refusal::Ending, 503);
    }
}
