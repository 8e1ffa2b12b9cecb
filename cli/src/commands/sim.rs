//! `minka sim`: the code of the cluster in simulated ones.

use minka_sim::balance::{Experiment, Mix, Report};
use minka_sim::gossip::{self, Faults, Row, Trial};

use crate::args::sim::{Balance, Gossip, Sim};
use crate::failure::Failure;
use crate::output::{Output, Table};

pub(super) fn sim(command: &Sim, output: &mut Output) -> Result<(), Failure> {
    match command {
        Sim::Balance(arguments) => balance(arguments, output),
        Sim::Gossip(arguments) => gossip(arguments, output),
    }
}

fn balance(arguments: &Balance, output: &mut Output) -> Result<(), Failure> {
    let mix = Mix {
        memory_max_percent: f64::from(arguments.memory),
        arrivals_s: f64::from(arguments.duration),
        ..Mix::default()
    };
    let experiment =
        Experiment { scenarios: arguments.scenarios, seed: arguments.seed, mix, ..Experiment::default() };
    let report = experiment.run();
    if output.is_json() {
        return output.json(&report);
    }
    let variables = [("scenarios", report.scenarios.into()), ("jobs", report.jobs.into())];
    let title = output.text.with("sim-balance", &variables);
    output.line(&title)?;
    for line in slowdowns(&report, output).lines() {
        output.line(&line)?;
    }
    Ok(())
}

fn slowdowns(report: &Report, output: &Output) -> Table {
    let headings = ["sim-policy", "sim-slowdown", "sim-against-mosix"].map(|id| output.text.get(id));
    let mut table = Table::new(headings.to_vec(), vec![false, true, true]);
    let rows = [
        ("sim-pvm", report.pvm),
        ("sim-e-pvm", report.e_pvm),
        ("sim-mosix", report.mosix),
        ("sim-e-mosix", report.e_mosix),
        ("sim-unplaced", report.ours_unplaced),
        ("sim-ours", report.ours),
    ];
    for (policy, slowdown) in rows {
        let against = format!("{:.2}", slowdown / report.mosix);
        table.row(vec![output.text.get(policy), format!("{slowdown:.3}"), against]);
    }
    table
}

fn gossip(arguments: &Gossip, output: &mut Output) -> Result<(), Failure> {
    let Some(nodes) = arguments.nodes else {
        let report = gossip::run(u32::MAX, arguments.seed);
        return if output.is_json() { output.json(&report) } else { ages(&report.rows, output) };
    };
    let part = |percent: u8| f64::from(percent) / 100.0;
    let faults = Faults {
        loss: part(arguments.loss),
        dead: part(arguments.dead),
        slow: part(arguments.slow),
        partition_s: arguments.partition,
    };
    let row = gossip::row(&Trial { faults, ..Trial::new(nodes, arguments.window, arguments.seed) });
    if output.is_json() { output.json(&row) } else { ages(&[row], output) }
}

fn ages(rows: &[Row], output: &mut Output) -> Result<(), Failure> {
    let headings = ["sim-nodes", "sim-window", "sim-mean-age", "sim-expected", "sim-max-age", "sim-expected"];
    let mut headings = headings.map(|id| output.text.get(id)).to_vec();
    headings.push(output.text.get("sim-bytes"));
    let mut table = Table::new(headings, vec![true; 7]);
    for row in rows {
        let expected = |age: f64, ratio: Option<f64>| {
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.2}", age / ratio))
        };
        table.row(vec![
            row.nodes.to_string(),
            row.window.to_string(),
            format!("{:.2}", row.mean_age),
            expected(row.mean_age, row.mean_age_ratio),
            format!("{:.2}", row.max_age),
            expected(row.max_age, row.max_age_ratio),
            format!("{:.0}", row.bytes_per_s),
        ]);
    }
    table.lines().iter().try_for_each(|line| output.line(line))
}
