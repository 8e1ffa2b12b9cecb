//! Errors as RFC 9457 has them, and requests that turn into such errors when they are wrong.

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use minka_accel_firmware::FirmwareError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::{IntoParams, ToSchema};

use crate::dumps::DumpError;
use crate::settings::SettingsError;
use crate::state::StateError;

/// What went wrong.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
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
    /// Seconds after which to try again.
    #[serde(skip)]
    pub retry_after: Option<u64>,
}

impl Problem {
    /// A problem with a status and what went wrong.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Problem {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            retry_after: None,
        }
    }

    /// A problem that an error tells of, with its causes.
    fn of(status: StatusCode, error: &dyn std::error::Error) -> Self {
        Problem::new(status, words(error))
    }

    /// There is no such device.
    pub fn no_device(id: u32) -> Self {
        Problem::new(StatusCode::NOT_FOUND, format!("there is no device {id}"))
    }

    /// What was sent contradicts itself, or what the device is.
    pub fn contradiction(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::CONFLICT, detail)
    }

    /// What was sent makes no sense.
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }
}

/// What failed, with its causes.
pub(crate) fn words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let causes: String = causes.map(|cause| format!(": {cause}")).collect();
    format!("failed to {error}{causes}")
}

/// Whose fault it is that what lasts is not changed.
impl From<StateError> for Problem {
    fn from(error: StateError) -> Self {
        let status = match &error {
            StateError::NoSuchGroup(_) | StateError::NoSuchPolicy(_) => StatusCode::NOT_FOUND,
            StateError::Name | StateError::TooManyDevices | StateError::Interval(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            _ => StatusCode::CONFLICT,
        };
        Problem::of(status, &error)
    }
}

impl From<SettingsError> for Problem {
    fn from(error: SettingsError) -> Self {
        match error {
            SettingsError::State(error) => error.into(),
            error => Problem::of(StatusCode::CONFLICT, &error),
        }
    }
}

impl From<FirmwareError> for Problem {
    fn from(error: FirmwareError) -> Self {
        Problem::of(StatusCode::CONFLICT, &error)
    }
}

impl From<DumpError> for Problem {
    fn from(error: DumpError) -> Self {
        let status = match &error {
            DumpError::NoSuchDump(_) => StatusCode::NOT_FOUND,
            DumpError::TooMany | DumpError::File { .. } => StatusCode::CONFLICT,
        };
        Problem::of(status, &error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"minka xpu\""));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A number in the path.
#[derive(Debug, Clone, Copy)]
pub struct Id(pub u32);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<std::collections::BTreeMap<String, String>>::from_request_parts(parts, state).await;
        let id = path.ok().and_then(|path| path.0.get("id").cloned()).unwrap_or_default();
        // The standard parser takes a sign, which is no part of an identifier.
        let digits = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        match id.parse() {
            Ok(id) if digits => Ok(Id(id)),
            _ => Err(Problem::new(
                StatusCode::NOT_FOUND,
                "what is named in the path has a number, and this is none",
            )),
        }
    }
}

impl IntoParams for Id {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let number = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int32)))
            .minimum(Some(0))
            .maximum(Some(u32::MAX));
        let parameter = ParameterBuilder::new()
            .name("id")
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some("The number of the device or group."))
            .schema(Some(number));
        vec![parameter.build()]
    }
}

/// A body of JSON.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match axum::Json::<T>::from_request(request, state).await {
            Ok(axum::Json(value)) => Ok(Body(value)),
            Err(rejection) => {
                let status = match &rejection {
                    JsonRejection::JsonSyntaxError(_) => StatusCode::BAD_REQUEST,
                    other => other.status(),
                };
                Err(Problem::new(status, rejection.body_text()))
            }
        }
    }
}

/// A question mark's part of the address.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        let wrong = |error: axum::extract::rejection::QueryRejection| {
            Problem::new(StatusCode::BAD_REQUEST, error.body_text())
        };
        query.map(|query| Query(query.0)).map_err(wrong)
    }
}
