//! A program on another node, whose input, output, signals and end are here: the tool's side of [`minka_wire::start`].

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use minka_node::protocol::FreeDevice;
use minka_node::start::{read_frame, write_frame};
use minka_wire::start::{
    BEGINNING, Beginning, END, ERRORS, INPUT, INPUT_BYTES_MAX, OUTPUT, PIECE_BYTES_MAX, PROGRAM, Program,
    SIGNAL, TAKEN, decode, encode, weight,
};
use minka_wire::tidy;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

use super::super::run::{NOT_FOUND, NOT_STARTED};
use crate::failure::Failure;

/// So much input is under way.
type Credit = Arc<(Mutex<usize>, Condvar)>;

/// Where frames are written, by several threads.
type Writer = Arc<Mutex<UnixStream>>;

/// Runs a program there until it ends; returns its status.
pub(super) fn run(
    node: &str,
    device: &FreeDevice,
    stream: UnixStream,
    words: &[OsString],
) -> Result<ExitCode, Failure> {
    let lost = |source| Failure::Elsewhere { node: node.to_owned(), source };
    let broken = || lost(io::ErrorKind::InvalidData.into());
    let mut reader = stream.try_clone().map_err(lost)?;
    let writer: Writer = Arc::new(Mutex::new(stream));
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH])
        .map_err(lost)?;
    send(&writer, PROGRAM, &encode(&program(device, words).map_err(lost)?)).map_err(lost)?;
    match read_frame(&mut reader).map_err(lost)? {
        Some((BEGINNING, body)) => match decode(&body).ok_or_else(broken)? {
            Beginning::Begun => {}
            Beginning::Failed { missing, reason } => {
                let name = words.first().map(|word| word.display().to_string()).unwrap_or_default();
                eprintln!("minka: {node}: {name}: {}", tidy(&reason));
                return Ok(ExitCode::from(if missing { NOT_FOUND } else { NOT_STARTED }));
            }
        },
        Some(_) => return Err(broken()),
        None => return Err(lost(io::ErrorKind::UnexpectedEof.into())),
    }
    let credit = Credit::default();
    // Both end with this program.
    let (to, under_way) = (Arc::clone(&writer), Arc::clone(&credit));
    std::thread::spawn(move || feed(&to, &under_way));
    std::thread::spawn(move || {
        signals.forever().all(|signal| send(&writer, SIGNAL, &encode(&signal)).is_ok());
    });
    loop {
        let Some((kind, body)) = read_frame(&mut reader).map_err(lost)? else {
            return Err(lost(io::ErrorKind::UnexpectedEof.into()));
        };
        match kind {
            // Whoever reads no more ends this program by SIGPIPE's likes, and so the other one.
            OUTPUT => write_all(&mut io::stdout(), &body).map_err(Failure::Output)?,
            ERRORS => write_all(&mut io::stderr(), &body).map_err(Failure::Output)?,
            TAKEN => {
                let taken = decode::<u32>(&body).ok_or_else(broken)?;
                let mut under_way = credit.0.lock().unwrap_or_else(PoisonError::into_inner);
                *under_way = under_way.saturating_sub(weight(taken as usize));
                credit.1.notify_all();
            }
            END => return decode::<u8>(&body).map(ExitCode::from).ok_or_else(broken),
            _ => return Err(broken()),
        }
    }
}

fn program(device: &FreeDevice, words: &[OsString]) -> io::Result<Program> {
    let bytes = |text: &OsString| text.as_bytes().to_vec();
    let mut environment: Vec<_> =
        std::env::vars_os().map(|(name, value)| (bytes(&name), bytes(&value))).collect();
    for (name, value) in super::variables(device) {
        environment.retain(|(known, _)| known != name.as_bytes());
        environment.push((name.as_bytes().to_vec(), value.into_bytes()));
    }
    let directory = bytes(&std::env::current_dir()?.into_os_string());
    Ok(Program { directory, words: words.iter().map(bytes).collect(), environment })
}

/// Sends this program's input as it is taken.
fn feed(writer: &Writer, credit: &Credit) {
    let (mut stdin, mut piece) = (io::stdin().lock(), vec![0; PIECE_BYTES_MAX]);
    loop {
        let count = match stdin.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(count) => count,
            Err(_) => 0,
        };
        if count > 0 {
            let known = credit.0.lock().unwrap_or_else(PoisonError::into_inner);
            let full = |under_way: &mut usize| *under_way + weight(count) > INPUT_BYTES_MAX;
            let mut known = credit.1.wait_while(known, full).unwrap_or_else(PoisonError::into_inner);
            *known += weight(count);
        }
        if send(writer, INPUT, &piece[..count]).is_err() || count == 0 {
            return;
        }
    }
}

fn send(writer: &Writer, kind: u16, body: &[u8]) -> io::Result<()> {
    write_frame(&mut *writer.lock().unwrap_or_else(PoisonError::into_inner), kind, body)
}

fn write_all(to: &mut impl Write, body: &[u8]) -> io::Result<()> {
    to.write_all(body)?;
    to.flush()
}
