//! The side that has the device: it judges, starts, passes on, and ends what nobody hears any more.
//!
//! Threads of a program: this one hears the other node; two pass its output on; one writes its input; one waits for its
//! end. The input's queue is never longer than what may be under way, so this one never waits for it.

use std::ffi::{CString, OsStr};
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{
    Receiver as Queue, RecvTimeoutError, Sender as Pieces, SyncSender, channel, sync_channel,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use minka_kernel::spawn::{Account, belong_to, signal_group};
use minka_link::{Channel, ChannelError, Receiver, Sender};
use minka_wire::frame::Header;
use minka_wire::preamble::Preamble;
use minka_wire::start::{
    BEGINNING, Beginning, END, ERRORS, INPUT, INPUT_BYTES_MAX, ORDER, OUTPUT, Order, PIECE_BYTES_MAX,
    PROGRAM, Program, SIGNAL, TAKEN, Unstarted, VERDICT, Verdict, decode, encode, weight,
};
use minka_wire::tidy;
use nix::unistd::{Uid, User, getgrouplist};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use tracing::{debug, info};

use crate::daemon::{Daemon, chain};
use crate::protocol::FreeDevice;

/// So many programs of other nodes' users at once.
const PROGRAMS_MAX: usize = 16;

/// How long the other node may take to say what it wants, and what is to be started.
const SAY: Duration = Duration::from_secs(30);

/// How long output may come after the program has ended, from those that it has left behind.
const REST: Duration = Duration::from_secs(5);

/// How long a program whose user has gone may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// Users that `*` means: Debian's and Fedora's ordinary ones.
const ORDINARY: std::ops::Range<u32> = 1000..65534;

/// Signals that are passed on: HUP, INT, QUIT, USR1, USR2, TERM, CONT and WINCH (signal(7)).
const SIGNALS: [i32; 8] = [1, 2, 3, 10, 12, 15, 18, 28];

static PROGRAMS: AtomicUsize = AtomicUsize::new(0);

/// One of the places for programs.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let taken = PROGRAMS.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
            (count < PROGRAMS_MAX).then_some(count + 1)
        });
        taken.ok().map(|_| Place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        PROGRAMS.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A promise that is given back unless a program has got it.
struct Promise<'a> {
    daemon: &'a Daemon,
    device: FreeDevice,
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        self.daemon.hand_over_device(&self.device.address, None);
    }
}

impl Daemon {
    /// Another node wants a program started for one of its users.
    pub(crate) fn answer_start(&self, stream: TcpStream, preamble: &Preamble) {
        let Some(cluster) = self.cluster() else { return };
        let credentials = cluster.keyring.credentials();
        let outcome = minka_link::accept(&credentials, stream, preamble, &self.settings.tuning)
            .and_then(|channel| self.host_program(channel));
        if let Err(error) = outcome {
            debug!(error = %chain(&error), "a program of another node's user is over");
        }
    }

    fn host_program(&self, mut channel: Channel) -> Result<(), ChannelError> {
        let peer = channel.peer().to_owned();
        let order: Order = hear(&mut channel, ORDER)?;
        let user = tidy(&order.user);
        let judged = self.judge(&order);
        let verdict = match &judged {
            Ok((.., promise)) => Verdict::Granted(promise.device.clone()),
            Err(why) => Verdict::Refused(*why),
        };
        say(&mut channel, VERDICT, &verdict)?;
        let (_place, account, promise) = match judged {
            Ok(granted) => granted,
            Err(why) => {
                info!(node = peer, user, ?why, "started nothing for another node's user");
                return Ok(());
            }
        };
        let program: Program = hear(&mut channel, PROGRAM)?;
        let child = match start(&program, account) {
            Ok(child) => child,
            Err(error) => {
                return say(&mut channel, BEGINNING, &failed(&program, &error));
            }
        };
        let pid = child.id();
        self.hand_over_device(&promise.device.address, i32::try_from(pid).ok());
        let name = program.words.first().map(|word| tidy(&String::from_utf8_lossy(word)));
        info!(
            node = peer,
            user,
            pid,
            name,
            device = promise.device.address,
            "started a program for another node's user"
        );
        // It is no worse than its user's other programs, whatever the daemon is.
        let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "0");
        say(&mut channel, BEGINNING, &Beginning::Begun)?;
        attend(child, channel);
        info!(pid, "a program of another node's user has ended");
        Ok(())
    }

    fn judge(&self, order: &Order) -> Result<(Place, Option<Account>, Promise<'_>), Unstarted> {
        let offered = &self.settings.start;
        // Who may not is told no more than that.
        if offered.is_empty() {
            return Err(Unstarted::NotOffered);
        }
        let account = account(&order.user)?;
        let may = offered.iter().any(|name| match name.as_str() {
            "*" => ORDINARY.contains(&account.uid),
            name => name == order.user,
        });
        if !may {
            return Err(Unstarted::NotOffered);
        }
        let own = Uid::effective();
        let account = match own.is_root() {
            true => Some(account),
            // Who is not root starts programs of its own user's only.
            false if own.as_raw() == account.uid => None,
            false => return Err(Unstarted::NotOffered),
        };
        let place = Place::take().ok_or(Unstarted::Full)?;
        let own = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
        let device = self.promise_device(own, order.kind).map_err(|_| Unstarted::NoDevice)?;
        Ok((place, account, Promise { daemon: self, device }))
    }
}

