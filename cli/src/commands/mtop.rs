//! `mtop`: the processes that use the processor, and where they compute; drawn anew every two seconds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use minka_node::protocol::{Process, State};
use serde_json::{Value, json};

use super::client;
use super::screen::{Key, Screen};
use crate::args::mon::Mtop;
use crate::failure::Failure;
use crate::output::{Output, Table, printable};

/// How often they are looked at, and for how long the first time.
const INTERVAL: Duration = Duration::from_secs(2);
const FIRST: Duration = Duration::from_millis(500);

/// Clock ticks a second in `/proc`, on every machine (`USER_HZ`).
const TICKS_PER_S: f64 = 100.0;

/// What the processes had used when they were last looked at.
#[derive(Debug)]
struct Look {
    at: Instant,
    ticks: BTreeMap<i32, u64>,
}

/// A process, and the part of a processor that it uses here; none is known of one that computes elsewhere.
#[derive(Debug)]
struct Row {
    process: Process,
    percent: Option<f64>,
}

pub(super) fn mtop(arguments: &Mtop, output: &mut Output) -> Result<(), Failure> {
    let (_, mut last) = look(None)?;
    std::thread::sleep(FIRST);
    let screen =
        if arguments.once || output.is_json() { None } else { Screen::open().map_err(Failure::Output)? };
    loop {
        let (rows, now) = look(Some(&last))?;
        last = now;
        let Some(screen) = &screen else {
            if output.is_json() {
                return output.json(&rows.iter().map(json).collect::<Vec<Value>>());
            }
            return table(&rows, output).iter().try_for_each(|line| output.line(line));
        };
        let (width, height) = Screen::size();
        let mut lines = table(&rows, output);
        lines.truncate(height.saturating_sub(1));
        lines.push(output.text.get("mtop-foot"));
        let lines: Vec<String> = lines.iter().map(|line| line.chars().take(width).collect()).collect();
        screen.show(&lines).map_err(Failure::Output)?;
        let keys = screen.keys(INTERVAL).map_err(Failure::Output)?;
        if keys.iter().any(|key| matches!(key, Key::End | Key::Character('q' | 'Q'))) {
            return Ok(());
        }
    }
}

/// All processes that have not ended, the busiest first.
fn look(last: Option<&Look>) -> Result<(Vec<Row>, Look), Failure> {
    let processes = client()?.ps(true)?;
    let now = Instant::now();
    let ticks: BTreeMap<i32, u64> =
        processes.iter().filter_map(|process| Some((process.pid, ticks(process.pid)?))).collect();
    let percent = |pid: i32| {
        let last = last?;
        let used = ticks.get(&pid)?.saturating_sub(*last.ticks.get(&pid)?);
        let elapsed_s = now.duration_since(last.at).as_secs_f64().max(0.01);
        Some(used as f64 * 100.0 / TICKS_PER_S / elapsed_s)
    };
    let there = processes.into_iter().filter(|process| process.state != State::Ended);
    let mut rows: Vec<Row> = there
        .map(|process| {
            let here = process.state != State::Away;
            Row { percent: if here { percent(process.pid) } else { None }, process }
        })
        .collect();
    // Those that are away first: they are why one looks.
    let order = |row: &Row| (row.process.state != State::Away, -(row.percent.unwrap_or(0.0) * 10.0) as i64);
    rows.sort_by_cached_key(order);
    Ok((rows, Look { at: now, ticks }))
}

/// Processor time that a process has used (`/proc/PID/stat`, fields 14 and 15).
fn ticks(pid: i32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    fields.next()?.parse::<u64>().ok()?.checked_add(fields.next()?.parse().ok()?)
}

fn json(row: &Row) -> Value {
    let process = &row.process;
    json!({
        "pid": process.pid,
        "uid": process.uid,
        "node": process.at,
        "state": process.state,
        "percent": row.percent,
        "moves": process.moves,
        "command": process.command,
    })
}

fn table(rows: &[Row], output: &Output) -> Vec<String> {
    let headings = ["ps-pid", "mtop-user", "ps-where", "mtop-cpu", "ps-moves", "ps-command"];
    let headings = headings.map(|id| output.text.get(id)).to_vec();
    let mut table = Table::new(headings, vec![true, true, false, true, true, false]);
    for Row { process, percent } in rows {
        table.row(vec![
            process.pid.to_string(),
            process.uid.map(|uid| uid.to_string()).unwrap_or_default(),
            process.at.clone(),
            percent.map(|percent| format!("{percent:.0}")).unwrap_or_default(),
            process.moves.to_string(),
            printable(&process.command),
        ]);
    }
    table.lines()
}
