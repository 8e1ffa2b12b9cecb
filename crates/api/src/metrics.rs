//! What the node knows of itself and the cluster, in Prometheus's text format (0.0.4).

use std::fmt::{Display, Write};

use minka_node::protocol::{DeviceFigures, Figures, Node, Status};

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const MIB: u64 = 1 << 20;

/// A family of values that nodes tell of themselves: its name, its help, and which figure it is.
type Family<T> = (&'static str, &'static str, fn(&Figures) -> T);

/// The same of a kind of accelerators.
type DeviceFamily = (&'static str, &'static str, fn(&DeviceFigures) -> Option<u8>);

/// All values.
pub(crate) fn text(status: &Status, nodes: &[Node], arrivals: u64) -> String {
    let mut page = Page::default();
    let release = [("node", status.node.as_str()), ("release", status.release.as_str())];
    page.family("minka_info", "gauge", "The node that answers, and its release.");
    page.value("minka_info", &release, 1);
    page.family("minka_uptime_seconds", "gauge", "Time since the daemon was started.");
    page.value("minka_uptime_seconds", &[], status.uptime_s);
    page.family("minka_processes_away", "gauge", "Processes of this node that compute elsewhere.");
    page.value("minka_processes_away", &[], status.away);
    page.family("minka_guests", "gauge", "Processes of other nodes that compute here.");
    page.value("minka_guests", &[], status.guests);
    page.family("minka_arrivals_total", "counter", "Arrivals of this node's processes, at home too.");
    page.value("minka_arrivals_total", &[], arrivals);
    page.nodes(nodes, "reachable", "Whether the last connection to a node succeeded.", |node| {
        Some(u64::from(node.reachable))
    });
    page.nodes(nodes, "member", "Whether a node has joined the cluster and is up.", |node| {
        Some(u64::from(node.member))
    });
    page.nodes(nodes, "guests", "Processes of this node that compute there.", |node| Some(node.guests));
    let figures: [Family<f64>; 9] = [
        ("load", "Runnable tasks, on average: rises at once and falls slowly.", |it| it.load),
        ("running", "Runnable tasks in the last second.", |it| it.running),
        ("cpus", "Processors.", |it| f64::from(it.cpus)),
        ("speed", "Speed of a processor; 10000 is the standard one's.", |it| f64::from(it.speed)),
        ("utilisation_ratio", "Processor time in use.", |it| f64::from(it.utilisation) / 100.0),
        ("io_stall_ratio", "Time in which somebody waited for a disk.", |it| f64::from(it.io_stall) / 100.0),
        ("blocked", "Whether a node takes no guests.", |it| f64::from(u8::from(it.blocked))),
        ("stays", "Whether its processes do not leave it by themselves.", |it| f64::from(u8::from(it.stays))),
        ("information_age_seconds", "How old what is known of a node is.", |it| it.age_ms as f64 / 1000.0),
    ];
    for (name, help, figure) in figures {
        page.nodes(nodes, name, help, |node| node.figures.as_ref().map(figure));
    }
    let memory: [Family<u32>; 3] = [
        ("memory_bytes", "Memory that Linux has.", |it| it.memory_mib),
        ("memory_free_bytes", "Memory that Linux calls free.", |it| it.free_mib),
        ("memory_available_bytes", "Memory that processes can have.", |it| it.available_mib),
    ];
    for (name, help, figure) in memory {
        page.nodes(nodes, name, help, |node| node.figures.as_ref().map(|it| u64::from(figure(it)) * MIB));
    }
    let devices: [DeviceFamily; 3] = [
        ("devices", "Accelerators of a kind.", |it| Some(it.total)),
        ("devices_free", "Accelerators that nobody uses and that are not drained.", |it| it.free),
        ("devices_drained", "Accelerators that are to get no work.", |it| Some(it.drained)),
    ];
    for (name, help, figure) in devices {
        page.devices(nodes, name, help, figure);
    }
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail, here and below.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        for (index, (label, content)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"", if index == 0 { '{' } else { ',' });
            for character in content.chars() {
                match character {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A family with a value for each node of which it is known.
    fn nodes<T: Display>(
        &mut self,
        nodes: &[Node],
        name: &str,
        help: &str,
        figure: impl Fn(&Node) -> Option<T>,
    ) {
        let name = format!("minka_node_{name}");
        self.family(&name, "gauge", help);
        for node in nodes {
            if let Some(value) = figure(node) {
                self.value(&name, &[("node", &node.name)], value);
            }
        }
    }

    /// A family with a value for each kind of accelerators of each node of which it is known.
    fn devices(
        &mut self,
        nodes: &[Node],
        name: &str,
        help: &str,
        figure: impl Fn(&DeviceFigures) -> Option<u8>,
    ) {
        let name = format!("minka_node_{name}");
        self.family(&name, "gauge", help);
        for node in nodes {
            let all = node.figures.iter().filter_map(|figures| figures.devices.as_ref()).flatten();
            for (devices, value) in all.filter_map(|devices| Some((devices, figure(devices)?))) {
                self.value(&name, &[("node", &node.name), ("kind", devices.kind.name())], value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use minka_node::protocol::DeviceKind;

    use super::*;

    #[test]
    fn values_have_their_families_and_labels_are_escaped() {
        let status = Status {
            node: "a".to_owned(),
            release: "1\"\\\n".to_owned(),
            pid: 1,
            listen: String::new(),
            uptime_s: 5,
            away: 2,
            guests: 3,
            decay: None,
            pool: None,
            part: None,
        };
        let figures = Figures {
            age_ms: 1500,
            load: 1.25,
            running: 1.0,
            standard_load: 100,
            cpus: 4,
            speed: 10_000,
            utilisation: 50,
            io_stall: 0,
            memory_mib: 2,
            free_mib: 1,
            available_mib: 1,
            blocked: true,
            stays: false,
            leaving: false,
            devices: Some(vec![DeviceFigures { kind: DeviceKind::Amd, total: 2, free: None, drained: 1 }]),
        };
        let node = |name: &str, figures| Node {
            name: name.to_owned(),
            address: String::new(),
            this: false,
            reachable: true,
            guests: 7,
            number: None,
            member: true,
            figures,
        };
        let text = text(&status, &[node("a", Some(figures)), node("b", None)], 9);
        assert!(!text.contains("minka_node_devices_free{"), "what is not known is not told: {text}");
        for line in [
            r#"minka_node_devices{node="a",kind="amd"} 2"#,
            r#"minka_node_devices_drained{node="a",kind="amd"} 1"#,
            r#"minka_info{node="a",release="1\"\\\n"} 1"#,
            "minka_arrivals_total 9",
            r#"minka_node_guests{node="b"} 7"#,
            r#"minka_node_load{node="a"} 1.25"#,
            r#"minka_node_utilisation_ratio{node="a"} 0.5"#,
            r#"minka_node_memory_bytes{node="a"} 2097152"#,
            r#"minka_node_information_age_seconds{node="a"} 1.5"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains(r#"minka_node_load{node="b"}"#));
        let mut families = std::collections::BTreeSet::new();
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(rest) => assert!(families.insert(rest.split(' ').next().unwrap()), "{line} twice"),
                None if line.starts_with('#') => {}
                None => assert!(families.contains(line.split(['{', ' ']).next().unwrap()), "{line}"),
            }
        }
    }
}