/// Who has that name here.
fn account(name: &str) -> Result<Account, Unstarted> {
    let user = User::from_name(name).ok().flatten().ok_or(Unstarted::NoSuchUser)?;
    if user.uid.is_root() {
        return Err(Unstarted::Root);
    }
    let text = CString::new(name).map_err(|_| Unstarted::NoSuchUser)?;
    let groups = getgrouplist(&text, user.gid).map_err(|_| Unstarted::NoSuchUser)?;
    let groups = groups.into_iter().map(|group| group.as_raw()).collect();
    Ok(Account { uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups })
}

fn start(program: &Program, account: Option<Account>) -> io::Result<Child> {
    let text = OsStr::from_bytes;
    let (name, arguments) = program.words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = CString::new(program.directory.clone())?;
    let mut command = Command::new(text(name));
    command.args(arguments.iter().map(|word| text(word))).env_clear();
    command.envs(program.environment.iter().map(|(name, value)| (text(name), text(value))));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    belong_to(&mut command, account, directory);
    command.spawn()
}

fn failed(program: &Program, error: &io::Error) -> Beginning {
    let directory = Path::new(OsStr::from_bytes(&program.directory));
    if directory.is_dir() {
        return Beginning::Failed {
            missing: error.kind() == io::ErrorKind::NotFound,
            reason: error.to_string(),
        };
    }
    Beginning::Failed { missing: false, reason: format!("{}: {error}", directory.display()) }
}

fn hear<T: serde::de::DeserializeOwned>(channel: &mut Channel, kind: u16) -> Result<T, ChannelError> {
    let mut body = Vec::new();
    match channel.recv_timeout(&mut body, Duration::ZERO, SAY)? {
        Some(header) if header.kind == kind => {
            decode(&body).ok_or(ChannelError::Protocol("a wish that is not understood"))
        }
        Some(_) => Err(ChannelError::Protocol("something else than what was to come")),
        None => Err(ChannelError::Slow { limit: SAY }),
    }
}

fn say(channel: &mut Channel, kind: u16, body: &impl serde::Serialize) -> Result<(), ChannelError> {
    channel.send(Header::new(kind, 0), &[IoSlice::new(&encode(body))])
}

/// A program's group of processes, as long as nobody else can have its number.
#[derive(Clone)]
struct Group(Arc<Mutex<Option<u32>>>);

impl Group {
    fn lock(&self) -> MutexGuard<'_, Option<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: i32) {
        if let Some(group) = *self.lock() {
            // Fails only when all of them have just ended.
            let _ = signal_group(group, signal);
        }
    }
}

/// Passes everything on until the program has ended, or its user has gone.
fn attend(mut child: Child, link: Channel) {
    let closer = link.closer();
    let (sender, receiver) = link.split();
    let sender = Arc::new(Mutex::new(sender));
    let group = Group(Arc::new(Mutex::new(Some(child.id()))));
    let (pumped, pumps) = sync_channel(2);
    if let Some(output) = child.stdout.take() {
        pump(output, OUTPUT, &sender, pumped.clone());
    }
    if let Some(errors) = child.stderr.take() {
        pump(errors, ERRORS, &sender, pumped);
    }
    let (input, pieces) = channel();
    let under_way = Arc::new(AtomicUsize::new(0));
    if let Some(stdin) = child.stdin.take() {
        let (sender, under_way) = (Arc::clone(&sender), Arc::clone(&under_way));
        std::thread::spawn(move || feed(stdin, &pieces, &under_way, &sender));
    }
    let (gone, left) = sync_channel(1);
    let (ended, end) = sync_channel::<()>(0);
    // Its parent is this thread, with whose end it would get a hangup: so this one waits for it, and another one hears.
    let heard = group.clone();
    let hearing = std::thread::spawn(move || {
        listen(receiver, input, &under_way, &heard);
        let _ = gone.send(());
        heard.signal(Signal::HUP.as_raw());
        if end.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
            heard.signal(Signal::KILL.as_raw());
        }
    });
    let status = wait(&mut child, &group);
    drop(ended);
    for _ in 0..2 {
        if pumps.recv_timeout(REST).is_err() {
            break;
        }
    }
    let code = encode(&code(status));
    let told = lock(&sender).send(Header::new(END, 0), &[IoSlice::new(&code)]);
    if told.is_ok() {
        // The other end closes when it has heard that.
        let _ = left.recv_timeout(GRACE);
    }
    closer.shutdown();
    // It ends, as what it hears has been closed.
    let _ = hearing.join();
}

