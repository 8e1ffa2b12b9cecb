//! `tune`: how fast this machine is, beside the standard processor; and tells the daemon, if that is wanted.

use minka_node::protocol::Steering;
use serde_json::json;

use super::client;
use crate::args::openmosix::Tune;
use crate::failure::Failure;
use crate::output::Output;

pub(super) fn tune(arguments: &Tune, output: &mut Output) -> Result<(), Failure> {
    let speed = minka_sample::measure_speed().get();
    let used = client()?.nodes()?.into_iter().find(|node| node.this).and_then(|node| node.figures);
    let used = used.map(|figures| figures.speed);
    if arguments.set {
        client()?.steer(Steering::Speed { speed })?;
    }
    if output.is_json() {
        return output.json(&json!({"measured": speed, "used": used, "set": arguments.set}));
    }
    let variables = [("speed", speed.to_string().into())];
    let line = output.text.with(if arguments.set { "tune-set" } else { "tune-measured" }, &variables);
    output.line(&line)?;
    match used.filter(|used| *used != speed && !arguments.set) {
        Some(used) => {
            let line = output.text.with("tune-used", &[("speed", used.to_string().into())]);
            output.line(&line)
        }
        None => Ok(()),
    }
}
