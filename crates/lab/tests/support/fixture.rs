//! Stands in for the `minka` program in the lab's tests.
//!
//! `__lab …` the internal commands · `node serve --config FILE` a node daemon that says its name to whoever
//! connects · `exec DIR N -- CMD…` what `minka lab exec` does · `connect ADDRESS:PORT` prints what the other
//! end says · `say ADDRESS:PORT` sends datagrams for a while · `hear ADDRESS:PORT` waits for one · `terminal PATH CMD…` runs a program with this terminal, as a login does · `dawdle` reads a line
//! after a while · `user-namespace` whether one can be made · `nothing`.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use minka_kernel::namespace::Namespaces;
use minka_kernel::spawn::Launch;
use minka_lab::{INTERNAL_COMMAND, Lab, Program, internal_main, shell_code};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == INTERNAL_COMMAND).is_some() {
        return internal_main(arguments);
    }
    let arguments: Vec<OsString> = arguments.collect();
    let texts: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    let result = match texts[..] {
        ["node", "serve", "--config", config] => serve(Path::new(config)),
        ["node", "fail", ..] => {
            eprintln!("no node today");
            return ExitCode::from(3);
        }
        ["node", "sleep", ..] => loop {
            thread::park();
        },
        ["exec", directory, node, "--", program, ref rest @ ..] => exec(directory, node, program, rest),
        ["connect", address] => connect(address),
        ["say", address] => say(address),
        ["hear", address] => hear(address),
        ["dawdle"] => dawdle(),
        ["nothing"] => Ok(ExitCode::SUCCESS),
        ["user-namespace"] => user_namespace(),
        ["terminal", path, program, ref rest @ ..] => terminal(path, program, rest),
        _ => Err("unknown command".into()),
    };
    result.unwrap_or_else(|error| {
        eprintln!("fixture: {error}");
        ExitCode::FAILURE
    })
}

fn serve(config: &Path) -> Result<ExitCode, Failure> {
    let directory = config.parent().ok_or("no directory")?;
    let text = fs::read_to_string(config)?;
    let value = |key: &str| {
        let start = format!("{key} = \"");
        text.lines().find_map(|line| line.strip_prefix(&start)?.strip_suffix('"')).ok_or("incomplete")
    };
    let (name, listen) = (value("name")?.to_owned(), value("listen")?);
    let tcp = TcpListener::bind(listen)?;
    let unix = UnixListener::bind(directory.join("run/node.sock"))?;
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let _ = stream.and_then(|mut stream| stream.write_all(name.as_bytes()));
        }
    });
    for stream in unix.incoming() {
        drop(stream);
    }
    Ok(ExitCode::SUCCESS)
}

fn exec(directory: &str, node: &str, program: &str, arguments: &[&str]) -> Result<ExitCode, Failure> {
    let lab = Lab::open_in(Path::new(directory))?;
    let status = lab.exec(node.parse()?, Program::new(program).arguments(arguments))?;
    Ok(shell_code(status).into())
}

fn connect(address: &str) -> Result<ExitCode, Failure> {
    let address: SocketAddr = address.parse()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    println!("{text}");
    Ok(ExitCode::SUCCESS)
}

fn say(address: &str) -> Result<ExitCode, Failure> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    for _ in 0..25 {
        // Whoever does not listen yet says so.
        let _ = socket.send_to(b"hello", address);
        thread::sleep(Duration::from_millis(20));
    }
    Ok(ExitCode::SUCCESS)
}

fn hear(address: &str) -> Result<ExitCode, Failure> {
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.recv_from(&mut [0; 5])?;
    Ok(ExitCode::SUCCESS)
}

/// Starts, is busy for a while, and only then reads. (A shell that starts `sleep` is deaf to Ctrl-Z for a
/// moment: until its child executes.)
fn dawdle() -> Result<ExitCode, Failure> {
    println!("begun");
    thread::sleep(Duration::from_secs(1));
    let mut word = String::new();
    std::io::stdin().read_line(&mut word)?;
    println!("got {}", word.trim());
    Ok(ExitCode::SUCCESS)
}

/// Succeeds if this user can make namespaces, within a user namespace at least.
fn user_namespace() -> Result<ExitCode, Failure> {
    let launch = Launch::new("/proc/self/exe", ["fixture", "nothing"]);
    match launch.namespaces(Namespaces::USER | Namespaces::NETWORK).start() {
        Ok(process) => process.reap().map(|_| ExitCode::SUCCESS).map_err(Into::into),
        Err(error) if error.is_permission_denied() => Ok(ExitCode::from(77)),
        Err(error) => Err(error.into()),
    }
}

/// The first terminal that a session's leader opens becomes the session's.
fn terminal(path: &str, program: &str, arguments: &[&str]) -> Result<ExitCode, Failure> {
    minka_kernel::spawn::lead_session()?;
    let terminal = fs::File::options().read(true).write(true).open(path)?;
    let (output, error) = (terminal.try_clone()?, terminal.try_clone()?);
    Err(Command::new(program).args(arguments).stdin(terminal).stdout(output).stderr(error).exec().into())
}