/// Waits for the program's end.
fn wait(child: &mut Child, group: &Group) -> Option<ExitStatus> {
    let pid = Pid::from_raw(i32::try_from(child.id()).ok()?)?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while matches!(waitid(WaitId::Pid(pid), options), Err(rustix::io::Errno::INTR)) {}
    // From here on its number may be somebody else's.
    *group.lock() = None;
    child.wait().ok()
}

/// The status as shells have it.
fn code(status: Option<ExitStatus>) -> u8 {
    let code = status.and_then(|status| status.code().or_else(|| status.signal().map(|signal| 128 + signal)));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255)
}

fn lock(sender: &Mutex<Sender>) -> MutexGuard<'_, Sender> {
    sender.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pump(mut from: impl Read + Send + 'static, kind: u16, sender: &Arc<Mutex<Sender>>, done: SyncSender<()>) {
    let sender = Arc::clone(sender);
    std::thread::spawn(move || {
        let mut piece = vec![0; PIECE_BYTES_MAX];
        loop {
            match from.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
                Ok(count) => {
                    let sent = lock(&sender).send(Header::new(kind, 0), &[IoSlice::new(&piece[..count])]);
                    if sent.is_err() {
                        break;
                    }
                }
            }
        }
        let _ = done.send(());
    });
}

/// Writes input as the program takes it, and says so.
fn feed(mut stdin: ChildStdin, pieces: &Queue<Vec<u8>>, under_way: &AtomicUsize, sender: &Mutex<Sender>) {
    let mut reads = true;
    for piece in pieces {
        // A program that does not read its input any more does not keep its user from sending it.
        reads = reads && stdin.write_all(&piece).is_ok();
        under_way.fetch_sub(weight(piece.len()), Ordering::AcqRel);
        let taken = encode(&u32::try_from(piece.len()).unwrap_or(u32::MAX));
        if lock(sender).send(Header::new(TAKEN, 0), &[IoSlice::new(&taken)]).is_err() {
            return;
        }
    }
}

/// Hears the other node until it goes or breaks the rules.
fn listen(mut receiver: Receiver, input: Pieces<Vec<u8>>, under_way: &AtomicUsize, group: &Group) {
    let (mut body, mut input) = (Vec::new(), Some(input));
    while let Ok(header) = receiver.recv(&mut body, Duration::ZERO) {
        match header.kind {
            INPUT if body.is_empty() => input = None,
            INPUT if body.len() <= PIECE_BYTES_MAX => {
                let before = under_way.fetch_add(weight(body.len()), Ordering::AcqRel);
                let Some(input) = input.as_ref().filter(|_| before + weight(body.len()) <= INPUT_BYTES_MAX)
                else {
                    return;
                };
                // Fails only when nobody takes it any more.
                let _ = input.send(body.clone());
            }
            SIGNAL => match decode::<i32>(&body) {
                Some(signal) if SIGNALS.contains(&signal) => group.signal(signal),
                _ => return,
            },
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_those_of_this_machine_and_never_root_s() {
        assert_eq!(account("root").unwrap_err(), Unstarted::Root);
        assert_eq!(account("nobody-of-that-name").unwrap_err(), Unstarted::NoSuchUser);
        assert_eq!(account("a\0b").unwrap_err(), Unstarted::NoSuchUser);
        let daemon = account("daemon").unwrap();
        assert!(daemon.uid != 0 && daemon.groups.contains(&daemon.gid), "{daemon:?}");
    }

    #[test]
    fn a_status_is_what_shells_make_of_it() {
        assert_eq!(code(Some(ExitStatus::from_raw(3 << 8))), 3);
        assert_eq!(code(Some(ExitStatus::from_raw(15))), 143);
        assert_eq!(code(None), 255);
    }
}
