//! `minka xpu policy`: what the service is to do when a device is not well.

use minka_accel::Station;
use minka_accel::policy::{Action, Comparison, Kind, Policy};
use minka_accel::station::Report;
use minka_accel_service::body::policy::{DevicePolicies, PolicyBody};
use minka_accel_service::policies;
use minka_accel_service::state::{Standing, State, Store};
use serde_json::json;

use super::{lasting, meant, show};
use crate::args::xpu::XpuPolicy;
use crate::failure::Failure;
use crate::output::{Output, Table, printable};

pub(super) fn policy(
    arguments: &XpuPolicy,
    station: &Station,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    if arguments.listalltypes {
        return types(json, output);
    }
    let store = Store::at(lasting::path(&arguments.state));
    let reports = meant(station, &arguments.device, arguments.group, &arguments.state)?;
    let identities = || reports.iter().map(|report| &report.sample.identity);
    if let Some(policy) = wanted(arguments) {
        for identity in identities() {
            policies::set(&store, station.root(), identity, policy.clone())?;
        }
    } else if let (true, Some(kind)) = (arguments.remove, arguments.kind) {
        for identity in identities() {
            policies::end(&store, station.root(), identity, kind)?;
        }
    }
    list(&store.read()?, &reports, json, output)
}

/// The policy that is to be; the command line does not let one through without type and condition.
fn wanted(arguments: &XpuPolicy) -> Option<Policy> {
    let (kind, condition) = arguments.kind.zip(arguments.condition)?;
    let action = match arguments.throttle {
        Some((least, greatest)) => Action::Throttle { least, greatest },
        None if arguments.drain => Action::Drain,
        None => Action::Notify,
    };
    arguments.create.then(|| Policy {
        kind,
        condition,
        threshold: arguments.threshold,
        notify: arguments.notify.clone(),
        command: arguments.command.clone(),
        action,
    })
}

fn word(condition: Comparison) -> &'static str {
    match condition {
        Comparison::Greater => "greater",
        Comparison::Less => "less",
        Comparison::WhenOccur => "when-occur",
    }
}

fn types(json: bool, output: &mut Output) -> Result<(), Failure> {
    if json {
        let types = Kind::ALL.iter().zip(0..).map(|(kind, number): (_, u32)| {
            let conditions: Vec<_> = kind.conditions().iter().map(|condition| word(*condition)).collect();
            json!({"number": number, "type": kind.name(), "conditions": conditions})
        });
        return output.json(&json!({"types": types.collect::<Vec<_>>()}));
    }
    for (number, kind) in Kind::ALL.iter().enumerate() {
        let conditions: Vec<_> = kind.conditions().iter().map(|condition| word(*condition)).collect();
        output.line(&format!("{number}  {kind}: {}", conditions.join(", ")))?;
    }
    Ok(())
}

fn list(state: &State, reports: &[Report], json: bool, output: &mut Output) -> Result<(), Failure> {
    let of = |report: &Report| {
        let key = report.sample.identity.key();
        let own = state.policies().iter().filter(move |standing| standing.device == key);
        (report.sample.identity.device_id, own.collect::<Vec<&Standing>>())
    };
    if json {
        let devices = reports.iter().map(of).map(|(device_id, own)| DevicePolicies {
            device_id,
            policy_list: own.iter().map(|standing| PolicyBody::of(device_id, standing)).collect(),
        });
        return output.json(&json!({"policies": devices.collect::<Vec<_>>()}));
    }
    let ids = ["xpu-device", "xpu-policy", "xpu-condition", "xpu-action", "xpu-told", "xpu-raised"];
    let headings = ids.map(|id| output.text.get(id)).to_vec();
    let mut table = Table::new(headings, [vec![true], vec![false; 5]].concat());
    for (device_id, own) in reports.iter().map(of) {
        for Standing { policy, raised, .. } in own {
            let threshold = policy.threshold.map(|threshold| format!(" {threshold}")).unwrap_or_default();
            let action = match policy.action {
                Action::Notify => "–".to_owned(),
                Action::Throttle { least, greatest } => {
                    let variables =
                        [("least", least.to_string().into()), ("greatest", greatest.to_string().into())];
                    output.text.with("xpu-action-throttle", &variables)
                }
                Action::Drain => output.text.get("xpu-action-drain"),
            };
            let told = policy.notify.iter().chain(policy.command.first()).map(|told| printable(told));
            let raised = raised.as_ref().map(|raised| format!("{} ({})", raised.since, raised.description));
            table.row(vec![
                device_id.to_string(),
                policy.kind.name().to_owned(),
                format!("{}{threshold}", word(policy.condition)),
                action,
                told.collect::<Vec<_>>().join(", "),
                raised.map_or_else(|| "–".to_owned(), |raised| printable(&raised)),
            ]);
        }
    }
    show::print(&table, output)
}
