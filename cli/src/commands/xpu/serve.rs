//! `minka xpu serve`.

use std::path::PathBuf;
use std::time::Duration;

use minka_accel::{Limits, Root};
use minka_accel_service::Options;

use super::{configuration, lasting};
use crate::args::xpu::XpuServe;
use crate::failure::Failure;
use crate::output::Output;

/// The file of tokens: what was said, or where such files belong.
pub(super) fn tokens(said: &Option<PathBuf>) -> PathBuf {
    said.clone().unwrap_or_else(|| configuration("xpu-tokens.toml"))
}

pub(super) fn serve(
    arguments: &XpuServe,
    root: Root,
    limits: Limits,
    output: &mut Output,
) -> Result<(), Failure> {
    crate::commands::node::log_to_stderr();
    let state = lasting::path(&arguments.state);
    let options = Options {
        listen: arguments.listen,
        root,
        interval: arguments.interval.map(Duration::from_millis),
        dumps: arguments.dumps.clone().unwrap_or_else(|| state.with_file_name("xpu-dumps")),
        state,
        limits,
        tokens: tokens(&arguments.tokens),
        require_token: arguments.require_token,
        audit: arguments.audit.clone(),
        python: arguments.python.clone(),
        manager_url: super::manager_url(),
        manager_token: super::manager_token(),
        tls: arguments.tls_cert.clone().zip(arguments.tls_key.clone()),
    };
    let mut failed = None;
    minka_accel_service::serve(&options, |address| {
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let variables = [("scheme", scheme.into()), ("address", address.to_string().into())];
        let line = output.text.with("xpu-serving", &variables);
        failed = output.line(&line).err();
    })?;
    failed.map_or(Ok(()), Err)
}
