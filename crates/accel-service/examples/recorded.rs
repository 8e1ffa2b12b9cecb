//! The service over recorded cards, for those who try its interface from outside (`tests/openapi/run`).
//!
//! ```text
//! cargo run -p minka-accel-service --example recorded -- DIR ADDR:PORT [CARDS]
//! ```
//!
//! DIR gets the recording, the state and the tokens; a token that may do everything is printed first.

use std::error::Error;
use std::path::PathBuf;

use minka_accel::{Limits, Root, fixture};
use minka_accel_service::{Options, serve};
use minka_access::{self as auth, Role};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(listen)) = (arguments.next(), arguments.next()) else {
        return Err("say a directory and an address".into());
    };
    let cards = arguments.next().map_or(Ok(4), |cards| cards.parse())?;
    let directory = PathBuf::from(directory);
    fixture::plant_machine(&directory.join("machine"), cards)?;
    let tokens = directory.join("tokens.toml");
    println!("{}", auth::add(&tokens, "tester", Role::Admin)?);
    let options = Options {
        listen: listen.parse()?,
        root: Root::at(&directory.join("machine")),
        interval: None,
        limits: Limits::default(),
        state: directory.join("state/xpu.toml"),
        dumps: directory.join("state/dumps"),
        tokens,
        require_token: false,
        audit: Some(directory.join("audit.log")),
        python: "/nonexistent/python".into(),
        tls: None,
        manager_url: None,
        manager_token: None,
    };
    serve(&options, |address| eprintln!("serving recorded cards at {address}"))?;
    Ok(())
}
