//! How a device is set now, and what it takes.

use super::{Desk, Scheduler, Span};

/// How a device is set.
#[derive(Debug, Clone, PartialEq)]
pub struct Current {
    /// Sustained power limit, in W.
    pub power_limit: Option<u64>,
    /// Least and greatest power limit that it takes, in W.
    pub power_range: Option<(u64, u64)>,
    /// Whether it may sleep when nobody uses it.
    pub standby: Option<bool>,
    /// Its tiles; one for a device that has none.
    pub tiles: Vec<TileSettings>,
    /// What somebody changed, with what was there before: files from the card's folder.
    pub changed: Vec<(String, String, String)>,
}

/// How a tile is set.
#[derive(Debug, Clone, PartialEq)]
pub struct TileSettings {
    /// Its number.
    pub tile: u32,
    /// Least and greatest clock that the driver may choose, in MHz.
    pub frequency: Option<(u64, u64)>,
    /// The clocks that it takes, in MHz.
    pub frequency_options: Vec<u64>,
    /// How its engines divide their time.
    pub scheduler: Option<Scheduler>,
}

/// Between the least and the greatest clock a driver takes multiples of this, in MHz.
const STEP: usize = 50;

impl Desk<'_> {
    /// How the device is set now.
    pub fn current(&self) -> Current {
        let limit = self.limit(Span::Sustain);
        let standby = match self.now("device/power/control").as_str() {
            "auto" => Some(true),
            "on" => Some(false),
            _ => None,
        };
        let changed = self.remembered.iter().map(|content| {
            let now = self.now(&content.file);
            (content.file.clone(), content.value.clone(), now)
        });
        Current {
            power_limit: limit.as_ref().map(|limit| limit.watts),
            power_range: limit.and_then(|limit| limit.range),
            standby,
            tiles: self.tiles(),
            changed: changed.filter(|(_, before, now)| before != now).collect(),
        }
    }

    fn tiles(&self) -> Vec<TileSettings> {
        let clocks = self.clocks();
        if clocks.is_empty() {
            let mut frequency_options = self.amd_table().unwrap_or_default();
            if self.is_nvidia() {
                frequency_options = self.nvidia_clocks().unwrap_or_default();
            }
            return vec![TileSettings {
                tile: 0,
                frequency: None,
                frequency_options,
                scheduler: self.scheduler_now(0),
            }];
        }
        let mut tiles: Vec<TileSettings> = Vec::new();
        for clock in clocks {
            if tiles.iter().any(|tile| tile.tile == clock.tile) {
                continue;
            }
            let frequency = self.number(&clock.least).zip(self.number(&clock.greatest));
            let options = self.clock_bounds(&clock).map(|(lowest, highest)| {
                (lowest..highest).step_by(STEP).chain([highest]).take(200).collect::<Vec<u64>>()
            });
            tiles.push(TileSettings {
                tile: clock.tile,
                frequency,
                frequency_options: options.unwrap_or_default(),
                scheduler: self.scheduler_now(clock.tile),
            });
        }
        tiles
    }
}
