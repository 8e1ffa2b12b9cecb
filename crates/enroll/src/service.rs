//! The authority's service: takes machines in, renews certificates and lets nodes go.
//!
//! One thread per connection, one question per connection. Whoever guesses tokens waits for each answer, in places that are
//! few; a right token is looked at before anything that guesses cost. Connections are few, too, and few of one
//! address, and each has a deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use minka_access::Guesses;
use minka_link::roster::{AUTHORITY_FILES, Admitted, Roster, RosterError};
use minka_link::{Credentials, KeyError, NodeKeys};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tracing::{debug, info, warn};

use crate::message::{Answer, Ask, Question, REQUEST_BYTES_MAX, VERSION, read_line, write_line};
use crate::push;
use crate::token::{TokenError, Tokens};

/// Connections at a time, of all and of one address.
const CONNECTIONS_MAX: usize = 128;
const CONNECTIONS_OF_ONE_MAX: usize = 32;

/// How long a connection may take for everything.
const TIME_MAX: Duration = Duration::from_secs(10);

/// An answer to a guesser comes so late at most, and to so many guessers at a time; others are answered at once.
const WAIT_MAX: Duration = Duration::from_secs(2);
const WAITING_MAX: usize = 24;

/// So long the service uses one certificate, which holds for longer.
const CERTIFICATE_TIME: Duration = Duration::from_secs(10 * 60);

/// How often it is looked after an authority that is taking another one's place.
const LOOK: Duration = Duration::from_secs(5);

/// Why the service cannot go on, or could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The cluster's directory cannot be used.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// The tokens cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// The authority cannot show who it is.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The same.
    #[error("use the keys of the authority")]
    Tls(#[source] rustls::Error),
}

/// What the service shows of itself, since when, and of which authorities.
#[derive(Debug)]
struct Shown {
    made: Instant,
    authorities: [Option<SystemTime>; 2],
    config: Arc<ServerConfig>,
}

/// The service of one cluster.
#[derive(Debug)]
pub struct Service {
    directory: PathBuf,
    shown: Mutex<Option<Shown>>,
    guesses: Mutex<Guesses>,
    waiting: Mutex<usize>,
    connections: Mutex<BTreeMap<IpAddr, usize>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    /// The service of the cluster in a directory.
    ///
    /// # Errors
    /// When there is none, or its authority cannot be used.
    pub fn new(directory: &Path) -> Result<Arc<Self>, ServiceError> {
        let service = Service {
            directory: directory.to_owned(),
            shown: Mutex::default(),
            guesses: Mutex::default(),
            waiting: Mutex::default(),
            connections: Mutex::default(),
        };
        service.config()?;
        Ok(Arc::new(service))
    }

