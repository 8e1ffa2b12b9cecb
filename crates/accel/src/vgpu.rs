//! Virtual functions: parts of a card that virtual machines use as cards of their own (SR-IOV).
//!
//! ```text
//!   device/sriov_totalvfs     how many the card can have
//!   device/sriov_numvfs       how many it has; from 0 to that many and back to 0
//!   device/virtfnN            where each is
//! ```

use serde::Serialize;

use crate::config::ConfigError;
use crate::identity::{Identity, Pci};
use crate::root::Root;

/// Whether this machine and its cards can have virtual functions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// The processor can run virtual machines.
    pub processor: Result<&'static str, &'static str>,
    /// The processor's memory is kept apart from devices.
    pub iommu: Result<&'static str, &'static str>,
    /// A card can be divided.
    pub sriov: Result<&'static str, &'static str>,
}

/// What is looked for before a card is divided.
pub fn precheck(root: &Root, devices: &[&Identity]) -> Readiness {
    // Flags stand far in front in the file, of which only the beginning is read.
    let flags = root.text("proc/cpuinfo").unwrap_or_default();
    let flag = |name: &str| flags.split_whitespace().any(|flag| flag == name);
    let say = |well: bool, yes, no| if well { Ok(yes) } else { Err(no) };
    let total = devices.iter().any(|identity| total(root, identity).is_some_and(|total| total > 0));
    Readiness {
        processor: say(
            flag("vmx") || flag("svm"),
            "the processor can run virtual machines",
            "the processor cannot run virtual machines, or its firmware forbids it",
        ),
        iommu: say(
            !root.list("sys/class/iommu").is_empty(),
            "an IOMMU is in use",
            "no IOMMU is in use: the firmware or the kernel's command line switches it off",
        ),
        sriov: say(
            total,
            "a card can have virtual functions",
            "no card can have virtual functions, or its driver does not offer them",
        ),
    }
}

/// How many virtual functions a device can have; `None` when it cannot have any.
pub fn total(root: &Root, identity: &Identity) -> Option<u32> {
    root.text(&format!("{}/sriov_totalvfs", identity.path))?.parse().ok()
}

/// The virtual functions of a device: number and PCI address.
pub fn list(root: &Root, identity: &Identity) -> Vec<(u32, String)> {
    let entries = root.list(&identity.path).into_iter();
    entries
        .filter_map(|name| {
            let number = name.strip_prefix("virtfn")?.parse().ok()?;
            let uevent = root.text(&format!("{}/{name}/uevent", identity.path))?;
            Some((number, Pci::from_uevent(&uevent)?.0.address))
        })
        .collect()
}

/// Whether a device is a virtual function of another.
pub fn is_function(root: &Root, identity: &Identity) -> bool {
    let address = identity.pci.as_ref().map(|pci| format!("sys/bus/pci/devices/{}", pci.address));
    let folders = [Some(identity.path.to_string()), address];
    folders.iter().flatten().any(|folder| root.has(&format!("{folder}/physfn")))
}

/// Divides a device; 0 takes all virtual functions away.
pub fn divide(root: &Root, identity: &Identity, count: u32) -> Result<(), ConfigError> {
    let refuse = |reason| Err(ConfigError::Vgpu(reason));
    let Some(total) = total(root, identity) else {
        return refuse("the driver does not offer virtual functions for this device");
    };
    if count > total {
        return refuse("the card cannot have so many");
    }
    let path = format!("{}/sriov_numvfs", identity.path);
    let now = root.text(&path).and_then(|text| text.parse::<u32>().ok());
    match now {
        None => return refuse("the driver does not tell how many there are"),
        Some(now) if now == count => return Ok(()),
        Some(now) if now > 0 && count > 0 => {
            return refuse("there are some: they have to be taken away first");
        }
        Some(_) => {}
    }
    let value = count.to_string();
    root.write(&path, &value).map_err(|source| ConfigError::Write { file: path, value, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery;
    use crate::fixture::Recording;

    #[test]
    fn a_card_is_divided_as_far_as_it_can_be() {
        let directory = tempfile::tempdir().unwrap();
        Recording::named("b580_6_16").unwrap().plant(directory.path()).unwrap();
        let root = Root::at(directory.path());
        let identity = std::sync::Arc::clone(discovery::discover(&root).devices[0].identity());
        let refused = |count| divide(&root, &identity, count).unwrap_err().to_string();
        assert!(refused(1).ends_with("does not offer virtual functions for this device"));
        let write = |file: &str, content: &str| {
            let path = directory.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        let device = "sys/class/drm/card1/device";
        write(&format!("{device}/sriov_totalvfs"), "24\n");
        write(&format!("{device}/sriov_numvfs"), "0\n");
        assert!(refused(25).ends_with("cannot have so many"));
        divide(&root, &identity, 2).unwrap();
        assert_eq!(root.text(&format!("{device}/sriov_numvfs")).as_deref(), Some("2"));
        assert!(refused(3).contains("taken away first"));
        for number in 0..2 {
            let uevent = format!("DRIVER=xe\nPCI_ID=8086:E20B\nPCI_SLOT_NAME=0000:0b:00.{}\n", number + 1);
            write(&format!("{device}/virtfn{number}/uevent"), &uevent);
        }
        let expected = [(0, "0000:0b:00.1".to_owned()), (1, "0000:0b:00.2".to_owned())];
        assert_eq!(list(&root, &identity), expected);
        divide(&root, &identity, 0).unwrap();
        assert!(!is_function(&root, &identity));
        write(&format!("{device}/physfn/uevent"), "");
        assert!(is_function(&root, &identity));

        let ready = precheck(&root, &[&identity]);
        assert!(ready.processor.is_err() && ready.iommu.is_err() && ready.sriov.is_ok());
        write("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vme vmx\n");
        write("sys/class/iommu/dmar0/uevent", "");
        let ready = precheck(&root, &[&identity]);
        assert!(ready.processor.is_ok() && ready.iommu.is_ok());
    }
}
