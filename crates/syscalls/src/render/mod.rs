//! Calls as text, in the manner of strace: `read(3, "abc"..., 4096) = 3`.
//!
//! The text is made from a request and its outputs, by the same walk that carried them: so it shows what the call
//! really got, and works on either side. It is for people; no one should parse it.

mod data;
mod number;
mod reader;

use crate::marshal::{Placed, REPLY_HEAD, REQUEST_HEAD, collect};
use crate::spec::{Data, Direction, Kind, Outcome, Spec, is_error};
use core::fmt::Write;
use reader::{Input, read};

/// Bytes of a string that are shown, as strace does.
const SHOWN: usize = 32;
/// Elements of an array that are shown.
const ELEMENTS: usize = 16;

/// The text of a call at the home: its request as it came, how it was placed, its raw result, and the area as the
/// call left it.
#[must_use]
pub fn call(spec: &Spec, body: &[u8], placed: &Placed, result: i64, area: &[u8]) -> String {
    let mut reply = Vec::new();
    collect(placed, result, area).append_to(&mut reply);
    line(spec, body, result, &outputs(&reply))
}

/// The text of a call from its request and its reply, on either side. What cannot be understood is shown as far as
/// it goes.
#[must_use]
pub fn exchange(body: &[u8], reply: &[u8]) -> String {
    let args = arguments(body);
    let number = body.first_chunk().map_or(u32::MAX, |bytes| u32::from_le_bytes(*bytes));
    let result = reply.first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes));
    match crate::lookup(number.into()) {
        Some(spec) => line(spec.resolve(&args), body, result, &outputs(reply)),
        None => format!("call_{number}({args:x?}) = {result}"),
    }
}

/// Outputs by their tags.
type Outputs<'r> = Vec<(u32, &'r [u8])>;

/// The outputs of a reply; none if it is damaged.
fn outputs(reply: &[u8]) -> Outputs<'_> {
    let word = |at: usize| {
        let bytes = reply.get(at..).and_then(<[u8]>::first_chunk::<4>);
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    let count = (word(8) as usize).min(reply.len() / 8);
    let mut at = REPLY_HEAD + 8 * count;
    let mut all = Vec::new();
    for index in 0..count {
        let (tag, size) = (word(REPLY_HEAD + 8 * index), word(REPLY_HEAD + 8 * index + 4) as usize);
        let Some(bytes) = reply.get(at..at.saturating_add(size)) else { break };
        all.push((tag, bytes));
        at += size;
    }
    all
}

fn arguments(body: &[u8]) -> [u64; 6] {
    core::array::from_fn(|index| {
        let bytes = body.get(REQUEST_HEAD - 48 + 8 * index..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    })
}

fn line(spec: &Spec, body: &[u8], result: i64, outputs: &Outputs<'_>) -> String {
    let args = arguments(body);
    let inputs = read(spec, body);
    let mut text = String::new();
    // A command is shown under the name of its call.
    text.push_str(crate::lookup(spec.call.into()).map_or(spec.name, |call| call.name));
    text.push('(');
    for (index, argument) in spec.arguments.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        let shown = Shown { spec, index, value: args[index], inputs: &inputs, outputs };
        shown.argument(argument.kind, &mut text);
    }
    text.push_str(") = ");
    show_result(spec, result, &mut text);
    text
}

fn show_result(spec: &Spec, result: i64, text: &mut String) {
    let written = match crate::errors::name(-result) {
        Some(name) if result <= -512 => write!(text, "? {name}"),
        Some(name) if is_error(result) => write!(text, "-1 {name}"),
        _ if spec.outcome == Outcome::Value && result > 0xffff_ffff => write!(text, "{result:#x}"),
        _ => write!(text, "{result}"),
    };
    // Writing to a string cannot fail.
    let _ = written;
}

/// One argument, and what is known of the memory behind it.
struct Shown<'s> {
    spec: &'s Spec,
    index: usize,
    value: u64,
    inputs: &'s [Input<'s>],
    outputs: &'s Outputs<'s>,
}

