//! `minka xpu diag`: devices examined, by levels or test by test, and kept busy.

use std::io::{IsTerminal, Write, stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use minka_accel::Station;
use minka_accel::compute::{Bench, Ended, Task, Trial};
use minka_accel::diagnostics::of_number;
use minka_accel::health::State;
use minka_accel::station::Report;
use minka_accel_service::rest::diagnostics::Diagnosis;
use serde::Serialize;
use serde_json::json;
use signal_hook::consts::SIGINT;

use super::{examine, grouped, show};
use crate::args::xpu::XpuDiag;
use crate::failure::Failure;
use crate::output::{Output, Table, printable};

/// How often is told how far a stress test has come: at a terminal, and elsewhere.
const NEWS: Duration = Duration::from_millis(500);
const NEWS_ELSEWHERE: Duration = Duration::from_secs(10);

/// Set by Ctrl-C. What has been found by then is still shown; then this program ends as by the signal.
struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    fn await_it() -> Result<Self, Failure> {
        let flag = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGINT, Arc::clone(&flag)).map_err(Failure::Output)?;
        Ok(Interrupt(flag))
    }

    fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn obey(&self) -> Result<(), Failure> {
        if self.came() {
            signal_hook::low_level::emulate_default_handler(SIGINT).map_err(Failure::Output)?;
        }
        Ok(())
    }
}

/// A line at the terminal that is written over.
fn news(text: &str) {
    if stderr().is_terminal() {
        // Nobody is left to tell when standard error fails.
        let _ = write!(stderr(), "\r\u{1b}[K{text}").and_then(|()| stderr().flush());
    }
}

pub(super) fn diagnose(
    arguments: &XpuDiag,
    station: &Station,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    if arguments.precheck {
        return examine::look_through(arguments, station, json, output);
    }
    let reports = grouped(station, &arguments.devices)?;
    let interrupt = Interrupt::await_it()?;
    if arguments.stress {
        stress(arguments, &reports, station, &interrupt, json, output)?;
    } else {
        levels(arguments, &reports, station, &interrupt, json, output)?;
    }
    interrupt.obey()
}

/// XPU Manager's name of a test, for people.
fn plain(name: &str) -> String {
    name.trim_start_matches("XPUM_DIAG_").replace('_', " ").to_lowercase()
}

fn levels(
    arguments: &XpuDiag,
    reports: &[Report],
    station: &Station,
    interrupt: &Interrupt,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let tests: Vec<&'static str> =
        arguments.singletest.iter().filter_map(|number| of_number(*number)).collect();
    let examined = reports.iter().map(|report| {
        let id = report.sample.identity.device_id;
        let mut watch = |name: &'static str, done: f64| {
            news(&format!("{id}: {} {:.0} %", plain(name), done * 100.0));
            !interrupt.came()
        };
        match &tests[..] {
            [] => Diagnosis::make(station, report, arguments.level, &mut watch),
            tests => Diagnosis::make_of(station, report, 0, tests, &mut watch),
        }
    });
    let examined: Vec<Diagnosis> = examined.collect();
    news("");
    if json {
        return output.json(&json!({"device_list": examined}));
    }
    let ids = ["xpu-device", "xpu-test", "xpu-result", "xpu-description"];
    let mut table = Table::new(show::headings(output, &ids), vec![true, false, false, false]);
    for (report, diagnosis) in reports.iter().zip(&examined) {
        for (name, result, message) in diagnosis.rows() {
            let id = report.sample.identity.device_id.to_string();
            let result = output.text.get(&format!("xpu-result-{}", result.to_lowercase()));
            table.row(vec![id, plain(name), result, printable(message)]);
        }
    }
    show::print(&table, output)
}

/// How a device did while it was kept busy.
#[derive(Debug, Serialize)]
struct Strain {
    device_id: u32,
    /// As of the other tests: pass, fail or unknown.
    result: &'static str,
    message: String,
    seconds: f64,
    greatest_temperature: Option<f64>,
    greatest_power: Option<f64>,
}

