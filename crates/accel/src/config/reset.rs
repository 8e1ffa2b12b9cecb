//! Resetting a device: its driver lets go of it, the bus resets it, and the driver takes it again.
//!
//! Whoever uses it then loses its work, so somebody has to want that expressly.

use super::{ConfigError, Desk};

impl Desk<'_> {
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
