//! A cable between two nodes with somebody at it.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use crate::fixture::listen;

/// What happens to the bytes on their way to the node that listens.
pub(crate) enum Fault {
    /// They arrive.
    None,
    /// The byte at this place of the stream, counted from the beginning of the connection, is another one.
    Change(usize),
    /// The last of the next bytes is another one.
    ChangeNext,
    /// After so many more the connection ends.
    CutAfter(usize),
    /// These come in between.
    Insert(Vec<u8>),
}

/// Carries one connection.
pub(crate) struct Cable {
    pub(crate) address: SocketAddr,
    fault: Arc<Mutex<Fault>>,
}

impl Cable {
    /// A cable to what listens at `target`.
    pub(crate) fn to(target: SocketAddr) -> Self {
        let (listener, address) = listen();
        let fault = Arc::new(Mutex::new(Fault::None));
        let hand = fault.clone();
        thread::spawn(move || {
            let near = listener.accept().unwrap().0;
            let far = TcpStream::connect(target).unwrap();
            for stream in [&near, &far] {
                stream.set_nodelay(true).unwrap();
            }
            let back = (far.try_clone().unwrap(), near.try_clone().unwrap());
            thread::spawn(move || carry(back.0, back.1, |_, _| None));
            carry(near, far, |carried, bytes| tamper(&mut hand.lock().unwrap(), carried, bytes));
        });
        Cable { address, fault }
    }

    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }
}

/// Passes bytes on until one side ends, or `tamper` says after how many of them to cut both.
fn carry(
    mut from: TcpStream,
    mut to: TcpStream,
    mut tamper: impl FnMut(usize, &mut Vec<u8>) -> Option<usize>,
) {
    let mut carried = 0;
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut bytes = buffer[..count].to_vec();
        let cut = tamper(carried, &mut bytes);
        carried += count;
        if to.write_all(&bytes[..cut.unwrap_or(bytes.len())]).is_err() || cut.is_some() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

fn tamper(fault: &mut Fault, carried: usize, bytes: &mut Vec<u8>) -> Option<usize> {
    match fault {
        Fault::None => {}
        Fault::Change(at) => {
            if let Some(byte) = at.checked_sub(carried).and_then(|at| bytes.get_mut(at)) {
                *byte ^= 1;
            }
        }
        Fault::ChangeNext => {
            *bytes.last_mut().unwrap() ^= 1;
            *fault = Fault::None;
        }
        Fault::CutAfter(left) if *left <= bytes.len() => return Some(*left),
        Fault::CutAfter(left) => *left -= bytes.len(),
        Fault::Insert(strange) => {
            bytes.splice(0..0, strange.drain(..));
        }
    }
    None
}
