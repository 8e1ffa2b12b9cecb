//! What happens, as a stream of server-sent events.
//!
//! A stream begins with how everything is, and goes on with what has changed, looked at once a second: so a client needs
//! nothing else, and one that was disconnected begins anew. A process can be followed closer: then its forwarded calls
//! are told, as `minka trace` shows them.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, KeepAliveStream, Sse};
use futures_core::Stream;
use minka_node::ask::{Caller, Next};
use minka_node::protocol::{self, Node, Process};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::body::{From, Path, Pid};
use crate::paths::ask;
use crate::problem::Problem;
use crate::server::App;

/// How often everything is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Events that wait for a slow reader; the source waits then.
const WAITING: usize = 64;

/// How long a source that has nothing to tell goes without looking whether somebody still listens.
const SILENCE: Duration = Duration::from_millis(500);

/// An answer that goes on.
type Told = Sse<KeepAliveStream<Events>>;

/// What comes out of a source.
pub(crate) struct Events {
    receiver: Receiver<Event>,
    _place: OwnedSemaphorePermit,
}

impl Stream for Events {
    type Item = Result<Event, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context).map(|event| event.map(Ok))
    }
}

/// A place for a stream, of which there are few: each has something that looks or waits for it.
fn begin(app: &App) -> Result<(Sender<Event>, Told), Problem> {
    let place = Arc::clone(&app.streams).try_acquire_owned().map_err(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many streams of events are read already")
    })?;
    let (sender, receiver) = channel(WAITING);
    Ok((sender, Sse::new(Events { receiver, _place: place }).keep_alive(KeepAlive::default())))
}

fn event<T: Serialize>(name: &str, content: &T) -> Event {
    // What is told has been written as JSON before, and can be.
    Event::default().event(name).data(serde_json::to_string(content).unwrap_or_default())
}

/// Nodes that come, go or change how they take part (`node`), processes that move (`process`), and processes that are
/// forgotten (`forgotten`): first all that there are, then what changes.
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    responses((status = 200, body = String, content_type = "text/event-stream"))
)]
pub(crate) async fn of_node(State(app): State<Arc<App>>, From(caller): From) -> Result<Told, Problem> {
    let (sender, stream) = begin(&app)?;
    tokio::spawn(tell_changes(app, caller, sender));
    Ok(stream)
}

/// Tells what changes until nobody listens.
async fn tell_changes(app: Arc<App>, caller: Caller, sender: Sender<Event>) {
    let mut known = Known::default();
    while !sender.is_closed() {
        let look = ask(&app, move |daemon| (daemon.nodes(), daemon.processes_for(caller, false))).await;
        let Ok((nodes, processes)) = look else { return };
        for event in known.update(nodes, processes) {
            if sender.send(event).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = sender.closed() => {}
        }
    }
}

/// What was told last.
#[derive(Debug, Default)]
struct Known {
    nodes: BTreeMap<String, Node>,
    /// By number; of several that had it, the one that came last in the daemon's list.
    processes: BTreeMap<i32, Process>,
}

impl Known {
    /// What there is to tell.
    fn update(&mut self, nodes: Vec<Node>, processes: Vec<Process>) -> Vec<Event> {
        let mut events = Vec::new();
        for node in nodes {
            let told = self.nodes.get(&node.name);
            if told.is_none_or(|told| standing(told) != standing(&node)) {
                events.push(event("node", &node));
            }
            self.nodes.insert(node.name.clone(), node);
        }
        let processes: BTreeMap<i32, Process> = processes.into_iter().map(|it| (it.pid, it)).collect();
        for process in processes.values() {
            if self.processes.get(&process.pid) != Some(process) {
                events.push(event("process", process));
            }
        }
        let forgotten = self.processes.keys().filter(|pid| !processes.contains_key(pid));
        events.extend(forgotten.map(|pid| event("forgotten", &serde_json::json!({ "pid": pid }))));
        self.processes = processes;
        events
    }
}

/// What is told of a node when it changes. Its load does so all the time; that is what `/v1/nodes` and `/metrics` are for.
fn standing(node: &Node) -> (bool, bool, Option<(bool, bool, bool)>) {
    let flags = node.figures.as_ref().map(|figures| (figures.blocked, figures.stays, figures.leaving));
    (node.reachable, node.member, flags)
}

/// The calls that a process forwards, its moves and its end.
#[utoipa::path(
    get, path = "/v1/processes/{pid}/events", tag = "events", params(Pid),
    responses((status = 200, body = String, content_type = "text/event-stream"))
)]
pub(crate) async fn of_process(
    State(app): State<Arc<App>>,
    From(caller): From,
    Path(Pid { pid }): Path<Pid>,
) -> Result<Told, Problem> {
    let (sender, stream) = begin(&app)?;
    let following = ask(&app, move |daemon| daemon.follow(caller, pid)).await??;
    tokio::task::spawn_blocking(move || {
        while !sender.is_closed() {
            let next = match following.next(SILENCE) {
                Next::Event(event) => event,
                Next::Nothing => continue,
                Next::Over => return,
            };
            let last = matches!(next, protocol::Event::Ended { .. });
            if sender.blocking_send(event("trace", &next)).is_err() || last {
                return;
            }
        }
    });
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, member: bool) -> Node {
        Node {
            name: name.to_owned(),
            address: "10.0.0.1:1".to_owned(),
            this: false,
            reachable: true,
            guests: 0,
            number: None,
            member,
            figures: None,
        }
    }

    fn process(pid: i32, at: &str) -> Process {
        Process {
            pid,
            uid: Some(7),
            command: "work".to_owned(),
            home: "a".to_owned(),
            home_pid: pid,
            at: at.to_owned(),
            state: protocol::State::Away,
            moves: 1,
            wanted: None,
            freeze_us: None,
            reason: None,
            cantmove: Vec::new(),
            memory: None,
            locked: None,
        }
    }

    #[test]
    fn everything_is_told_once_and_then_what_changes() {
        let mut known = Known::default();
        let mut told =
            |nodes: &[Node], processes: &[Process]| known.update(nodes.to_vec(), processes.to_vec()).len();
        let (a, b) = (node("a", true), node("b", false));
        assert_eq!(told(&[a.clone(), b.clone()], &[process(1, "b")]), 3);
        assert_eq!(told(&[a.clone(), b.clone()], &[process(1, "b")]), 0);
        let busy = Node { guests: 5, ..b.clone() };
        assert_eq!(told(&[a.clone(), busy], &[process(1, "b")]), 0);
        assert_eq!(told(&[a.clone(), node("b", true)], &[process(1, "c")]), 2);
        assert_eq!(told(&[a, node("b", true)], &[]), 1);
    }
}
