//! `minka bench`: measures the figures that Minka promises.

use std::io;

use minka_bench::{Benchmark, Better, Effort, Figure, Goal, Outcome};

use crate::args::{self, What};
use crate::failure::Failure;
use crate::output::{Output, Style, Table, paint};
use crate::text::Text;

/// Measures, and prints each benchmark's figures as soon as they are known. A promise that is not kept is shown,
/// and is no failure: the machine may have other work.
pub(super) fn bench(arguments: &args::Bench, output: &mut Output) -> Result<(), Failure> {
    let effort = if arguments.quick { Effort::Quick } else { Effort::Full };
    match &arguments.what {
        What::Accel => return accelerators(output),
        What::Farm { source } => return tell(&minka_bench::farm(source)?, output),
        _ => {}
    }
    chosen(&arguments.what).into_iter().try_for_each(|benchmark| tell(&benchmark.run(effort)?, output))
}

fn tell(outcome: &Outcome, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() { output.json(outcome) } else { show(outcome, output) }
}

fn chosen(what: &What) -> Vec<Benchmark> {
    vec![match what {
        What::Freeze => Benchmark::Freeze,
        What::Pages => Benchmark::Pages,
        What::Touch => Benchmark::Touch,
        What::Syscall => Benchmark::Syscall,
        What::Compute => Benchmark::Compute,
        What::Read => Benchmark::Read,
        What::Write => Benchmark::Write,
        What::Exec => Benchmark::Exec,
        What::Home => Benchmark::Home,
        What::Balance => Benchmark::Balance,
        What::Usher => Benchmark::Usher,
        What::Idle => Benchmark::Idle,
        What::Many => Benchmark::Many,
        What::Accel | What::Farm { .. } => return Vec::new(),
        What::All => return Benchmark::ALL.to_vec(),
    }]
}

/// What it costs to watch accelerators.
fn accelerators(output: &mut Output) -> Result<(), Failure> {
    let figures = minka_accel_service::bench::run()?;
    if output.is_json() {
        return output.json(&figures);
    }
    let goal = |must, aim| Some(Goal { must, aim, better: Better::Lower });
    let figure = |name, value, goal| Figure { name, value, goal };
    let figures = vec![
        figure("cpu_share_1", figures.cpu_share_1, None),
        figure("cpu_share_8", figures.cpu_share_8, goal(0.002, 0.0005)),
        figure("cpu_share_64", figures.cpu_share_64, None),
        figure("read_calls_1", figures.read_calls_1, None),
        figure("read_calls_8", figures.read_calls_8, None),
        figure("read_calls_64", figures.read_calls_64, None),
        figure("rss_mib", figures.rss_mib, goal(20.0, 20.0)),
        figure("rss_mib_64", figures.rss_mib_64, None),
        figure("scrape_p50_ms_8", figures.scrape_p50_ms_8, None),
        figure("scrape_p99_ms_8", figures.scrape_p99_ms_8, None),
        figure("scrape_p50_ms_64", figures.scrape_p50_ms_64, None),
        figure("scrape_p99_ms_64", figures.scrape_p99_ms_64, goal(5.0, 5.0)),
        figure("samples_per_second", figures.samples_per_second, None),
        figure("xpum_samples_per_second", figures.xpum_samples_per_second, None),
    ];
    show(&Outcome { benchmark: "accel", figures, unknown: Vec::new() }, output)
}

fn show(outcome: &Outcome, output: &mut Output) -> Result<(), Failure> {
    let title = output.text.get(&format!("help-bench-{}", outcome.benchmark));
    output.line(&paint(&io::stdout(), Style::Bold, &format!("{}: {title}", outcome.benchmark)))?;
    let headings =
        ["bench-figure", "bench-measured", "bench-must", "bench-aim"].map(|id| output.text.get(id));
    let mut table =
        Table::new([headings.to_vec(), vec![String::new()]].concat(), vec![false, true, true, true, false]);
    for figure in &outcome.figures {
        table.row(row(figure, &output.text));
    }
    for line in table.lines() {
        output.line(&line)?;
    }
    for (name, reason) in &outcome.unknown {
        output.line(&format!("{name}: {reason}"))?;
    }
    output.line("")
}

fn row(figure: &Figure, text: &Text) -> Vec<String> {
    let value = |value: f64| if value.abs() < 10.0 { format!("{value:.3}") } else { format!("{value:.1}") };
    let mut cells = vec![figure.name.to_owned(), value(figure.value)];
    if let Some(goal) = &figure.goal {
        let sign = if goal.better == Better::Lower { '≤' } else { '≥' };
        let kept = goal.reaches(figure.value, goal.must);
        cells.extend([goal.must, goal.aim].map(|bound| format!("{sign} {}", value(bound))));
        let (style, id) = if kept { (Style::Good, "bench-good") } else { (Style::Bad, "bench-bad") };
        cells.push(paint(&io::stdout(), style, &text.get(id)));
    }
    cells
}
