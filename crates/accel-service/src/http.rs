//! Asking others over HTTP: their devices, and to be told of policies.
//!
//! One question a connection, in version 1.0, where the answer ends with the connection; everything has a time limit
//! and answers are bounded.

use std::fmt;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use serde_json::Value;

/// No answer is longer.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// How long an answer may take.
const TIME_MAX: Duration = Duration::from_secs(10);

/// More addresses of one name are not tried.
const ADDRESSES_MAX: usize = 4;

/// Where another service is: `http://HOST[:PORT][/PATH]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    text: String,
    host: String,
    port: u16,
    path: String,
}

impl Url {
    /// The address in a text.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("http://")?.trim_end_matches('/');
        let (authority, path) = rest
            .split_once('/')
            .map_or((rest, String::new()), |(authority, path)| (authority, format!("/{path}")));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, 80),
        };
        let clean = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let right = !host.is_empty() && clean(host) && clean(&path) && !host.contains('@');
        right.then(|| Url { text: text.to_owned(), host: host.to_owned(), port, path })
    }

    /// Asks for a path below the address; the answer is JSON.
    pub fn get(&self, path: &str) -> Result<Value, String> {
        let request =
            format!("GET {}{path} HTTP/1.0\r\n{}Accept: application/json\r\n\r\n", self.path, self.host());
        let (status, body) = self.exchange(request.as_bytes())?;
        if status != 200 {
            return Err(format!("the answer is {status}"));
        }
        serde_json::from_slice(&body).map_err(|error| error.to_string())
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
        let text = |error: std::io::Error| error.to_string();
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(TIME_MAX)).map_err(text)?;
        stream.set_write_timeout(Some(TIME_MAX)).map_err(text)?;
        stream.write_all(request).map_err(text)?;
        let (mut answer, until) = (Vec::new(), Instant::now() + TIME_MAX);
        let mut piece = [0; 16 * 1024];
        loop {
            match stream.read(&mut piece).map_err(text)? {
                0 => break,
                length => answer.extend_from_slice(&piece[..length]),
            }
            if answer.len() > ANSWER_BYTES_MAX || Instant::now() > until {
                return Err("the answer is too long".to_owned());
            }
        }
        let split =
            answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or("the answer has no head")?;
        let head = String::from_utf8_lossy(&answer[..split]);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.ok_or("the answer has no status")?, answer.split_off(split + 4)))
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
        for wrong in
            ["", "https://a", "http://", "http://a b", "http://u@h", "http://h:99999", "http://h\r\nx"]
        {
            assert_eq!(Url::parse(wrong), None, "{wrong}");
        }
    }
}
