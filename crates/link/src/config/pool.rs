//! The part of `node.toml` that says how the node shares with the others: `[pool]`.
//!
//! ```toml
//! [pool]
//! kind = "adaptive"                           # or "single", "server", "client"
//! times = ["mon-fri 20:00-08:00", "sat,sun"]  # when it takes guests, local time; always if nothing is said
//! idle_min = 10                               # and only when nobody has used the machine for so long
//! ```
//!
//! In a *single* pool, which is what there is if nothing is said, all nodes are for everybody. A *server* computes for the
//! others; a *client* sends its own work away and takes none. An *adaptive* node takes part now and then: when its times
//! say so, and while nobody sits at it. When it ceases to, its guests go home.

use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// Minutes of a day.
const DAY_MIN: u16 = 24 * 60;

/// Days as they are written.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// More times than anybody needs to say.
const TIMES_MAX: usize = 64;

/// How a node shares with the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolKind {
    /// All are for everybody.
    #[default]
    Single,
    /// It computes for the others.
    Server,
    /// It takes no guests, and its own processes go to others.
    Client,
    /// It takes part now and then.
    Adaptive,
}

/// What is said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConfig {
    /// How it shares.
    pub kind: PoolKind,
    /// Of an adaptive node: when it takes guests; always if nothing is said.
    #[serde(deserialize_with = "few")]
    pub times: Vec<Times>,
    /// Of an adaptive node: for how many minutes nobody must have used the machine; 0 if that does not matter.
    pub idle_min: u32,
}

/// Times of the week, such as `mon-fri 20:00-08:00`, `sat,sun` or `daily 12:00-13:00`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    /// Each from a minute to another one, counted from the beginning of Monday; the second may be of the next week.
    pub ranges: Vec<(u16, u16)>,
}

impl FromStr for Times {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no time of the week, such as \"mon-fri 20:00-08:00\" or \"sat,sun\"");
        let (days, hours) = text.trim().split_once(' ').unwrap_or_else(|| (text.trim(), "00:00-24:00"));
        let (from, until) = hours.trim().split_once('-').ok_or_else(wrong)?;
        let (from, until) = (minute(from).ok_or_else(wrong)?, minute(until).ok_or_else(wrong)?);
        if from == until || from == DAY_MIN {
            return Err(wrong());
        }
        // What ends before it begins ends on the next day.
        let until = if until < from { until + DAY_MIN } else { until };
        let days = days_of(days).ok_or_else(wrong)?;
        let ranges = (0..7).zip(days).filter(|(_, is_meant)| *is_meant);
        Ok(Times { ranges: ranges.map(|(day, _)| (day * DAY_MIN + from, day * DAY_MIN + until)).collect() })
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn few<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Times>, D::Error> {
    let times = Vec::<Times>::deserialize(deserializer)?;
    let many = || serde::de::Error::custom(format!("there may be {TIMES_MAX} times at most"));
    if times.len() <= TIMES_MAX { Ok(times) } else { Err(many()) }
}

/// `20:00`, or `24:00` for the end of a day.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let is_one = (hour < 24 && minute < 60) || (hour == 24 && minute == 0);
    is_one.then(|| hour * 60 + minute)
}

/// `daily`, or days and ranges of days, separated by commas.
fn days_of(text: &str) -> Option<[bool; 7]> {
    if text.eq_ignore_ascii_case("daily") {
        return Some([true; 7]);
    }
    let day = |name: &str| DAYS.iter().position(|day| name.trim().eq_ignore_ascii_case(day));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (day(first)?, day(last)?);
        days[at] = true;
        while at != last {
            at = (at + 1) % 7;
            days[at] = true;
        }
    }
    Some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_in_the_docs_says_everything() {
        let lines = include_str!("pool.rs").lines().take_while(|line| line.starts_with("//!"));
        let lines = lines.map(|line| line.trim_start_matches("//!").trim_start());
        let example: Vec<&str> = lines.skip_while(|line| *line != "[pool]").skip(1).collect();
        let example = example.split(|line| *line == "```").next().unwrap().join("\n");
        let config: PoolConfig = toml::from_str(&example).unwrap();
        assert_eq!((config.kind, config.idle_min, config.times.len()), (PoolKind::Adaptive, 10, 2));
        assert_eq!(config.times[0].ranges[0], (20 * 60, 32 * 60), "it ends on Tuesday");
        assert_eq!(config.times[1].ranges, [(5 * 24 * 60, 6 * 24 * 60), (6 * 24 * 60, 7 * 24 * 60)]);
        assert_eq!(toml::from_str::<PoolConfig>("").unwrap(), PoolConfig::default());
    }

    #[test]
    fn times_are_read() {
        let days = |text: &str| {
            let times: Times = text.parse().unwrap();
            times.ranges.iter().map(|(from, _)| from / DAY_MIN).collect::<Vec<_>>()
        };
        assert_eq!(days("daily 12:00-13:00"), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(days("sat-mon,WED 0:30-24:00"), [0, 2, 5, 6]);
        assert_eq!("sun 22:00-06:00".parse::<Times>().unwrap().ranges, [(6 * 1440 + 1320, 7 * 1440 + 360)]);
        for wrong in [
            "",
            "never",
            "mon 8-9",
            "mon 08:00-08:00",
            "mon 24:00-08:00",
            "mon 08:60-09:00",
            "mon- 08:00-09:00",
        ] {
            assert!(wrong.parse::<Times>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        let refusal = |text: &str| toml::from_str::<PoolConfig>(text).unwrap_err().to_string();
        assert!(refusal("times = ['at night']").contains("is no time of the week"));
        assert!(refusal("kind = 'both'").contains("unknown variant"));
        let many = vec!["'sat'"; TIMES_MAX + 1].join(",");
        assert!(refusal(&format!("times = [{many}]")).contains("64 times at most"));
    }
}
