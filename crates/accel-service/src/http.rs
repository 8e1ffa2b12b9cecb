//! Asking others over HTTP: their devices, and to be told of policies.
//!
//! One question a connection, in version 1.0, where the answer ends with its announced length or with the connection;
//! everything has a time limit and answers are bounded. Over TLS whoever is asked has to prove who they are, and an answer
//! that somebody has cut off is none.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use minka_access::tls;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;

/// No answer is longer.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// How long an answer may take.
const TIME_MAX: Duration = Duration::from_secs(10);

/// No file of a token has more that matters.
const TOKEN_BYTES_MAX: u64 = 4096;

/// More addresses of one name are not tried.
const ADDRESSES_MAX: usize = 4;

/// Where another service is: `http://HOST[:PORT][/PATH]`, or `https://`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    text: String,
    secure: bool,
    host: String,
    port: u16,
    path: String,
    token: Option<Token>,
}

/// A token, which nobody is shown.
#[derive(Clone, PartialEq, Eq)]
struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token")
    }
}

impl Url {
    /// The address in a text.
    pub fn parse(text: &str) -> Option<Self> {
        let secure = text.starts_with("https://");
        let rest = text.strip_prefix(if secure { "https://" } else { "http://" })?.trim_end_matches('/');
        let (authority, path) = rest
            .split_once('/')
            .map_or((rest, String::new()), |(authority, path)| (authority, format!("/{path}")));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, if secure { 443 } else { 80 }),
        };
        let clean = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let right = !host.is_empty() && clean(host) && clean(&path) && !host.contains('@');
        right.then(|| Url { text: text.to_owned(), secure, host: host.to_owned(), port, path, token: None })
    }

    /// The same with the token that is in a file, on its first line. It is sent over TLS, or to this machine, and to
    /// nobody else.
    pub fn with_token_of(mut self, file: &Path) -> Result<Self, String> {
        let here = matches!(self.host.as_str(), "localhost" | "127.0.0.1" | "::1");
        if !self.secure && !here {
            return Err("a token goes over TLS only (https://), or to this machine".to_owned());
        }
        let mut text = String::new();
        let opened = File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
        opened
            .take(TOKEN_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        let token = text.lines().next().unwrap_or_default().trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("{} has no token on its first line", file.display()));
        }
        self.token = Some(Token(token.to_owned()));
        Ok(self)
    }

    /// Asks for a path below the address; the answer is JSON.
    pub fn get(&self, path: &str) -> Result<Value, String> {
        self.ask("GET", path, None)
    }

    /// Asks something of a path below the address, perhaps with JSON; the answer is JSON.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let content = body.map(Value::to_string).unwrap_or_default();
        let head = match body {
            Some(_) => format!("Content-Type: application/json\r\nContent-Length: {}\r\n", content.len()),
            None => String::new(),
        };
        let token = self.token.as_ref().map(|Token(token)| format!("Authorization: Bearer {token}\r\n"));
        let request = format!(
            "{method} {}{path} HTTP/1.0\r\n{}{}Accept: application/json\r\n{head}\r\n{content}",
            self.path,
            self.host(),
            token.unwrap_or_default(),
        );
        let (status, body) = self.exchange(request.as_bytes())?;
        let value: Result<Value, _> = serde_json::from_slice(&body);
        if !(200..300).contains(&status) {
            let detail = value.ok().and_then(|value| Some(value["detail"].as_str()?.to_owned()));
            return Err(format!(
                "the answer is {status}{}",
                detail.map(|why| format!(": {why}")).unwrap_or_default()
            ));
        }
        value.map_err(|error| error.to_string())
    }

    /// Sends JSON to the address.
    pub fn post(&self, body: &[u8]) -> Result<(), String> {
        let path = if self.path.is_empty() { "/" } else { &self.path };
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.0\r\n{}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n",
            self.host()
        );
        let (status, _) = self.exchange(&[head.as_bytes(), body].concat())?;
        if (200..300).contains(&status) { Ok(()) } else { Err(format!("the answer is {status}")) }
    }

    fn host(&self) -> String {
        format!("Host: {}:{}\r\n", self.host, self.port)
    }

    /// Sends a request; the answer's status and body.
    fn exchange(&self, request: &[u8]) -> Result<(u16, Vec<u8>), String> {
        let stream = self.connect()?;
        stream.set_read_timeout(Some(TIME_MAX)).map_err(text)?;
        stream.set_write_timeout(Some(TIME_MAX)).map_err(text)?;
        if !self.secure {
            return talk(stream, request);
        }
        let name = ServerName::try_from(self.host.clone()).map_err(|_| "the name cannot be proved")?;
        let connection = ClientConnection::new(trusting()?, name).map_err(|error| error.to_string())?;
        talk(StreamOwned::new(connection, stream), request)
    }

    fn connect(&self) -> Result<TcpStream, String> {
        let addresses =
            (self.host.as_str(), self.port).to_socket_addrs().map_err(|error| error.to_string())?;
        let mut last = "the name has no address".to_owned();
        for address in addresses.take(ADDRESSES_MAX) {
            match TcpStream::connect_timeout(&address, TIME_MAX / 2) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    }
}