impl Shown<'_> {
    fn argument(&self, kind: Kind, text: &mut String) {
        match kind {
            Kind::Fd => number::descriptor(self.value, text),
            Kind::Value(_) if self.is_command() => text.push_str(self.spec.name),
            Kind::Value(format) => number::value(format, self.value, text),
            _ if self.value == 0 => text.push_str("NULL"),
            Kind::Str => self.string(text),
            Kind::Data(data) => self.data(&data, text),
            Kind::Counted(counted) => self.structure(counted.direction, text),
            Kind::Bits(_) => self.bits(text),
            Kind::Vector(direction, _) => self.vector(direction, None, self.tag(), text),
            Kind::Message(direction) => self.message(direction, text),
            Kind::Messages(..) => self.messages(text),
            Kind::Strings => self.strings(text),
            Kind::MaskPair => self.mask(text),
            Kind::Address => number::address(self.value, text),
        }
    }

    /// Whether this is the argument that selected a command of a call.
    fn is_command(&self) -> bool {
        let Some(call) = crate::lookup(self.spec.call.into()) else { return false };
        call.name != self.spec.name
            && call.cases.iter().any(|case| {
                matches!(case, crate::spec::Case::By(by)
                    if usize::from(by.argument) == self.index && by.mask == u32::MAX)
            })
    }

    fn tag(&self) -> u32 {
        (self.index as u32) << 29
    }

    /// What was sent for the argument itself.
    fn input(&self) -> Option<&[u8]> {
        let mine = |input: &&Input<'_>| input.argument == self.index && input.inside.is_none();
        self.inputs.iter().find(mine).map(|input| input.bytes)
    }

    /// What was sent for a pointer inside the argument's block, or inside a block inside it.
    fn nested(&self, depth: usize, offset: usize) -> Option<&[u8]> {
        let mine = |input: &&Input<'_>| input.argument == self.index && input.inside == Some((depth, offset));
        self.inputs.iter().find(mine).map(|input| input.bytes)
    }

    fn output(&self, tag: u32) -> Option<&[u8]> {
        self.outputs.iter().find(|(found, _)| *found == tag).map(|(_, bytes)| *bytes)
    }

    fn string(&self, text: &mut String) {
        match self.input() {
            Some(bytes) => data::string(bytes.strip_suffix(b"\0").unwrap_or(bytes), 4096, text),
            None => number::address(self.value, text),
        }
    }

    fn data(&self, data: &Data, text: &mut String) {
        let (before, after) = (self.input(), self.output(self.tag()));
        let name = self.spec.arguments[self.index].name;
        match (before, after) {
            (Some(before), Some(after)) if before != after && after.len() == 4 && before.len() == 4 => {
                text.push('[');
                data::numbers(data.element, before, text);
                text.push_str(" => ");
                data::numbers(data.element, after, text);
                text.push(']');
            }
            (_, Some(bytes)) | (Some(bytes), None) => data::show(data.element, name, bytes, text),
            (None, None) => number::address(self.value, text),
        }
    }

    fn structure(&self, direction: Direction, text: &mut String) {
        let after = self.output(self.tag()).filter(|_| direction.is_written());
        match after.or_else(|| self.input()) {
            Some(bytes) => data::show("", "", bytes, text),
            None => number::address(self.value, text),
        }
    }

    fn bits(&self, text: &mut String) {
        match self.output(self.tag()).or_else(|| self.input()) {
            Some(bytes) => data::bits(bytes, 0, number::plain, text),
            None => number::address(self.value, text),
        }
    }

    fn mask(&self, text: &mut String) {
        match self.nested(0, 0) {
            Some(bytes) => {
                text.push_str("{sigmask=");
                data::bits(bytes, 1, number::signal, text);
                text.push_str(", sigsetsize=8}");
            }
            None => number::address(self.value, text),
        }
    }

    fn strings(&self, text: &mut String) {
        let Some(pointers) = self.input() else { return number::address(self.value, text) };
        let count = (pointers.len() / 8).saturating_sub(1);
        data::list(count, text, |index, text| match self.nested(0, 8 * index) {
            Some(bytes) => data::string(bytes.strip_suffix(b"\0").unwrap_or(bytes), SHOWN, text),
            None => text.push_str("..."),
        });
    }

    /// An array of `struct iovec`: the argument itself, or what a message (at this offset) refers to.
    fn vector(&self, direction: Direction, message: Option<usize>, tag: u32, text: &mut String) {
        let (array, depth) = match message {
            None => (self.input(), 0),
            Some(offset) => (self.nested(0, offset + 16), 1 + offset),
        };
        let Some(array) = array else { return text.push_str("...") };
        data::list(array.len() / 16, text, |index, text| {
            let length = array[16 * index + 8..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            text.push_str("{iov_base=");
            let sent = self.nested(depth, 16 * index);
            let bytes = if direction.is_written() { self.output(tag + index as u32) } else { sent };
            match bytes {
                Some(bytes) => data::string(bytes, SHOWN, text),
                None if length == 0 || direction.is_written() => text.push_str("\"\""),
                None => text.push_str("..."),
            }
            let _ = write!(text, ", iov_len={length}}}");
        });
    }

    fn message(&self, direction: Direction, text: &mut String) {
        match self.input() {
            Some(header) => self.header(header, 0, direction, self.tag(), text),
            None => number::address(self.value, text),
        }
    }

    fn messages(&self, text: &mut String) {
        let Kind::Messages(direction, _) = self.spec.arguments[self.index].kind else { return };
        let Some(array) = self.input() else { return number::address(self.value, text) };
        data::list(array.len() / 64, text, |index, text| {
            let tag = self.tag() + 2048 * index as u32;
            text.push_str("{msg_hdr=");
            self.header(&array[64 * index..], 64 * index, direction, tag, text);
            if let Some(length) = self.output(tag + 5) {
                text.push_str(", msg_len=");
                data::numbers("u32", length, text);
            }
            text.push('}');
        });
    }

    fn header(&self, header: &[u8], offset: usize, direction: Direction, tag: u32, text: &mut String) {
        let written = direction.is_written();
        text.push_str("{msg_name=");
        match if written { self.output(tag + 3) } else { self.nested(0, offset) } {
            Some(name) => data::address(name, text),
            None => text.push_str("NULL"),
        }
        text.push_str(", msg_iov=");
        self.vector(direction, Some(offset), tag + 8, text);
        let control = if written { self.output(tag + 4) } else { self.nested(0, offset + 32) };
        if let Some(control) = control {
            let _ = write!(text, ", msg_controllen={}", control.len());
        }
        let flags =
            if written { self.output(tag + 1).and_then(|fields| fields.get(8..)) } else { header.get(48..) };
        if let Some(flags) = flags.and_then(<[u8]>::first_chunk) {
            text.push_str(", msg_flags=");
            number::symbols(&crate::symbols::message_flags, u32::from_le_bytes(*flags), text);
        }
        text.push('}');
    }
}
