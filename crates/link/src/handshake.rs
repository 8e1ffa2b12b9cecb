//! The TLS handshake, and what both sides say to confirm it.
//!
//! ```text
//!  connecting node                                   accepting node
//!  ───────────────                                   ──────────────
//!  preamble in clear, ClientHello         ──────►
//!                                         ◄──────    ServerHello … Certificate, Finished
//!  Certificate, Finished, {preamble}      ──────►    both preambles are the same?
//!                                         ◄──────    {session ticket}, {preamble}
//! ```
//!
//! What is in braces is encrypted. The preamble inside TLS is what binds the connection to its session: the one in clear
//! could have been changed on the way. The answer tells the connecting node that it was accepted; without it, TLS 1.3
//! would leave that open until the first message comes back. It also carries a ticket along, with which the next
//! channel of these two skips the certificates. Further channels of a session have no handshake (`further`).

use std::net::TcpStream;

use minka_wire::preamble::{PREAMBLE_BYTES, Preamble};
use rustls::{
    CommonState, ExtractedSecrets,
    client::{ClientConnectionData, UnbufferedClientConnection},
    kernel::KernelConnection,
    pki_types::CertificateDer,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic},
};

use crate::{
    credentials::{self, Credentials},
    error::ChannelError,
    further::Schedule,
    record::{Protection, RECORD_BYTES_MAX},
    socket::{self, Deadline},
};

/// No flight of a handshake between nodes is near as long, in bytes: a certificate takes some 500.
const INCOMING_BYTES_MAX: usize = 4 * RECORD_BYTES_MAX;
/// How much to ask the kernel for at once, in bytes.
const READ_BYTES: usize = 8 << 10;

/// What a handshake leaves behind.
pub(crate) struct Agreement {
    /// The node at the other end.
    pub(crate) peer: Box<str>,
    /// The keys of both directions.
    pub(crate) sending: Protection,
    pub(crate) receiving: Protection,
    /// Where further keys come from.
    pub(crate) keys: KeySchedule,
    /// What the peer sent after its part of the handshake: encrypted, and not looked at yet.
    pub(crate) incoming: Vec<u8>,
    /// Whether certificates were skipped, as the two had spoken shortly before.
    pub(crate) resumed: bool,
}

/// Derives new keys from the old ones when these have protected enough.
pub(crate) enum KeySchedule {
    /// Of a channel that has no handshake.
    Further(Schedule),
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl KeySchedule {
    /// The next keys for what this end sends.
    pub(crate) fn next_sending(&mut self) -> Result<Protection, ChannelError> {
        let secrets = match self {
            KeySchedule::Further(schedule) => return schedule.next_sending(),
            KeySchedule::Client(connection) => connection.update_tx_secret(),
            KeySchedule::Server(connection) => connection.update_tx_secret(),
        };
        Protection::new(secrets.map_err(ChannelError::Keys)?)
    }

    /// The next keys for what the peer sends.
    pub(crate) fn next_receiving(&mut self) -> Result<Protection, ChannelError> {
        let secrets = match self {
            KeySchedule::Further(schedule) => return schedule.next_receiving(),
            KeySchedule::Client(connection) => connection.update_rx_secret(),
            KeySchedule::Server(connection) => connection.update_rx_secret(),
        };
        Protection::new(secrets.map_err(ChannelError::Keys)?)
    }
}

/// Makes the handshake of the node that connects, with the peer of that name.
pub(crate) fn connect(
    credentials: &Credentials,
    stream: &TcpStream,
    peer: &str,
    preamble: &Preamble,
    deadline: Deadline,
) -> Result<Agreement, ChannelError> {
    let name = credentials::server_name(peer)?;
    let side =
        UnbufferedClientConnection::new(credentials.client(), name).map_err(ChannelError::Handshake)?;
    let mut dialogue = Dialogue::new(side, stream, deadline);
    // Together with the ClientHello, in one segment.
    dialogue.outgoing.extend_from_slice(&preamble.encode());
    let answer = dialogue.talk(Some(&preamble.encode()), true)?;
    if answer != Some(preamble.encode()) {
        return Err(ChannelError::PreambleChanged);
    }
    let peer = dialogue.judge(credentials)?;
    dialogue.finish(peer)
}

/// Makes the handshake of the node that accepts, which has read `preamble` in clear.
pub(crate) fn accept(
    credentials: &Credentials,
    stream: &TcpStream,
    preamble: &Preamble,
    deadline: Deadline,
) -> Result<Agreement, ChannelError> {
    let side = UnbufferedServerConnection::new(credentials.server(preamble.purpose))
        .map_err(ChannelError::Handshake)?;
    let mut dialogue = Dialogue::new(side, stream, deadline);
    let said = dialogue.talk(None, true)?;
    if said != Some(preamble.encode()) {
        return Err(ChannelError::PreambleChanged);
    }
    // Also where certificates were skipped: they are those that were shown the first time.
    let peer = dialogue.judge(credentials)?;
    dialogue.talk(Some(&preamble.encode()), false)?;
    dialogue.finish(peer)
}

/// The two ends of rustls's interface look alike, but have no name in common.
trait Side {
    type Data;
    fn step<'connection, 'incoming>(
        &'connection mut self,
        incoming: &'incoming mut [u8],
    ) -> UnbufferedStatus<'connection, 'incoming, Self::Data>;
    fn state(&self) -> &CommonState;
    fn finish(self) -> Result<(ExtractedSecrets, KeySchedule), rustls::Error>;
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn step<'connection, 'incoming>(
        &'connection mut self,
        incoming: &'incoming mut [u8],
    ) -> UnbufferedStatus<'connection, 'incoming, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn state(&self) -> &CommonState {
        self
    }