    /// Looks after an authority that is taking another one's place. Never returns.
    pub fn look_after_succession(&self) {
        let mut missing = BTreeSet::new();
        loop {
            match push::continue_succession(&self.directory) {
                Ok(Some(succession)) if succession.finished => {
                    info!("all nodes have new certificates: the former authority is none any more");
                }
                Ok(Some(succession)) if succession.missing != missing => {
                    info!(missing = ?succession.missing, "nodes without a certificate by the new authority");
                    missing = succession.missing;
                }
                Ok(_) => {}
                Err(error) => warn!(error = %chain(&error), "could not look after the new authority"),
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Takes connections. Never returns.
    pub fn serve(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let (stream, from) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "a connection could not be taken");
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                }
            };
            let Some(place) = Place::take(self, from.ip()) else {
                debug!(%from, "turned a connection away: there are too many");
                continue;
            };
            std::thread::spawn(move || {
                if let Err(error) = place.service.attend(stream, from) {
                    debug!(%from, %error, "a connection ended early");
                }
                drop(place);
            });
        }
    }

    /// What the service shows of itself.
    fn config(&self) -> Result<Arc<ServerConfig>, ServiceError> {
        let mut shown = lock(&self.shown);
        let authorities = self.authorities();
        if let Some(shown) = &*shown
            && shown.made.elapsed() < CERTIFICATE_TIME
            && shown.authorities == authorities
        {
            return Ok(Arc::clone(&shown.config));
        }
        let roster = Roster::open(&self.directory)?;
        let keys = roster.authority().own_keys(roster.list().version.max(1))?;
        drop(roster);
        let config = Arc::new(config(&keys)?);
        *shown = Some(Shown { made: Instant::now(), authorities, config: Arc::clone(&config) });
        Ok(config)
    }

    /// When the files were changed that say who the authority is.
    fn authorities(&self) -> [Option<SystemTime>; 2] {
        AUTHORITY_FILES.map(|file| self.directory.join(file).metadata().ok()?.modified().ok())
    }

    fn attend(&self, stream: TcpStream, from: SocketAddr) -> io::Result<()> {
        let config = self.config().map_err(io::Error::other)?;
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        let until = Instant::now() + TIME_MAX;
        let mut stream = StreamOwned::new(connection, Hurried { stream, until });
        let question: Question = read_line(&mut stream, REQUEST_BYTES_MAX)?;
        let certificate =
            stream.conn.peer_certificates().and_then(<[_]>::first).map(|it| it.clone().into_owned());
        let answer = match question {
            Question { version, .. } if version != VERSION => {
                refused(format!("this service speaks version {VERSION}, not {version}"))
            }
            Question { ask, .. } => self.answer(ask, certificate.as_ref(), from.ip()),
        };
        write_line(&mut stream, &answer)?;
        stream.conn.send_close_notify();
        stream.flush()
    }

    fn answer(&self, ask: Ask, certificate: Option<&CertificateDer<'_>>, from: IpAddr) -> Answer {
        let outcome = match ask {
            Ask::Join { token, name, address, others, port, request } => {
                let address = SocketAddr::new(address.unwrap_or(from).to_canonical(), port);
                self.join(&token, from, &name, (address, &others), |roster| {
                    roster.admit(&name, address, &others, &request)
                })
            }
            Ask::Renew { request, refuse_old } => self.of_member(certificate, |roster, name| {
                let admitted = roster.renew(name, &request, refuse_old)?;
                info!(%from, name, refuse_old, "renewed a certificate");
                Ok(answer(admitted))
            }),
            Ask::Confirm => self.confirmed(certificate),
            Ask::Leave => self.of_member(certificate, |roster, name| {
                roster.remove(name)?;
                info!(%from, name, "a node has left");
                Ok(Answer::Done)
            }),
        };
        outcome.unwrap_or_else(|error| {
            warn!(%from, %error, "could not do what was asked");
            refused(chain(&error))
        })
    }

    fn join(
        &self,
        token: &crate::token::Shown,
        from: IpAddr,
        name: &str,
        (address, others): (SocketAddr, &[IpAddr]),
        admit: impl FnOnce(&mut Roster) -> Result<Admitted, RosterError>,
    ) -> Result<Answer, ServiceError> {
        // Without the lock, so that nobody who guesses keeps others from it.
        if !Tokens::read(&self.directory, SystemTime::now())?.knows(token) {
            return Ok(self.guessed(from));
        }
        let mut roster = Roster::open(&self.directory)?;
        let mut tokens = Tokens::read(&self.directory, SystemTime::now())?;
        if !tokens.knows(token) {
            return Ok(self.guessed(from));
        }
        // A name that is taken does not cost the token.
        roster.check(name, address, others)?;
        if !tokens.take(token)? {
            return Ok(self.guessed(from));
        }
        let admitted = admit(&mut roster)?;
        info!(%from, name, %address, "a machine has joined");
        push::in_background(&roster, None);
        Ok(answer(admitted))
    }

    /// A node shows that it has a certificate which it was given.
    fn confirmed(&self, certificate: Option<&CertificateDer<'_>>) -> Result<Answer, ServiceError> {
        self.of_member(certificate, |roster, name| {
            let shown = certificate.is_some_and(|it| roster.authority().has_issued(it));
            if shown {
                roster.note_renewed([name.to_owned()])?;
            }
            Ok(Answer::Done)
        })
    }

    /// Does something for a node that shows its certificate.
    fn of_member(
        &self,
        certificate: Option<&CertificateDer<'_>>,
        act: impl FnOnce(&mut Roster, &str) -> Result<Answer, RosterError>,
    ) -> Result<Answer, ServiceError> {
        let Some(certificate) = certificate else {
            return Ok(refused("this is only done for nodes, and they show their certificates".to_owned()));
        };
        let mut roster = Roster::open(&self.directory)?;
        let credentials = Credentials::new(&roster.authority().own_keys(roster.list().version.max(1))?)?;
        credentials.refuse(roster.list().refused.clone());
        let name = match credentials.admit(certificate) {
            Ok(name) => name,
            Err(error) => return Ok(refused(format!("failed to {error}"))),
        };
        let address = roster.nodes().get(&*name).copied();
        let version = roster.list().version;
        let answer = act(&mut roster, &name)?;
        if roster.list().version == version {
            return Ok(answer);
        }
        let left = address.filter(|_| !roster.nodes().contains_key(&*name));
        push::in_background(&roster, left.map(|address| (name.to_string(), address)));
        Ok(answer)
    }

    /// A token was wrong: whoever showed it waits, if there is a place to wait in.
    fn guessed(&self, from: IpAddr) -> Answer {
        let wait = lock(&self.guesses).count(from, Instant::now());
        warn!(%from, ?wait, "refused a machine: its token is wrong");
        if let Some(seconds) = wait
            && self.may_wait()
        {
            std::thread::sleep(Duration::from_secs(seconds).min(WAIT_MAX));
            *lock(&self.waiting) -= 1;
        }
        refused("the token is wrong, was used or is too old".to_owned())
    }

    fn may_wait(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        let free = *waiting < WAITING_MAX;
        *waiting += usize::from(free);
        free
    }
}