/// Keeps devices busy, all at the same time, and looks whether what they compute is right. A device whose sensors say
/// that it is in distress is let be.
fn stress(
    arguments: &XpuDiag,
    reports: &[Report],
    station: &Station,
    interrupt: &Interrupt,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let seconds = arguments.stresstime * 60.0;
    let done = Mutex::new(vec![0.0_f64; reports.len()]);
    let strains: Vec<Strain> = std::thread::scope(|scope| {
        let begin = |(place, report)| {
            let done = &done;
            scope.spawn(move || {
                strain(report, seconds, station, interrupt, &|share| {
                    if let Some(slot) = done.lock().unwrap_or_else(PoisonError::into_inner).get_mut(place) {
                        *slot = share;
                    }
                })
            })
        };
        let threads: Vec<_> = reports.iter().enumerate().map(begin).collect();
        let mut last = Instant::now();
        while threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(50));
            let terminal = stderr().is_terminal();
            if last.elapsed() < if terminal { NEWS } else { NEWS_ELSEWHERE } {
                continue;
            }
            last = Instant::now();
            let shares = done.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let shares = shares.iter().zip(reports).map(|(share, report)| {
                let watts =
                    station.report(report.sample.identity.device_id).and_then(|now| now.sample.power());
                format!(
                    "{}: {:.0} %, {}",
                    report.sample.identity.device_id,
                    share * 100.0,
                    show::number(watts, "W")
                )
            });
            let line = shares.collect::<Vec<_>>().join("; ");
            if terminal {
                news(&line);
            } else if !json {
                output.remark(&line);
            }
        }
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    news("");
    if json {
        return output.json(&json!({"device_list": strains}));
    }
    let ids = ["xpu-device", "xpu-result", "xpu-seconds", "xpu-at-most", "xpu-at-most", "xpu-description"];
    let right = vec![true, false, true, true, true, false];
    let mut table = Table::new(show::headings(output, &ids), right);
    for strain in strains {
        table.row(vec![
            strain.device_id.to_string(),
            output.text.get(&format!("xpu-result-{}", strain.result)),
            format!("{:.0}", strain.seconds),
            show::number(strain.greatest_temperature, "°C"),
            show::number(strain.greatest_power, "W"),
            printable(&strain.message),
        ]);
    }
    show::print(&table, output)
}

fn strain(
    report: &Report,
    seconds: f64,
    station: &Station,
    interrupt: &Interrupt,
    tell: &dyn Fn(f64),
) -> Strain {
    let identity = &report.sample.identity;
    let (mut celsius, mut watts): (Option<f64>, Option<f64>) = (None, None);
    let mut distress = None;
    let begun = Instant::now();
    let used = report.sample.memory_used().unwrap_or(0.0) as u64;
    let task = Task::of(identity, Trial::Stress, seconds, used);
    let ended = match task {
        _ if !station.root().is_machine() => Ended::NotDone("a recorded device computes nothing".to_owned()),
        None => Ended::NotDone("the device is not on a PCI bus".to_owned()),
        Some(task) => Bench::default().run(&task, &mut |share| {
            tell(share);
            if let Some(now) = station.report(identity.device_id) {
                celsius = celsius.into_iter().chain(now.sample.core_temperature()).reduce(f64::max);
                watts = watts.into_iter().chain(now.sample.power()).reduce(f64::max);
                let critical = now.health.checks.iter().find(|check| check.state == State::Critical);
                distress = critical.map(|check| check.description.clone());
            }
            distress.is_none() && !interrupt.came()
        }),
    };
    let (result, message) = match ended {
        Ended::NotDone(why) => ("unknown", format!("not done: {why}")),
        Ended::Broken(why) => ("fail", why),
        Ended::Found(found) => (if found.right { "pass" } else { "fail" }, found.words),
        Ended::Stopped(mistakes) => match distress {
            Some(why) => ("fail", format!("stopped, to spare it: {why}")),
            None if mistakes > 0 => ("fail", format!("stopped; {mistakes} results were wrong")),
            None => ("unknown", "stopped; no result was wrong".to_owned()),
        },
    };
    Strain {
        device_id: identity.device_id,
        result,
        message,
        seconds: begun.elapsed().as_secs_f64(),
        greatest_temperature: celsius,
        greatest_power: watts,
    }
}