    fn finish(self) -> Result<(ExtractedSecrets, KeySchedule), rustls::Error> {
        let (secrets, connection) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, KeySchedule::Client(connection)))
    }
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn step<'connection, 'incoming>(
        &'connection mut self,
        incoming: &'incoming mut [u8],
    ) -> UnbufferedStatus<'connection, 'incoming, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn state(&self) -> &CommonState {
        self
    }

    fn finish(self) -> Result<(ExtractedSecrets, KeySchedule), rustls::Error> {
        let (secrets, connection) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, KeySchedule::Server(connection)))
    }
}

/// A handshake in progress.
struct Dialogue<'stream, S> {
    side: S,
    stream: &'stream TcpStream,
    deadline: Deadline,
    /// What came from the peer and rustls has not taken yet.
    incoming: Vec<u8>,
    /// What goes to the peer next.
    outgoing: Vec<u8>,
}

impl<'stream, S: Side> Dialogue<'stream, S> {
    fn new(side: S, stream: &'stream TcpStream, deadline: Deadline) -> Self {
        Dialogue { side, stream, deadline, incoming: Vec::new(), outgoing: Vec::new() }
    }

    /// Goes on with the handshake until it is over, `say` is said, and, if `listen`, the peer has said as much.
    fn talk(
        &mut self,
        mut say: Option<&[u8]>,
        listen: bool,
    ) -> Result<Option<[u8; PREAMBLE_BYTES]>, ChannelError> {
        let mut heard = None;
        loop {
            let UnbufferedStatus { mut discard, state, .. } = self.side.step(&mut self.incoming);
            let mut starved = false;
            let step = match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, &mut self.outgoing),
                Ok(ConnectionState::TransmitTlsData(mut data)) => {
                    // What is to be said goes along in the same segment, as soon as there are keys for it.
                    let said = data.may_encrypt_app_data().zip(say).map(|(mut traffic, words)| {
                        say = None;
                        encrypt(&mut traffic, words, &mut self.outgoing)
                    });
                    data.done();
                    said.unwrap_or(Ok(()))
                        .and_then(|()| transmit(self.stream, self.deadline, &mut self.outgoing))
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => match say.take() {
                    Some(words) => encrypt(&mut traffic, words, &mut self.outgoing)
                        .and_then(|()| transmit(self.stream, self.deadline, &mut self.outgoing)),
                    None => {
                        starved = true;
                        Ok(())
                    }
                },
                Ok(ConnectionState::BlockedHandshake) => {
                    starved = true;
                    Ok(())
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    let mut step = Ok(());
                    while let (Ok(()), Some(record)) = (&step, traffic.next_record()) {
                        step = record.map_err(ChannelError::Handshake).and_then(|record| {
                            discard += record.discard;
                            hear(&mut heard, record.payload)
                        });
                    }
                    step
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Err(ChannelError::PeerClosed),
                Ok(_) => Err(ChannelError::Protocol("early data, which was not offered")),
                Err(error) => Err(ChannelError::Handshake(error)),
            };
            self.incoming.drain(..discard);
            if let Err(error) = step {
                self.excuse();
                return Err(error);
            }
            if say.is_none() && self.outgoing.is_empty() && (heard.is_some() || !listen) {
                return Ok(heard);
            }
            if starved {
                self.read()?;
            }
        }
    }

