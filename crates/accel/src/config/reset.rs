//! Resetting a device: its driver lets go of it, the bus resets it, and the driver takes it again. And forgetting the
//! errors that were counted.
//!
//! Whoever uses it then loses its work, so somebody has to want that expressly.

use super::{ConfigError, Desk};

impl Desk<'_> {
    /// Has the driver forget the errors that it has counted or recorded since it was started. What a card keeps for
    /// good, it keeps. Tells what was forgotten.
    pub fn clear_errors(&self) -> Result<&'static str, ConfigError> {
        let refuse = ConfigError::ClearErrors;
        if self.is_nvidia() {
            let (library, index) = self.library().map_err(|reason| refuse(reason.to_string()))?;
            let outcome = library.clear_errors(index);
            let value = "0".to_owned();
            outcome.map_err(|source| ConfigError::Write { file: "nvml:errors".to_owned(), value, source })?;
            return Ok("nvml:errors");
        }
        if self.identity.driver == "i915" && self.has("error") {
            let (file, value) = (self.path("error"), "0".to_owned());
            self.put("error", &value).map_err(|source| ConfigError::Write { file, value, source })?;
            return Ok("error");
        }
        Err(refuse("the driver counts no errors that can be cleared".to_owned()))
    }

    /// Resets the device. Takes a second or more; whatever uses the device fails.
    pub fn reset(&self) -> Result<(), ConfigError> {
        let refuse = ConfigError::Reset;
        let pci = self.identity.pci.as_ref().ok_or(ConfigError::Reset("it is not on a PCI bus"))?;
        let driver = self.identity.driver.as_str();
        if driver.is_empty() {
            return Err(refuse("no kernel driver serves the device"));
        }
        let device = format!("sys/bus/pci/devices/{}", pci.address);
        let file = format!("{device}/reset");
        if !self.root.has(&file) {
            return Err(refuse("the bus has no way to reset it"));
        }
        let folder = format!("sys/bus/pci/drivers/{driver}");
        if !self.root.has(&format!("{folder}/unbind")) {
            return Err(refuse("its driver cannot be made to let go of it"));
        }
        let write = |file: String, value: &str| {
            let outcome = self.root.write(&file, value);
            outcome.map_err(|source| ConfigError::Write { file, value: value.to_owned(), source })
        };
        write(format!("{folder}/unbind"), &pci.address)?;
        let outcome = write(file, "1");
        // Whatever became of the reset: a device without a driver is of no use to anybody.
        let bound = write(format!("{folder}/bind"), &pci.address);
        outcome.and(bound)
    }
}
