//! Talking to fwupd's daemon.

use std::fs::File;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use tokio::runtime::Runtime;
use zbus::{Connection, Fd, MatchRule, Message, MessageStream, OwnedVariant};

use crate::part::{Detail, Dictionary, LIST_MAX, Part, Progress, status};

const NAME: &str = "org.freedesktop.fwupd";

/// A daemon that is started by the question needs a while to look around.
const PATIENCE: Duration = Duration::from_secs(60);

/// No update takes longer.
const UPDATE_PATIENCE: Duration = Duration::from_secs(30 * 60);

/// So many signals may wait to be looked at; older ones are left out.
const SIGNALS_MAX: usize = 256;

/// No image is larger.
const IMAGE_BYTES_MAX: u64 = 256 << 20;

/// Why firmware is not known or not updated.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// There is no bus.
    #[error("reach the system's message bus, over which fwupd is asked")]
    Bus(#[source] zbus::Error),
    /// There is no daemon.
    #[error("reach fwupd: {0}")]
    NoDaemon(String),
    /// The daemon says no.
    #[error("{doing}: fwupd refuses: {reason}")]
    Refused {
        /// What was to be done.
        doing: &'static str,
        /// Its words.
        reason: String,
    },
    /// What came of talking to it.
    #[error("{doing} by fwupd")]
    Failed {
        /// What was to be done.
        doing: &'static str,
        /// What came of it.
        source: zbus::Error,
    },
    /// It has not answered.
    #[error("{0}: fwupd has not answered in time")]
    Silent(&'static str),
    /// The file is nothing for this part.
    #[error("update the firmware: the file holds none for this part")]
    OfOthers,
    /// Nobody who is trusted has signed the file.
    #[error("update the firmware: nobody whom this machine trusts has signed the file")]
    Unsigned,
    /// The file cannot be opened.
    #[error("open {path}")]
    Open {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is none.
    #[error("update the firmware: {0}")]
    Image(&'static str),
    /// The part cannot be updated.
    #[error("update the firmware: {0}")]
    NotUpdatable(String),
    /// The part is one that the kernel does not show.
    #[error(
        "update the firmware: a card's management controller has a network interface of its own, and only that takes it"
    )]
    Controller,
    /// The machine has no room for a conversation.
    #[error("talk to fwupd")]
    Runtime(#[source] std::io::Error),
}

/// A conversation with the daemon.
#[derive(Debug)]
pub struct Daemon {
    runtime: Runtime,
    connection: Connection,
}

impl Daemon {
    /// Begins a conversation over the system's bus.
    pub fn connect() -> Result<Self, FirmwareError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(FirmwareError::Runtime)?;
        let connected =
            runtime.block_on(async { tokio::time::timeout(PATIENCE, Connection::system()).await });
        let connection =
            connected.map_err(|_| FirmwareError::Silent("begin"))?.map_err(FirmwareError::Bus)?;
        Ok(Daemon { runtime, connection })
    }

    /// What has firmware.
    pub fn parts(&self) -> Result<Vec<Part>, FirmwareError> {
        let entries = self.list("list what has firmware", "GetDevices", &())?;
        Ok(entries.iter().filter_map(Part::read).collect())
    }

    /// For which parts a file is.
    pub fn details(&self, image: &File) -> Result<Vec<Detail>, FirmwareError> {
        sized(image)?;
        let entries = self.list("look into the file", "GetDetails", &Fd::from(image.as_fd()))?;
        Ok(entries.iter().map(Detail::read).collect())
    }

    /// Updates a part's firmware. A file that nobody trusted has signed is refused, also by a daemon that would take it.
    pub fn install(
        &self,
        part: &Part,
        image: &File,
        force: bool,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<(), FirmwareError> {
        if !part.updatable {
            let reason = part.hindrance.clone().unwrap_or_else(|| "fwupd cannot update this part".to_owned());
            return Err(FirmwareError::NotUpdatable(reason));
        }
        let details = self.details(image)?;
        let mut meant = details.iter().filter(|detail| detail.guids.iter().any(|id| part.guids.contains(id)));
        let detail = meant.next().ok_or(FirmwareError::OfOthers)?;
        if !detail.signed {
            return Err(FirmwareError::Unsigned);
        }
        // The daemon reads where the last reader has stopped.
        rustix::fs::seek(image, rustix::fs::SeekFrom::Start(0))
            .map_err(|_| FirmwareError::Image("the file cannot be read again"))?;
        self.runtime.block_on(self.carry_out(&part.id, image, force, progress))
    }

    async fn carry_out(
        &self,
        id: &str,
        image: &File,
        force: bool,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<(), FirmwareError> {
        const DOING: &str = "update the firmware";
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .path("/")
            .interface("org.freedesktop.DBus.Properties")
            .member("PropertiesChanged")
            .build()
            .map_err(|error| wrong(DOING, error))?;
        let signals = MessageStream::for_match_rule(rule, &self.connection, NonZeroUsize::new(SIGNALS_MAX));
        let mut signals = signals.await.map_err(|error| wrong(DOING, error))?;
        let yes = |answer: bool| OwnedVariant::from(answer);
        let mut options =
            Dictionary::from([("reason".to_owned(), OwnedVariant::from(zbus::Str::from("user-action")))]);
        if force {
            options.extend(["allow-reinstall", "allow-older"].map(|name| (name.to_owned(), yes(true))));
        }
        let body = (id, Fd::from(image.as_fd()), options);
        let call = self.connection.call_method(Some(NAME), "/", Some(NAME), "Install", &body);
        let call = tokio::time::timeout(UPDATE_PATIENCE, call);
        let mut call = std::pin::pin!(call);
        let mut seen = Progress::default();
        let outcome = loop {
            let signal = poll_fn(|context| Pin::new(&mut signals).poll_next(context));
            tokio::select! {
                biased;
                Some(Ok(signal)) = signal => {
                    if update(&mut seen, &signal) {
                        progress(&seen);
                    }
                }
                outcome = &mut call => break outcome,
            }
        };
        outcome.map_err(|_| FirmwareError::Silent(DOING))?.map_err(|error| wrong(DOING, error))?;
        Ok(())
    }

    fn list<B>(&self, doing: &'static str, method: &str, body: &B) -> Result<Vec<Dictionary>, FirmwareError>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let call = self.connection.call_method(Some(NAME), "/", Some(NAME), method, body);
        let answer = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, call).await });
        let answer =
            answer.map_err(|_| FirmwareError::Silent(doing))?.map_err(|error| wrong(doing, error))?;
        let mut entries: Vec<Dictionary> =
            answer.body().deserialize().map_err(|source| FirmwareError::Failed { doing, source })?;
        entries.truncate(LIST_MAX);
        Ok(entries)
    }
}