/// Whom this machine trusts, read when it is first needed.
fn trusting() -> Result<Arc<ClientConfig>, String> {
    static KNOWN: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    KNOWN.get_or_init(|| tls::trusting().map_err(|error| format!("failed to {error}"))).clone()
}

fn text(error: io::Error) -> String {
    error.to_string()
}

fn talk(mut stream: impl Read + Write, request: &[u8]) -> Result<(u16, Vec<u8>), String> {
    stream.write_all(request).map_err(text)?;
    let (mut answer, until) = (Vec::new(), Instant::now() + TIME_MAX);
    let mut piece = [0; 16 * 1024];
    let split = loop {
        let split = answer.windows(4).position(|window| window == b"\r\n\r\n");
        let length = split.and_then(|split| length(&answer[..split]));
        if let (Some(split), Some(length)) = (split, length)
            && answer.len() >= split + 4 + length
        {
            answer.truncate(split + 4 + length);
            break split;
        }
        match stream.read(&mut piece).map_err(text)? {
            0 if length.is_some() => return Err("the answer was cut off".to_owned()),
            0 => break split.ok_or("the answer has no head")?,
            count => answer.extend_from_slice(&piece[..count]),
        }
        if answer.len() > ANSWER_BYTES_MAX || Instant::now() > until {
            return Err("the answer is too long".to_owned());
        }
    };
    let head = String::from_utf8_lossy(&answer[..split]);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or("the answer has no status")?, answer.split_off(split + 4)))
}

/// How long a head says that the body is.
fn length(head: &[u8]) -> Option<usize> {
    let head = String::from_utf8_lossy(head);
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_other_services() {
        let check = |text: &str, host: &str, port| {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.host.as_str(), url.port), (host, port), "{text}");
        };
        check("http://xpu-manager:12788", "xpu-manager", 12788);
        check("http://[::1]:80/", "::1", 80);
        check("http://10.0.0.1/base", "10.0.0.1", 80);
        check("https://hooks.example.org/a/b", "hooks.example.org", 443);
        check("https://[::1]:8443", "::1", 8443);
        for wrong in [
            "",
            "ftp://a",
            "https://",
            "http://",
            "http://a b",
            "http://u@h",
            "http://h:99999",
            "http://h\r\nx",
        ] {
            assert_eq!(Url::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_answer_is_as_long_as_it_says_or_as_the_connection() {
        struct Script(&'static [u8]);
        impl Read for Script {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                // A byte at a time, so that the head comes in pieces.
                let count = self.0.len().min(1);
                into[..count].copy_from_slice(&self.0[..count]);
                self.0 = &self.0[count..];
                Ok(count)
            }
        }
        impl Write for Script {
            fn write(&mut self, from: &[u8]) -> io::Result<usize> {
                Ok(from.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let check = |answer: &'static str, expected: Result<(u16, &str), &str>| {
            let found = talk(Script(answer.as_bytes()), b"GET / HTTP/1.0\r\n\r\n");
            let expected = expected.map(|(status, body)| (status, body.as_bytes().to_vec()));
            assert_eq!(found, expected.map_err(str::to_owned), "{answer:?}");
        };
        check("HTTP/1.0 200 OK\r\n\r\n{}", Ok((200, "{}")));
        check("HTTP/1.1 200 OK\r\ncontent-Length: 2\r\n\r\n{}more", Ok((200, "{}")));
        check("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Ok((204, "")));
        check("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n{}", Err("the answer was cut off"));
        check("HTTP/1.0 200 OK\r\n", Err("the answer has no head"));
        check("nothing\r\n\r\n", Err("the answer has no status"));
    }
}
