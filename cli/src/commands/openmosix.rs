//! What openMosix's tools do: `mosctl`, `mosrun`, `showmap`.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::process::ExitCode;

use minka_node::client::ClientError;
use minka_node::protocol::{Advice, Decay, Figures, Job, Node, Pace, Part, PoolKind, Refusal, Steering};
use minka_node::{DECAY_VARIABLE, JOB_VARIABLE, LOCKED_VARIABLE, STARTED_VARIABLE};
use serde_json::{Value, json};

use super::client;
use super::migrate::milliseconds;
use super::run::{Placement, place};
use super::status::pool_line;
use crate::args::openmosix::{self as args, Mosctl, Mosrun, Verb};
use crate::failure::{Failure, Status};
use crate::output::{Output, Table};

/// What is kept of a thousand each interval, slowly and fast, where nothing else is said: openMosix's own.
const SLOW: u16 = 975;
const FAST: u16 = 926;

/// The speed of the standard processor, by which all others are told, and how the manual calls it.
const YARD: u32 = 10_000;
const STANDARD: &str = "PIII/1GHz";

pub(super) fn mosctl(arguments: &Mosctl, output: &mut Output) -> Result<ExitCode, Failure> {
    let steering = match arguments.verb {
        Verb::Stay | Verb::Lstay => Steering::Stay { on: true },
        Verb::Nostay | Verb::Nolstay => Steering::Stay { on: false },
        Verb::Block => Steering::Block { on: true },
        Verb::Noblock => Steering::Block { on: false },
        Verb::Expel => Steering::Expel,
        Verb::Bring => Steering::Bring,
        Verb::Setspeed => {
            let speed = arguments.node.as_deref().and_then(|speed| speed.parse().ok());
            Steering::Speed { speed: speed.ok_or(Failure::Speed)? }
        }
        Verb::Setdecay => Steering::Decay(decay(arguments).ok_or(Failure::Decay)?),
        Verb::Getdecay => return get_decay(output),
        Verb::Getyard => return get_yard(output),
        Verb::Gettune => return get_tune(output),
        Verb::Setyard => Steering::Yard { speed: yard(arguments.node.as_deref())? },
        question => return ask(question, arguments.node.as_deref(), output),
    };
    client()?.steer(steering)?;
    if output.is_json() {
        output.json(&json!({"done": true}))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The interval, and the parts to be kept if they are said.
fn decay(arguments: &Mosctl) -> Option<Decay> {
    let interval_s = arguments.node.as_deref()?.parse().ok()?;
    let (slow, fast) = match arguments.parts[..] {
        [] => (SLOW, FAST),
        [slow, fast] => (slow, fast),
        _ => return None,
    };
    Some(Decay { interval_s, slow, fast })
}

fn get_decay(output: &mut Output) -> Result<ExitCode, Failure> {
    let status = client()?.status()?;
    let unknown = || Failure::Unknown { node: status.node.clone() };
    let decay = status.decay.ok_or_else(unknown)?;
    if output.is_json() {
        return output.json(&decay).map(|()| ExitCode::SUCCESS);
    }
    // These are openMosix's own words.
    output.line(&format!("decay-interval\t{}", decay.interval_s))?;
    output.line(&format!("slow-decay\t{}\nfast-decay\t{}", decay.slow, decay.fast))?;
    Ok(ExitCode::SUCCESS)
}

/// This node's part in the cluster.
fn part() -> Result<Part, Failure> {
    let status = client()?.status()?;
    status.part.ok_or(Failure::Unknown { node: status.node })
}

/// The speed of the processor in whose loads loads are told.
fn get_yard(output: &mut Output) -> Result<ExitCode, Failure> {
    let yard = part()?.yard;
    if output.is_json() {
        output.json(&json!({"yard": yard}))?
    } else {
        output.line(&yard.to_string())?
    }
    Ok(ExitCode::SUCCESS)
}

/// The speed that somebody means: of this machine, of the manual's standard processor, of a node, or so much.
fn yard(word: Option<&str>) -> Result<u32, Failure> {
    match word {
        None => Err(Failure::Speed),
        Some("this") => Ok(part()?.speed),
        Some(word) if word.eq_ignore_ascii_case(STANDARD) => Ok(YARD),
        Some(word) => {
            let nodes = client()?.nodes()?;
            match (find(&nodes, word), word.parse()) {
                (Ok(node), _) => {
                    let unknown = || Failure::Unknown { node: node.name.clone() };
                    Ok(node.figures.as_ref().ok_or_else(unknown)?.speed)
                }
                (Err(_), Ok(speed)) => Ok(speed),
                (Err(_), Err(_)) => Err(Failure::Speed),
            }
        }
    }
}

/// What moving is thought to cost.
fn get_tune(output: &mut Output) -> Result<ExitCode, Failure> {
    let overheads = part()?.overheads;
    if output.is_json() {
        return output.json(&overheads).map(|()| ExitCode::SUCCESS);
    }
    let variables = [
        ("move", milliseconds(overheads.move_us).into()),
        ("memory", overheads.move_mib_s.to_string().into()),
        ("call", (overheads.call_ns / 1000).to_string().into()),
    ];
    output.line(&output.text.with("mosctl-overheads", &variables))?;
    let how = if overheads.measured { "mosctl-measured" } else { "mosctl-assumed" };
    output.line(&output.text.get(how))?;
    Ok(ExitCode::SUCCESS)
}

/// Answers a question about nodes: one, or, where that makes sense, this one or all.
fn ask(verb: Verb, node: Option<&str>, output: &mut Output) -> Result<ExitCode, Failure> {
    let nodes = client()?.nodes()?;
    let chosen: Vec<&Node> = match node {
        Some(name) => vec![find(&nodes, name)?],
        None if verb == Verb::Whois => nodes.iter().collect(),
        None => nodes.iter().filter(|node| node.this).collect(),
    };
    if output.is_json() {
        return output.json(&chosen).map(|()| ExitCode::SUCCESS);
    }
    let pool = if verb == Verb::Status { client()?.status()?.pool } else { None };
    for node in &chosen {
        let line = match verb {
            Verb::Whois => format!("{}\t{}\t{}", number(node), node.address, node.name),
            Verb::Isup => output.text.get(if node.member { "nodes-yes" } else { "nodes-no" }),
            // openMosix's own pool needs no word.
            Verb::Status => match pool.filter(|pool| node.this && pool.kind != PoolKind::Single) {
                Some(pool) => format!("{}; {}", status(node, output), pool_line(&pool, &output.text)),
                None => status(node, output),
            },
            verb => {
                let unknown = || Failure::Unknown { node: node.name.clone() };
                figure(verb, node.figures.as_ref().ok_or_else(unknown)?)
            }
        };
        output.line(&line)?;
    }
    let down = verb == Verb::Isup && chosen.iter().any(|node| !node.member);
    Ok(if down { Status::Failure.into() } else { ExitCode::SUCCESS })
}

fn figure(verb: Verb, figures: &Figures) -> String {
    match verb {
        Verb::Getload => figures.standard_load.to_string(),
        Verb::Getspeed => figures.speed.to_string(),
        Verb::Getmem => format!("{} MiB", figures.available_mib),
        Verb::Getfree => format!("{} MiB", figures.free_mib),
        _ => format!("{} %", figures.utilisation),
    }
}

fn status(node: &Node, output: &Output) -> String {
    let Some(figures) = &node.figures else { return output.text.get("mosctl-unknown") };
    let said = [
        (node.member, "mosctl-up", "mosctl-down"),
        (figures.stays, "mosctl-stays", "mosctl-moves"),
        (figures.blocked, "mosctl-blocked", "mosctl-open"),
    ];
    said.map(|(is, yes, no)| output.text.get(if is { yes } else { no })).join(", ")
}

fn number(node: &Node) -> String {
    node.number.map(|number| number.to_string()).unwrap_or_default()
}

/// A node by number, name or address, as openMosix's tools take any of them.
pub(super) fn find<'a>(nodes: &'a [Node], name: &str) -> Result<&'a Node, Failure> {
    let is_it = |node: &&Node| {
        let host = node.address.rsplit_once(':').map_or(node.address.as_str(), |(host, _)| host);
        number(node) == name || node.name == name || node.address == name || host == name
    };
    let refusal = || Failure::Client(ClientError::Refused(Refusal::NoSuchNode { name: name.to_owned() }));
    nodes.iter().find(is_it).ok_or_else(refusal)
}