    fn read(&mut self) -> Result<(), ChannelError> {
        let filled = self.incoming.len();
        if filled >= INCOMING_BYTES_MAX {
            return Err(ChannelError::Protocol("a handshake that is too long"));
        }
        self.incoming.resize(filled + READ_BYTES, 0);
        let count = self.deadline.read(self.stream, &mut self.incoming[filled..]);
        self.incoming.truncate(filled + *count.as_ref().unwrap_or(&0));
        match count? {
            0 => Err(ChannelError::Dropped),
            _ => Ok(()),
        }
    }

    /// Tells the peer why this end gives up, as far as it still listens.
    fn excuse(&mut self) {
        // Not a step further than there is something to say: after an error rustls must not be made to look at its input.
        while self.side.state().wants_write() {
            let UnbufferedStatus { state: Ok(ConnectionState::EncodeTlsData(mut data)), .. } =
                self.side.step(&mut self.incoming)
            else {
                return;
            };
            if encode(&mut data, &mut self.outgoing).is_err() {
                return;
            }
        }
        // A failure to excuse oneself must not hide the reason for the excuse.
        let _ = self.deadline.write_all(self.stream, &self.outgoing);
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        // Unread data at the time of closing would make the kernel cut the connection before the alert is read.
        let mut rest = [0; READ_BYTES];
        while matches!(socket::recv_now(self.stream, &mut rest), Ok(Some(1..))) {}
    }

    /// The node at the other end, if its certificate is still good.
    fn judge(&self, credentials: &Credentials) -> Result<Box<str>, ChannelError> {
        let certificate: Option<&CertificateDer<'_>> =
            self.side.state().peer_certificates().and_then(<[_]>::first);
        credentials.admit(certificate.ok_or(ChannelError::Nameless)?)
    }

    fn finish(self, peer: Box<str>) -> Result<Agreement, ChannelError> {
        let resumed = self.side.state().handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        let (secrets, keys) = self.side.finish().map_err(ChannelError::Keys)?;
        let (sending, receiving) = (Protection::new(secrets.tx)?, Protection::new(secrets.rx)?);
        Ok(Agreement { peer, sending, receiving, keys, incoming: self.incoming, resumed })
    }
}

/// Takes down what the peer said.
fn hear(heard: &mut Option<[u8; PREAMBLE_BYTES]>, words: &[u8]) -> Result<(), ChannelError> {
    let words = words.try_into().map_err(|_| ChannelError::PreambleChanged)?;
    match heard.replace(words) {
        None => Ok(()),
        Some(_) => Err(ChannelError::Protocol("more than belongs to a handshake")),
    }
}

/// Writes and forgets what is to go out.
fn transmit(stream: &TcpStream, deadline: Deadline, outgoing: &mut Vec<u8>) -> Result<(), ChannelError> {
    deadline.write_all(stream, outgoing)?;
    outgoing.clear();
    Ok(())
}

/// Appends a record of the handshake.
fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, outgoing: &mut Vec<u8>) -> Result<(), ChannelError> {
    let filled = outgoing.len();
    loop {
        match data.encode(&mut outgoing[filled..]) {
            Ok(count) => {
                outgoing.truncate(filled + count);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(error)) => outgoing.resize(filled + error.required_size, 0),
            Err(EncodeError::AlreadyEncoded) => return Ok(()),
        }
    }
}

/// Appends a record of application data.
fn encrypt<Data>(
    traffic: &mut WriteTraffic<'_, Data>,
    words: &[u8],
    outgoing: &mut Vec<u8>,
) -> Result<(), ChannelError> {
    let filled = outgoing.len();
    loop {
        match traffic.encrypt(words, &mut outgoing[filled..]) {
            Ok(count) => {
                outgoing.truncate(filled + count);
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(error)) => outgoing.resize(filled + error.required_size, 0),
            Err(EncryptError::EncryptExhausted) => {
                return Err(ChannelError::Keys(rustls::Error::EncryptError));
            }
        }
    }
}
