//! `minka sim`: the code of the cluster in simulated ones.

use minka_sim::balance::{Experiment, Mix, Report};
use minka_sim::cluster;
use minka_sim::gossip::{self, Faults, Row, Trial};

use crate::args::sim::{Balance, Cluster, Gossip, Sim};
use crate::failure::Failure;
use crate::output::{Output, Table};

pub(super) fn sim(command: &Sim, output: &mut Output) -> Result<(), Failure> {
    match command {
        Sim::Balance(arguments) => balance(arguments, output),
        Sim::Gossip(arguments) => gossip(arguments, output),
        Sim::Cluster(arguments) => cluster(arguments, output),
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
    let faults = Faults {
        loss: part(arguments.loss),
        dead: part(arguments.dead),
        slow: part(arguments.slow),
        partition_s: arguments.partition,
    };
    let window = arguments.window.unwrap_or_else(|| gossip::window(nodes));
    let row = gossip::row(&Trial { faults, ..Trial::new(nodes, window, arguments.seed) });
    if output.is_json() { output.json(&row) } else { ages(&[row], output) }
}

fn part(percent: u8) -> f64 {
    f64::from(percent) / 100.0
}

fn cluster(arguments: &Cluster, output: &mut Output) -> Result<(), Failure> {
    let trial = cluster::Trial {
        loss: part(arguments.loss),
        dead: part(arguments.dead),
        slow: part(arguments.slow),
        partition_s: arguments.partition,
        ..cluster::Trial::new(arguments.nodes, arguments.seed)
    };
    let report = trial.run();
    if output.is_json() {
        return output.json(&report);
    }
    let time = |time: Option<f64>, output: &Output| {
        time.map_or_else(|| output.text.get("sim-never"), |time| format!("{time:.1} s"))
    };
    let mut rows = vec![
        ("sim-join", time(report.join_s, output)),
        ("sim-rest", format!("{:.0}", report.bytes_per_s)),
        ("sim-spread", time(report.balance_s, output)),
        ("sim-moves", format!("{:.2}", report.moves)),
        ("sim-restless", format!("{:.2}", report.restless_moves)),
        ("sim-wrong-downs", report.wrong_downs.to_string()),
    ];
    if arguments.dead > 0 {
        rows.push(("sim-death", time(report.death_s, output)));
        rows.push(("sim-on-dead", report.processes_on_dead.to_string()));
        rows.push(("sim-lost", report.processes_lost.to_string()));
    }
    if arguments.partition > 0 {
        rows.push(("sim-heal", time(report.heal_s, output)));
    }
    let headings = ["sim-what", "sim-figure"].map(|id| output.text.get(id)).to_vec();
    let mut table = Table::new(headings, vec![false, true]);
    for (what, figure) in rows {
        table.row(vec![output.text.get(what), figure]);
    }
    table.lines().iter().try_for_each(|line| output.line(line))
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