pub(super) fn showmap(output: &mut Output) -> Result<(), Failure> {
    let nodes = client()?.nodes()?;
    let own = nodes.iter().find(|node| node.this).and_then(|node| node.number).unwrap_or(0);
    let host = |node: &Node| {
        node.address.rsplit_once(':').map_or_else(|| node.address.clone(), |(host, _)| host.to_owned())
    };
    if output.is_json() {
        let map: Vec<Value> = nodes
            .iter()
            .map(|node| json!({"base": node.number, "address": host(node), "count": 1, "name": node.name}))
            .collect();
        return output.json(&json!({"own": own, "map": map}));
    }
    output.line(&format!("My Node-Id: {own:#06x}\n"))?;
    let headings = ["Base Node-Id", "Address", "Count"].map(str::to_owned).to_vec();
    let mut table = Table::new(headings, vec![false, false, true]);
    for node in &nodes {
        let base = node.number.map(|number| format!("{number:#06x}")).unwrap_or_default();
        table.row(vec![base, host(node), "1".to_owned()]);
    }
    table.lines().iter().try_for_each(|line| output.line(line))
}

pub(super) fn mosrun(arguments: &Mosrun, output: &mut Output) -> Result<ExitCode, Failure> {
    let to = if arguments.home {
        None
    } else {
        Some(match (&arguments.on, &arguments.jobs) {
            (Some(node), _) => find(&client()?.nodes()?, node)?.name.clone(),
            (None, Some(list)) => any_of(&client()?.nodes()?, list)?,
            (None, None) => "best".to_owned(),
        })
    };
    // What is locked stays where it begins, and so do its descendants; `best` would be for the balancer to change.
    let locked = arguments.lock.then_some("1");
    let mut environment = vec![(STARTED_VARIABLE, Some("1"))];
    if arguments.lock || arguments.unlock {
        environment.push((LOCKED_VARIABLE, locked));
    }
    let pace = pace(arguments);
    if let Some(pace) = &pace {
        environment.push((DECAY_VARIABLE, Some(pace)));
    }
    if let Some(job) = arguments.job {
        environment.push((JOB_VARIABLE, Some(job.word())));
    }
    let asked = arguments.on.is_some() || arguments.jobs.is_some();
    let placement = Placement {
        to: to.as_deref(),
        strict: asked && !arguments.anyway,
        command: &arguments.command,
        zero: arguments.zero,
        advice: &advice(arguments),
        environment: &environment,
    };
    place(&placement, output)
}