/// Takes what a signal says of the progress; `false` when it says nothing of that.
fn update(seen: &mut Progress, signal: &Message) -> bool {
    let body = signal.body();
    let Ok((interface, changed, _)) = body.deserialize::<(String, Dictionary, Vec<String>)>() else {
        return false;
    };
    let before = seen.clone();
    let number = |name: &str| changed.get(name).and_then(|value| value.downcast_ref::<u32>().ok());
    if interface == NAME {
        if let Some(number) = number("Status") {
            seen.status = status(number);
        }
        if let Some(percent) = number("Percentage") {
            // 101 is the daemon's word for not knowing.
            seen.percent = (percent <= 100).then_some(percent);
        }
    }
    *seen != before
}

fn sized(image: &File) -> Result<(), FirmwareError> {
    let file = image.metadata().map_err(|_| FirmwareError::Image("the file cannot be read"))?;
    match file.len() {
        _ if !file.is_file() => Err(FirmwareError::Image("this is no file")),
        0 => Err(FirmwareError::Image("the file is empty")),
        length if length > IMAGE_BYTES_MAX => {
            Err(FirmwareError::Image("the file is larger than any firmware"))
        }
        _ => Ok(()),
    }
}

/// What the bus or the daemon said.
fn wrong(doing: &'static str, error: zbus::Error) -> FirmwareError {
    match error {
        zbus::Error::MethodError(name, text, _) => {
            let words: String = text.unwrap_or_else(|| name.to_string()).chars().take(400).collect();
            if name.starts_with("org.freedesktop.DBus.Error.") {
                FirmwareError::NoDaemon(words)
            } else {
                FirmwareError::Refused { doing, reason: words }
            }
        }
        source => FirmwareError::Failed { doing, source },
    }
}
