//! What is read in each file: from what the daemon says to text. Pure; the daemon is behind a trait.

use minka_node::protocol::{Figures, Node, Part, Process, State, Status};

use crate::place::{Admin, Figure, Guest, Place, Process as File};
use crate::why::Why;

/// What can be asked.
pub trait Facts {
    /// What this node is and does.
    ///
    /// # Errors
    /// When nobody answers; the same holds for all others.
    fn status(&self) -> Result<Status, Why>;

    /// All nodes, this one first.
    ///
    /// # Errors
    /// As above.
    fn nodes(&self) -> Result<Vec<Node>, Why>;

    /// A process of this node, or a guest.
    ///
    /// # Errors
    /// As above; when there is none, too.
    fn process(&self, pid: i32) -> Result<Process, Why>;

    /// Why a process cannot move.
    ///
    /// # Errors
    /// As above; when it is not for the caller to know, too.
    fn reasons(&self, pid: i32) -> Result<Vec<String>, Why>;

    /// A file of `/proc/PID`.
    ///
    /// # Errors
    /// When there is no such process.
    fn proc_file(&self, pid: i32, name: &str) -> Result<String, Why>;
}

/// The content of a file.
///
/// # Errors
/// When it is none that is read, or nothing is known.
pub fn content(place: Place, facts: &dyn Facts) -> Result<String, Why> {
    let text = match place {
        Place::AdminFile(file) => admin(file, facts)?,
        Place::NodeFile(number, file) => figure(&node(&facts.nodes()?, number)?, file)?,
        Place::GuestFile(pid, file) => guest(pid, file, facts)?,
        Place::ProcessFile(pid, file) => process(pid, file, facts)?,
        _ => return Err(Why::WrongWay),
    };
    // Several lines have their ends already, and nothing at all is nothing.
    Ok(if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" })
}

fn admin(file: Admin, facts: &dyn Facts) -> Result<String, Why> {
    if file == Admin::Config {
        return Ok(facts.nodes()?.iter().filter_map(map_line).collect());
    }
    let status = facts.status()?;
    let decay = || status.decay.ok_or(Why::Unknown);
    let part = || status.part.as_ref().ok_or(Why::Unknown);
    Ok(match file {
        Admin::Block => flag(part()?.blocked),
        Admin::Stay | Admin::Lstay => flag(part()?.stays),
        Admin::Bring => status.away.to_string(),
        Admin::Expel => status.guests.to_string(),
        Admin::Mospe => part()?.number.to_string(),
        Admin::Speed => part()?.speed.to_string(),
        Admin::Overheads => overheads(part()?),
        Admin::DecayInterval => decay()?.interval_s.to_string(),
        Admin::SlowDecay => decay()?.slow.to_string(),
        Admin::FastDecay => decay()?.fast.to_string(),
        Admin::Version => format!("Minka {}", status.release),
        Admin::Config => String::new(),
    })
}

fn flag(on: bool) -> String {
    u8::from(on).to_string()
}

/// What moving is thought to cost, a figure a line; the last says whether they were measured.
fn overheads(part: &Part) -> String {
    let costs = part.overheads;
    format!(
        "move_us\t{}\nmove_mib_s\t{}\ncall_ns\t{}\nmeasured\t{}\n",
        costs.move_us,
        costs.move_mib_s,
        costs.call_ns,
        flag(costs.measured)
    )
}

/// A line of a map of openMosix's.
fn map_line(node: &Node) -> Option<String> {
    let host = node.address.rsplit_once(':').map_or(node.address.as_str(), |(host, _)| host);
    Some(format!("{}\t{host}\t1\n", node.number?))
}

/// The node of a number.
///
/// # Errors
/// When there is none.
pub fn node(nodes: &[Node], number: u16) -> Result<Node, Why> {
    nodes.iter().find(|node| node.number == Some(number)).cloned().ok_or(Why::Nowhere)
}

fn figure(node: &Node, file: Figure) -> Result<String, Why> {
    let figures = node.figures.as_ref().filter(|_| node.member);
    if file == Figure::Status {
        return Ok(words(node, figures));
    }
    // What is not known is not told as zero.
    let figures = figures.ok_or(Why::Unknown)?;
    Ok(match file {
        Figure::Cpus => figures.cpus.to_string(),
        Figure::Load => figures.standard_load.to_string(),
        Figure::Mem => figures.available_mib.to_string(),
        Figure::Rmem => figures.free_mib.to_string(),
        Figure::Tmem => figures.memory_mib.to_string(),
        Figure::Speed => figures.speed.to_string(),
        Figure::Util => figures.utilisation.to_string(),
        Figure::Status => String::new(),
    })
}

/// Whether a node is there, and which of `mosctl`'s verbs hold there.
fn words(node: &Node, figures: Option<&Figures>) -> String {
    let Some(figures) = figures else {
        return if node.member { "up" } else { "down" }.to_owned();
    };
    let verbs = [(true, "up"), (figures.stays, "stay"), (figures.blocked, "block")];
    let verbs = verbs.into_iter().filter(|(holds, _)| *holds);
    verbs.map(|(_, verb)| verb).collect::<Vec<_>>().join(" ")
}

fn guest(pid: i32, file: Guest, facts: &dyn Facts) -> Result<String, Why> {
    let guest = facts.process(pid)?;
    if guest.state != State::Guest {
        return Err(Why::Nowhere);
    }
    Ok(match file {
        Guest::From => number(&facts.nodes()?, &guest.home)?.to_string(),
        Guest::Identity => {
            format!("node\t{}\npid\t{}\ncommand\t{}\n", guest.home, guest.home_pid, guest.command)
        }
        Guest::Statm => facts.proc_file(pid, "statm")?,
        Guest::Stats => times(&facts.proc_file(pid, "stat")?).ok_or(Why::Unknown)?,
    })
}

/// User and system time in clock ticks, from `/proc/PID/stat`.
fn times(stat: &str) -> Option<String> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // The first of these is the third field of the file.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(format!("utime\t{}\nstime\t{}\n", field(14)?, field(15)?))
}

/// The number of the node of a name.
fn number(nodes: &[Node], name: &str) -> Result<u16, Why> {
    nodes.iter().find(|node| node.name == name).and_then(|node| node.number).ok_or(Why::Unknown)
}

fn process(pid: i32, file: File, facts: &dyn Facts) -> Result<String, Why> {
    if file == File::Cantmove {
        return Ok(facts.reasons(pid)?.iter().map(|reason| format!("{reason}\n")).collect());
    }
    let process = facts.process(pid)?;
    // Home is 0, whatever its number.
    let place = |name: &str| -> Result<String, Why> {
        Ok(match name {
            name if name == process.home => "0".to_owned(),
            "best" => "best".to_owned(),
            name => number(&facts.nodes()?, name)?.to_string(),
        })
    };
    Ok(match file {
        File::Where if process.state == State::Guest => number(&facts.nodes()?, &process.at)?.to_string(),
        File::Where => place(&process.at)?,
        File::Goto | File::Migrate => match &process.wanted {
            Some(wanted) => place(wanted)?,
            None => "0".to_owned(),
        },
        File::Lock => flag(process.locked.ok_or(Why::Unknown)?),
        File::Nmigs => process.moves.to_string(),
        File::Cantmove => String::new(),
    })
}

#[cfg(test)]
mod tests;
