//! The part of `node.toml` that says how a node looks after its accelerators: `[xpu]`.
//!
//! ```toml
//! [xpu]
//! watch = true                       # look for them, and tell the other nodes how many there are
//! listen = "127.0.0.1:12788"         # serve them over HTTP, as `minka xpu serve` does; none: nobody is served
//! interval_ms = 1000                 # between two samples, if nobody has chosen another
//! state = "/var/lib/minka/xpu.toml"  # groups, settings and policies
//! dumps = "/var/lib/minka/xpu-dumps" # files of values
//! tokens = "xpu-tokens.toml"         # who may change anything
//! require_token = false              # also for reading
//! limits = "xpu-limits.toml"         # limits of health for what the hardware tells none of
//! audit = "/var/log/minka-xpu.log"   # changes and refusals; none: they go to the daemon's log
//! tls = { certificate = "xpu-cert.pem", key = "xpu-key.pem" }   # speak TLS, and nothing in the clear
//! python = "python3"                 # is asked what PyTorch sees
//! start = ["ana", "*"]              # for whom of other nodes programs are started here: names, or * for all ordinary users
//! root = "/"                         # the tree whose devices these are: an aid for tests
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// How a node looks after its accelerators. Relative paths start at the directory of `node.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct XpuConfig {
    /// Whether it looks for them at all.
    pub watch: bool,
    /// Where it serves them; nowhere if nothing is said.
    pub listen: Option<SocketAddr>,
    /// Milliseconds between two samples.
    pub interval_ms: Option<u32>,
    /// The file of groups, settings and policies.
    pub state: PathBuf,
    /// The folder for files of values.
    pub dumps: PathBuf,
    /// The file of tokens.
    pub tokens: PathBuf,
    /// Whether reading takes a token, too.
    pub require_token: bool,
    /// The file of limits, which need not be there.
    pub limits: PathBuf,
    /// The file of the audit log.
    pub audit: Option<PathBuf>,
    /// Who the service is, to those who ask over TLS.
    pub tls: Option<XpuTls>,
    /// The Python that is asked what PyTorch sees.
    pub python: PathBuf,
    /// For which users of other nodes programs that need a device are started here; `*` for all ordinary ones.
    pub start: Vec<String>,
    /// The tree whose devices these are.
    pub root: PathBuf,
}

/// A certificate and its key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct XpuTls {
    /// The file of the certificate.
    pub certificate: PathBuf,
    /// The file of its key.
    pub key: PathBuf,
}

impl Default for XpuConfig {
    fn default() -> Self {
        XpuConfig {
            watch: true,
            listen: None,
            interval_ms: None,
            state: "/var/lib/minka/xpu.toml".into(),
            dumps: "/var/lib/minka/xpu-dumps".into(),
            tokens: "xpu-tokens.toml".into(),
            require_token: false,
            limits: "xpu-limits.toml".into(),
            audit: None,
            tls: None,
            python: "python3".into(),
            start: Vec::new(),
            root: "/".into(),
        }
    }
}

impl XpuConfig {
    /// Makes relative paths start there. A program without a slash is looked for where programs are.
    pub(super) fn start_at(&mut self, base: &Path) {
        let always = [&mut self.state, &mut self.dumps, &mut self.tokens, &mut self.limits, &mut self.root];
        let tls = self.tls.iter_mut().flat_map(|tls| [&mut tls.certificate, &mut tls.key]);
        for path in always.into_iter().chain(&mut self.audit).chain(tls) {
            *path = base.join(&path);
        }
        if self.python.components().count() > 1 {
            self.python = base.join(&self.python);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_in_the_docs_says_everything() {
        let lines = include_str!("xpu.rs").lines().take_while(|line| line.starts_with("//!"));
        let lines = lines.map(|line| line.trim_start_matches("//!").trim_start());
        let table = lines.skip_while(|line| *line != "[xpu]").skip(1).take_while(|line| *line != "```");
        let text: String = table.map(|line| format!("{line}\n")).collect();
        let said: XpuConfig = toml::from_str(&text).unwrap();
        let expected = XpuConfig {
            listen: Some(([127, 0, 0, 1], 12788).into()),
            interval_ms: Some(1000),
            audit: Some("/var/log/minka-xpu.log".into()),
            start: vec!["ana".into(), "*".into()],
            tls: Some(XpuTls { certificate: "xpu-cert.pem".into(), key: "xpu-key.pem".into() }),
            ..XpuConfig::default()
        };
        assert_eq!(said, expected);
        assert!(toml::from_str::<XpuConfig>("tls = { key = 'a' }").is_err());
        assert!(toml::from_str::<XpuConfig>("lisen = '127.0.0.1:1'").is_err());
    }

    #[test]
    fn nobody_is_served_unless_that_is_said() {
        assert_eq!(toml::from_str::<XpuConfig>("").unwrap().listen, None);
    }

    #[test]
    fn paths_start_at_the_configuration() {
        let mut config = XpuConfig { audit: Some("audit.log".into()), ..XpuConfig::default() };
        config.start_at(Path::new("/etc/minka"));
        assert_eq!(config.tokens, Path::new("/etc/minka/xpu-tokens.toml"));
        assert_eq!(config.audit.as_deref(), Some(Path::new("/etc/minka/audit.log")));
        assert_eq!(config.state, Path::new("/var/lib/minka/xpu.toml"));
        assert_eq!((config.python.as_path(), config.root.as_path()), (Path::new("python3"), Path::new("/")));
    }
}
