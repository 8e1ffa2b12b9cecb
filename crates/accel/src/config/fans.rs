//! Fans: `pwmN_enable` says who drives one (0 nobody, at full speed; 1 what is written; 2 the device), `pwmN` how
//! hard from 0 to 255, and `pwmN_auto_pointM_{temp,pwm}` the curve of the device's own drive, in m°C and 0 to 255.

use super::{ConfigError, Desk, Setting, Write, within};

/// How a fan is driven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drive {
    /// By the device.
    Automatic,
    /// Always so hard, in %.
    Steady(u8),
    /// By the device, along these points: °C and %.
    Curve(Vec<(u8, u8)>),
}

const SETTING: Setting = Setting::Fan;

/// 255 is all that a fan can be given.
fn duty(percent: u8) -> u64 {
    (u64::from(percent) * 255).div_ceil(100)
}

impl Desk<'_> {
    pub(super) fn fan(&self, fan: u32, drive: &Drive) -> Result<Vec<Write>, ConfigError> {
        let refuse = |reason| ConfigError::NotOffered { setting: SETTING, reason };
        let monitors = self.list("device/hwmon");
        let mut controls = monitors.iter().map(|monitor| format!("device/hwmon/{monitor}/pwm{fan}"));
        let control = controls.find(|control| self.has(control) || self.has(&format!("{control}_enable")));
        let control = control.ok_or_else(|| refuse("the driver does not offer it for this device"))?;
        let enable = format!("{control}_enable");
        if !self.has(&enable) {
            return Err(refuse("the driver shows how hard the fan is driven, but lets nobody change it"));
        }
        match drive {
            Drive::Automatic => Ok(vec![self.write(enable, 2)?]),
            Drive::Steady(percent) => {
                within(SETTING, (*percent).into(), (0, 100), "%")?;
                if !self.has(&control) {
                    return Err(refuse("the driver does not take a steady speed"));
                }
                Ok(vec![self.write(enable, 1)?, self.write(control, duty(*percent))?])
            }
            Drive::Curve(points) => self.curve(&control, points),
        }
    }

    fn curve(&self, control: &str, points: &[(u8, u8)]) -> Result<Vec<Write>, ConfigError> {
        let senseless = |reason| ConfigError::Senseless { setting: SETTING, reason };
        let file = |number: usize, what: &str| format!("{control}_auto_point{number}_{what}");
        let offered = (1..=32).take_while(|number| self.has(&file(*number, "pwm"))).count();
        if offered == 0 {
            let reason = "the driver does not take a curve";
            return Err(ConfigError::NotOffered { setting: SETTING, reason });
        }
        let count = u64::try_from(points.len()).unwrap_or(u64::MAX);
        within(SETTING, count, (1, offered as u64), "points")?;
        if points.iter().any(|(_, percent)| *percent > 100) {
            return Err(senseless("a point has more than 100 %"));
        }
        let rises = |pair: &[(u8, u8)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
        if !points.windows(2).all(rises) {
            return Err(senseless("a curve has to rise from point to point"));
        }
        let mut plan = Vec::new();
        // The last point holds for what is left of the device's own.
        for number in 1..=offered {
            let Some((celsius, percent)) = points.get(number - 1).or_else(|| points.last()) else { break };
            plan.push(self.write(file(number, "temp"), u64::from(*celsius) * 1000)?);
            plan.push(self.write(file(number, "pwm"), duty(*percent))?);
        }
        plan.push(self.write(format!("{control}_enable"), 2)?);
        Ok(plan)
    }
}
