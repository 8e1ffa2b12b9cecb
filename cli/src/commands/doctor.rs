//! `minka doctor`: what this machine lacks, and how to mend it.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use minka_host::fitness;
use minka_link::{Credentials, NodeConfig};
use minka_node::RUN_DIR_VARIABLE;
use minka_node::client::Client;
use serde::Serialize;

use crate::args::Doctor;
use crate::failure::{Failure, Status, chain};
use crate::output::{Output, Style, paint};

/// Where a node's configuration is, unless somebody says otherwise.
const CONFIG: &str = "/etc/minka/node.toml";

/// How long another node may take to answer.
const CONNECT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    /// It works, but less well.
    Poor,
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    /// What was found, or why not; null if there is nothing to say.
    detail: Option<String>,
}

impl Finding {
    fn new(check: &'static str, lacking: Verdict, why: Option<String>) -> Self {
        let verdict = if why.is_some() { lacking } else { Verdict::Good };
        Finding { check, verdict, detail: why }
    }

    fn good(check: &'static str, detail: String) -> Self {
        Finding { check, verdict: Verdict::Good, detail: Some(detail) }
    }

    fn bad(check: &'static str, why: String) -> Self {
        Finding { check, verdict: Verdict::Bad, detail: Some(why) }
    }
}

pub(super) fn doctor(arguments: &Doctor, output: &mut Output) -> Result<ExitCode, Failure> {
    let mut findings = machine();
    let config =
        arguments.config.clone().or_else(|| Some(PathBuf::from(CONFIG)).filter(|path| path.exists()));
    match &config {
        Some(config) => findings.extend(node(config)),
        None => findings.push(Finding {
            check: "config",
            verdict: Verdict::Poor,
            detail: Some(CONFIG.to_owned()),
        }),
    }
    show(&findings, output)?;
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Bad);
    Ok(if failed { Status::Failure.into() } else { ExitCode::SUCCESS })
}

/// What any node needs of its machine.
fn machine() -> Vec<Finding> {
    let found = fitness::findings().into_iter();
    let mut findings: Vec<Finding> = found
        .map(|(need, why)| {
            let lacking = if need.can_be_done_without() { Verdict::Poor } else { Verdict::Bad };
            Finding::new(need.name(), lacking, why)
        })
        .collect();
    let tree = minka_hpc::try_out().err().map(|error| chain(&error));
    findings.push(Finding::new("hpc", Verdict::Poor, tree));
    findings.push(match fitness::vdso() {
        Ok(digest) => Finding::good("kernel", digest.chars().take(16).collect()),
        Err(error) => Finding::bad("kernel", error.to_string()),
    });
    findings
}

/// What the node of a configuration needs.
fn node(path: &Path) -> Vec<Finding> {
    let config = match NodeConfig::read(path) {
        Ok(config) => config,
        Err(error) => return vec![Finding::bad("config", chain(&error))],
    };
    let mut findings = vec![Finding::good("config", path.display().to_string())];
    findings.push(match config.read_keys().and_then(|keys| Credentials::new(&keys)) {
        Ok(credentials) if credentials.name() == config.name => Finding::good("keys", config.name.clone()),
        Ok(credentials) => Finding::bad("keys", format!("{} ≠ {}", credentials.name(), config.name)),
        Err(error) => Finding::bad("keys", chain(&error)),
    });
    if let Ok(credentials) = config.credentials() {
        findings.push(certificate(&credentials));
    }
    findings.push(Finding::new(
        "address",
        Verdict::Bad,
        own_address(config.listen).err().map(|error| error.to_string()),
    ));
    let run_dir = std::env::var_os(RUN_DIR_VARIABLE).filter(|value| !value.is_empty());
    let run_dir = run_dir.map_or(config.run_dir, PathBuf::from);
    findings.push(match Client::connect(&run_dir) {
        Ok(_) => Finding::good("daemon", run_dir.display().to_string()),
        Err(error) => Finding { check: "daemon", verdict: Verdict::Poor, detail: Some(chain(&error)) },
    });
    let unreachable: Vec<&str> = config
        .peers
        .iter()
        .filter(|(_, address)| TcpStream::connect_timeout(address, CONNECT).is_err())
        .map(|(name, _)| name.as_str())
        .collect();
    let unreachable = (!unreachable.is_empty()).then(|| unreachable.join(", "));
    findings.push(Finding::new("peers", Verdict::Poor, unreachable));
    findings
}

/// Whether the others believe the node's certificate, and will tomorrow.
fn certificate(credentials: &Credentials) -> Finding {
    let (check, detail) = ("certificate", None);
    match (credentials.is_current(), credentials.is_trusted()) {
        (true, _) => Finding { check, verdict: Verdict::Good, detail },
        (false, true) => Finding { check: "former-certificate", verdict: Verdict::Poor, detail },
        (false, false) => Finding { check, verdict: Verdict::Bad, detail },
    }
}

/// Whether the address is one of this machine's.
fn own_address(address: SocketAddr) -> io::Result<()> {
    TcpListener::bind((address.ip(), 0)).map(drop)
}

fn show(findings: &[Finding], output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&findings);
    }
    for finding in findings {
        let (word, style) = match finding.verdict {
            Verdict::Good => ("doctor-good", Style::Good),
            Verdict::Poor => ("doctor-poor", Style::Bold),
            Verdict::Bad => ("doctor-bad", Style::Bad),
        };
        let word = paint(&io::stdout(), style, &format!("{:<8}", output.text.get(word)));
        let what = output.text.get(&format!("doctor-{}", finding.check));
        let detail = finding.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
        output.line(&format!("{word}{what}{detail}"))?;
        if finding.verdict != Verdict::Good {
            let mend = output.text.get(&format!("doctor-{}-mend", finding.check));
            for line in mend.lines() {
                output.line(&format!("        {line}"))?;
            }
        }
    }
    Ok(())
}
