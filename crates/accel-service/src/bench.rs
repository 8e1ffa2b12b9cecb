//! What watching costs, on recorded machines of 1, 8 and 64 cards.
//!
//! Each machine is watched as the service watches it, five times a second for one whole round of settings; the
//! processor's time for a sample is then what a second costs at the usual interval. Files are those of the
//! recordings, on whatever holds the temporary directory: a driver may take longer to answer than a file does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use minka_accel::{Root, Station, fixture};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::server::{self, App, Options, ServeError};

/// What was measured. Shares are of one processor, at one sample a second.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Figures {
    /// Share of a processor for one card.
    pub cpu_share_1: f64,
    /// Share of a processor for 8 cards.
    pub cpu_share_8: f64,
    /// Share of a processor for 64 cards.
    pub cpu_share_64: f64,
    /// Calls of the system to read, for a sample of one card.
    pub read_calls_1: f64,
    /// Calls of the system to read, for a sample of all of 8 cards.
    pub read_calls_8: f64,
    /// Calls of the system to read, for a sample of all of 64 cards.
    pub read_calls_64: f64,
    /// Memory of this whole program while it watches 8 cards, in MiB.
    pub rss_mib: f64,
    /// Memory of this whole program while it serves 64 cards, in MiB.
    pub rss_mib_64: f64,
    /// Half of the scrapes of 8 cards are faster, in ms.
    pub scrape_p50_ms_8: f64,
    /// 99 of 100 scrapes of 8 cards are faster, in ms.
    pub scrape_p99_ms_8: f64,
    /// Half of the scrapes of 64 cards are faster, in ms.
    pub scrape_p50_ms_64: f64,
    /// 99 of 100 scrapes of 64 cards are faster, in ms.
    pub scrape_p99_ms_64: f64,
    /// Bytes of a scrape of 64 cards.
    pub scrape_bytes_64: usize,
    /// Samples of power a second, per card.
    pub samples_per_second: f64,
    /// Samples of power a second that XPU Manager 1 takes, per card: one every 80 ms.
    pub xpum_samples_per_second: f64,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The recorded machines could not be written.
    #[error("write the recorded machines")]
    Plant(#[source] std::io::Error),
    /// What the kernel says of this program could not be read.
    #[error("read {0}")]
    Account(&'static str, #[source] std::io::Error),
    /// The service could not be started.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The service did not answer.
    #[error("scrape the service")]
    Scrape(#[source] std::io::Error),
}

/// The samples of one round of settings.
const SAMPLES: u32 = 30;
const INTERVAL: Duration = Duration::from_millis(200);
const SCRAPES: usize = 1000;

/// Measures; takes about half a minute.
pub fn run() -> Result<Figures, BenchError> {
    let mut figures =
        Figures { samples_per_second: 1.0, xpum_samples_per_second: 12.5, ..Figures::default() };
    for cards in [1, 8, 64] {
        let directory = tempfile::tempdir().map_err(BenchError::Plant)?;
        fixture::plant_machine(directory.path(), cards).map_err(BenchError::Plant)?;
        let root = Root::at(directory.path()).keeping_files();
        let (share, reads, memory) = watch(&root)?;
        let scraped = if cards == 1 {
            Scraped::default()
        } else {
            scrape(&root, directory.path().join("tokens.toml"))?
        };
        match cards {
            1 => (figures.cpu_share_1, figures.read_calls_1) = (share, reads),
            8 => {
                (figures.cpu_share_8, figures.read_calls_8, figures.rss_mib) = (share, reads, memory);
                (figures.scrape_p50_ms_8, figures.scrape_p99_ms_8) = (scraped.p50_ms, scraped.p99_ms);
            }
            _ => {
                (figures.cpu_share_64, figures.read_calls_64) = (share, reads);
                (figures.scrape_p50_ms_64, figures.scrape_p99_ms_64) = (scraped.p50_ms, scraped.p99_ms);
                (figures.scrape_bytes_64, figures.rss_mib_64) = (scraped.bytes, scraped.memory_mib);
            }
        }
    }
    Ok(figures)
}

/// Share of a processor at one sample a second, reads for a sample, and memory in MiB.
fn watch(root: &Root) -> Result<(f64, f64, f64), BenchError> {
    let station = Station::start(root.clone(), INTERVAL);
    station.settle(Duration::from_secs(30));
    let (processor, reads) = (processor_seconds(), account("/proc/self/io", "syscr:")?);
    std::thread::sleep(INTERVAL * SAMPLES);
    let processor = processor_seconds() - processor;
    let reads = account("/proc/self/io", "syscr:")? - reads;
    let memory = account("/proc/self/status", "VmRSS:")? / 1024.0;
    let samples = f64::from(SAMPLES);
    Ok((processor / samples, reads / samples, memory))
}

fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn account(path: &'static str, field: &str) -> Result<f64, BenchError> {
    let text = std::fs::read_to_string(path).map_err(|error| BenchError::Account(path, error))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| BenchError::Account(path, std::io::ErrorKind::InvalidData.into()))
}

#[derive(Debug, Default)]
struct Scraped {
    p50_ms: f64,
    p99_ms: f64,
    bytes: usize,
    memory_mib: f64,
}

fn scrape(root: &Root, tokens: PathBuf) -> Result<Scraped, BenchError> {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = Options {
        listen,
        root: root.clone(),
        interval: Some(Duration::from_secs(1)),
        state: tokens.with_file_name("xpu.toml"),
        dumps: PathBuf::from("/nonexistent"),
        limits: minka_accel::Limits::default(),
        tokens,
        require_token: false,
        audit: None,
        python: "python3".into(),
        manager_url: None,
        manager_token: None,
        tls: None,
    };
    let app = Arc::new(App::new(&options)?);
    app.station.settle(Duration::from_secs(30));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Start)?;
    let bind = |source| ServeError::Listen { address: listen, source };
    let listener = runtime.block_on(tokio::net::TcpListener::bind(listen)).map_err(bind)?;
    let address = listener.local_addr().map_err(bind)?;
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = server::run(app, listener) => {}
                _ = end => {}
            }
        });
    });
    let measured = scrapes(address).map_err(BenchError::Scrape);
    let memory_mib = account("/proc/self/status", "VmRSS:")? / 1024.0;
    drop(ended);
    let _ = server.join();
    let (mut times, bytes) = measured?;
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or(0.0);
    Ok(Scraped { p50_ms: at(0.5), p99_ms: at(0.99), bytes, memory_mib })
}

/// Scrapes over one connection; the times in ms and the size of the last answer.
fn scrapes(address: SocketAddr) -> std::io::Result<(Vec<f64>, usize)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let (mut times, mut size) = (Vec::with_capacity(SCRAPES), 0);
    let mut buffer = vec![0; 4 << 20];
    for _ in 0..SCRAPES {
        let begun = Instant::now();
        stream.write_all(request.as_bytes())?;
        size = answer(&mut stream, &mut buffer)?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok((times, size))
}

/// Reads one answer; the size of its body.
fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..])? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => filled += length,
        }
        let Some(head) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
        let length =
            text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
        let length = length.ok_or(std::io::ErrorKind::InvalidData)?;
        if filled >= head + 4 + length {
            return Ok(length);
        }
    }
}
