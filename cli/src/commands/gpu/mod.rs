//! `minka run --gpu`: a program that uses a device is started where that is, and stays there.
//!
//! A guest has nothing of its host but processor and memory, and so no device either: a program cannot be moved to one. So
//! it is started here if there is one; if there is none, on another node that has one, and starts programs for this user
//! ([`elsewhere`]).

mod elsewhere;

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use minka_node::LOCKED_VARIABLE;
use minka_node::client::ClientError;
use minka_node::protocol::{DeviceKind, FreeDevice, Refusal};

use super::client;
use super::run::become_command;
use crate::args::Gpu;
use crate::failure::Failure;
use crate::output::Output;

/// Names the device, by its PCI address.
const DEVICE_VARIABLE: &str = "MINKA_GPU";

pub(super) fn run(gpu: Gpu, words: &[OsString], output: &mut Output) -> Result<ExitCode, Failure> {
    let kind = match gpu {
        Gpu::Any => None,
        Gpu::Intel => Some(DeviceKind::Intel),
        Gpu::Nvidia => Some(DeviceKind::Nvidia),
        Gpu::Amd => Some(DeviceKind::Amd),
        Gpu::Mic => Some(DeviceKind::Mic),
    };
    let device = match client()?.device(kind) {
        Err(ClientError::Refused(Refusal::NoDevice { elsewhere, .. })) if !elsewhere.is_empty() => {
            return start_elsewhere(kind, words, output);
        }
        device => device?,
    };
    let mut words = words.iter();
    let mut command = Command::new(words.next().cloned().unwrap_or_default());
    command.args(words).envs(variables(&device));
    // This process, to which the device has been promised, becomes the command.
    Ok(become_command(&mut command))
}

fn start_elsewhere(
    kind: Option<DeviceKind>,
    words: &[OsString],
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let (node, device, stream) = client()?.start(kind)?;
    let said = [("node", node.as_str().into()), ("device", device.address.as_str().into())];
    output.remark(&output.text.with("gpu-elsewhere", &said));
    elsewhere::run(&node, &device, stream, words)
}

/// What the program is told of its device, unless its user has chosen one.
fn variables(device: &FreeDevice) -> Vec<(&'static str, String)> {
    let mut told = vec![(DEVICE_VARIABLE, device.address.clone()), (LOCKED_VARIABLE, String::new())];
    told.extend(choice(device).filter(|(name, _)| std::env::var_os(name).is_none()));
    told
}

/// What makes libraries choose the device, where they have a name for it that means the same everywhere.
fn choice(device: &FreeDevice) -> Option<(&'static str, String)> {
    match device.kind {
        // CUDA, by the name that the driver's library gives.
        DeviceKind::Nvidia => {
            device.uuid.starts_with("GPU-").then(|| ("CUDA_VISIBLE_DEVICES", device.uuid.clone()))
        }
        // Mesa: OpenGL and Vulkan.
        DeviceKind::Intel | DeviceKind::Amd => {
            Some(("DRI_PRIME", format!("pci-{}", device.address.replace([':', '.'], "_"))))
        }
        DeviceKind::Mic => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_told_which_device_it_is() {
        let check = |kind, uuid: &str, expected: Option<(&str, &str)>| {
            let device = FreeDevice { kind, address: "0000:03:00.0".into(), uuid: uuid.into() };
            let chosen = choice(&device);
            assert_eq!(chosen.as_ref().map(|(name, value)| (*name, value.as_str())), expected);
        };
        check(DeviceKind::Nvidia, "GPU-1-2", Some(("CUDA_VISIBLE_DEVICES", "GPU-1-2")));
        check(DeviceKind::Nvidia, "00000000-1849", None);
        check(DeviceKind::Intel, "", Some(("DRI_PRIME", "pci-0000_03_00_0")));
        check(DeviceKind::Mic, "", None);
    }
}