/// A connection's place.
struct Place {
    service: Arc<Service>,
    from: IpAddr,
}

impl Place {
    fn take(service: &Arc<Service>, from: IpAddr) -> Option<Self> {
        let mut connections = lock(&service.connections);
        let own = connections.get(&from).copied().unwrap_or(0);
        if own >= CONNECTIONS_OF_ONE_MAX || connections.values().sum::<usize>() >= CONNECTIONS_MAX {
            return None;
        }
        connections.insert(from, own + 1);
        drop(connections);
        Some(Place { service: Arc::clone(service), from })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connections = lock(&self.service.connections);
        if let Some(count) = connections.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.from);
            }
        }
    }
}

/// A stream that has to be done with by then.
pub(crate) struct Hurried {
    pub(crate) stream: TcpStream,
    pub(crate) until: Instant,
}

impl Hurried {
    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Hurried {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Hurried {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn config(keys: &NodeKeys) -> Result<ServerConfig, ServiceError> {
    let malformed =
        |error: rustls::pki_types::pem::Error| ServiceError::Tls(rustls::Error::General(error.to_string()));
    let provider = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(keys.authority.as_bytes()) {
        roots.add(certificate.map_err(malformed)?).map_err(ServiceError::Tls)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| ServiceError::Tls(rustls::Error::General(error.to_string())))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(keys.certificate.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(keys.key.as_bytes()).map_err(malformed)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(ServiceError::Tls)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.map_err(malformed)?, key)
        .map_err(ServiceError::Tls)?;
    // Nobody comes back so soon that it would be worth while.
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn answer(admitted: Admitted) -> Answer {
    let Admitted { authority, certificate, list } = admitted;
    Answer::Admitted { authority, certificate, list }
}

fn refused(reason: String) -> Answer {
    Answer::Refused { reason }
}

/// An error and its sources, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let causes: String = causes.map(|cause| format!(": {cause}")).collect();
    format!("failed to {error}{causes}")
}