/// How fast its calls are forgotten, as the daemon reads it in a program's environment.
fn pace(arguments: &Mosrun) -> Option<String> {
    let part = |part: Option<String>| part.unwrap_or_default();
    let interval = arguments.interval.map(|interval| interval.to_string());
    let kept = arguments.kept.map(|kept| kept.to_string());
    if interval.is_none() && kept.is_none() {
        return arguments.decay.map(|pace| pace.word().to_owned());
    }
    let pace = arguments.decay.unwrap_or(args::Pace::Slow).word();
    Some(format!("{pace}:{}:{}", part(interval), part(kept)))
}

/// What was said, for who was told otherwise of whoever starts the command.
fn advice(arguments: &Mosrun) -> Vec<Advice> {
    let locked = (arguments.lock || arguments.unlock).then_some(Advice::Lock { on: arguments.lock });
    let job = arguments.job.map(|job| Advice::Job {
        kind: match job {
            args::Job::Cpu => Job::Cpu,
            args::Job::Io => Job::Io,
        },
    });
    let pace = arguments.decay.map(|pace| Advice::Decay {
        pace: match pace {
            args::Pace::Slow => Pace::Slow,
            args::Pace::Fast => Pace::Fast,
            args::Pace::Never => Pace::Never,
        },
    });
    // Advice knows no interval, so there is none where one was said.
    let pace = pace.filter(|_| arguments.interval.is_none() && arguments.kept.is_none());
    locked.into_iter().chain(job).chain(pace).collect()
}

/// One of the nodes of a list such as `1-3,7` that are up, any of them.
fn any_of(nodes: &[Node], list: &str) -> Result<String, Failure> {
    let ranges: Option<Vec<(u16, u16)>> = list
        .split(',')
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
        })
        .collect();
    let ranges = ranges.ok_or_else(|| Failure::List { list: list.to_owned() })?;
    let listed = |node: &&Node| {
        let number = node.number.unwrap_or(0);
        node.member && ranges.iter().any(|(first, last)| (*first..=*last).contains(&number))
    };
    let up: Vec<&Node> = nodes.iter().filter(listed).collect();
    // Each of these has a seed of its own.
    let chance = usize::try_from(RandomState::new().hash_one(()) >> 33).unwrap_or(0);
    let refusal = || Failure::Client(ClientError::Refused(Refusal::NoSuchNode { name: list.to_owned() }));
    up.get(chance % up.len().max(1)).map(|node| node.name.clone()).ok_or_else(refusal)
}
