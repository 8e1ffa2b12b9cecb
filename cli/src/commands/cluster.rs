//! `minka cluster`: who belongs to a cluster of real machines.
//!
//! What changes the list of nodes tells all nodes of it; those that are not there now hear of it from the others.

mod authority;
mod member;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::SystemTime;

use minka_enroll::push::{self, Told};
use minka_enroll::service::Service;
use minka_enroll::token::Tokens;
use minka_link::roster::{NODE_FILE, Roster};
use serde_json::json;

use super::node::{RESERVED, log_to_stderr};
use crate::args::cluster::{Add, Cluster, Serve, Token, What};
use crate::failure::Failure;
use crate::output::{Output, Table};

pub(super) fn cluster(arguments: &Cluster, output: &mut Output) -> Result<(), Failure> {
    match &arguments.what {
        What::Init => init(arguments, output),
        What::Token(token) => self::token(arguments, token, output),
        What::Serve(serve) => self::serve(arguments, serve, output),
        What::Join(join) => member::join(join, output),
        What::Rotate(rotate) => member::rotate(rotate, output),
        What::RotateAuthority(rotate) => authority::rotate(arguments, rotate, output),
        What::Leave(leave) => member::leave(leave, output),
        What::Add(add) => self::add(arguments, add, output),
        What::Remove(remove) => self::remove(arguments, &remove.name, output),
        What::List => list(arguments, output),
    }
}

fn init(arguments: &Cluster, output: &mut Output) -> Result<(), Failure> {
    Roster::create(&arguments.dir)?;
    said(output, "cluster-made", "", &arguments.dir.display().to_string())
}

/// Makes a token with which a machine may join.
fn token(arguments: &Cluster, token: &Token, output: &mut Output) -> Result<(), Failure> {
    // Held while the file of tokens is changed.
    let roster = Roster::open(&arguments.dir)?;
    let digest = roster.authority().digest()?;
    let now = SystemTime::now();
    let made = Tokens::read(&arguments.dir, now)?.add(digest, now, token.ttl)?.reveal();
    if output.is_json() {
        return output.json(&json!({"token": made, "seconds": token.ttl.as_secs()}));
    }
    output
        .remark(&output.text.with("cluster-token", &[("minutes", token.ttl.as_secs().div_ceil(60).into())]));
    output.line(&made)
}

/// Takes machines in until it is ended.
fn serve(arguments: &Cluster, serve: &Serve, output: &mut Output) -> Result<(), Failure> {
    log_to_stderr();
    let service = Service::new(&arguments.dir)?;
    let listen = |source| Failure::Listen { address: serve.listen, source };
    let listener = TcpListener::bind(serve.listen).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?.to_string();
    if output.is_json() {
        output.json(&json!({"listen": address}))?;
    } else {
        let line = output.text.with("cluster-serving", &[("address", address.into())]);
        output.line(&line)?;
    }
    let caretaker = Arc::clone(&service);
    std::thread::spawn(move || caretaker.look_after_succession());
    service.serve(&listener);
    Ok(())
}

fn add(arguments: &Cluster, add: &Add, output: &mut Output) -> Result<(), Failure> {
    check_name(&add.name)?;
    let mut roster = Roster::open(&arguments.dir)?;
    let directory = roster.add(&add.name, add.address, &add.others)?;
    let told = tell_others(roster, &add.name, None)?;
    if output.is_json() {
        let config = directory.join(NODE_FILE);
        return output.json(&json!({
            "name": add.name, "listen": add.address, "directory": directory, "config": config, "told": told.told,
        }));
    }
    said(output, "cluster-added", &add.name, &directory.display().to_string())?;
    say_told(&told, output)
}

fn remove(arguments: &Cluster, name: &str, output: &mut Output) -> Result<(), Failure> {
    let mut roster = Roster::open(&arguments.dir)?;
    let address = roster.nodes().get(name).copied();
    roster.remove(name)?;
    let told = tell_others(roster, name, address)?;
    if output.is_json() {
        return output.json(&json!({"directory": arguments.dir, "told": told.told}));
    }
    said(output, "cluster-removed", name, &arguments.dir.display().to_string())?;
    say_told(&told, output)
}

/// Tells the nodes of the new list. The one that it is about has no part in what is said of that.
fn tell_others(roster: Roster, about: &str, removed: Option<SocketAddr>) -> Result<Told, Failure> {
    let mut told = push::tell(roster, removed.map(|address| (about.to_owned(), address)))?;
    told.told.retain(|name| name != about);
    told.missed.retain(|(name, _)| name != about);
    Ok(told)
}

/// Who knows of it, and who does not yet.
fn say_told(told: &Told, output: &mut Output) -> Result<(), Failure> {
    if !told.told.is_empty() {
        let line = output.text.with("cluster-told", &[("nodes", told.told.join(", ").into())]);
        output.line(&line)?;
    }
    if !told.missed.is_empty() {
        let names: Vec<&str> = told.missed.iter().map(|(name, _)| name.as_str()).collect();
        let line = output.text.with("cluster-missed", &[("nodes", names.join(", ").into())]);
        output.line(&line)?;
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), Failure> {
    if RESERVED.contains(&name) { Err(Failure::ReservedName { name: name.to_owned() }) } else { Ok(()) }
}

fn said(output: &mut Output, message: &str, name: &str, directory: &str) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&json!({"directory": directory}));
    }
    let lines = output
        .text
        .with(message, &[("name", name.to_owned().into()), ("directory", directory.to_owned().into())]);
    output.line(&lines)
}

fn list(arguments: &Cluster, output: &mut Output) -> Result<(), Failure> {
    let roster = Roster::open(&arguments.dir)?;
    if output.is_json() {
        return output.json(roster.nodes());
    }
    let headings = ["nodes-node", "nodes-address"].map(|id| output.text.get(id)).to_vec();
    let mut table = Table::new(headings, vec![false, false]);
    for (name, address) in roster.nodes() {
        let others = roster.list().others(name).iter().map(|other| format!(", {other}"));
        table.row(vec![name.clone(), std::iter::once(address.to_string()).chain(others).collect()]);
    }
    table.lines().iter().try_for_each(|line| output.line(line))
}
