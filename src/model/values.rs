//! Small values that the language has of its own: durations, comparisons, windows.

use crate::diagnostic::Spanned;
use chrono::{DateTime, Utc};
use std::fmt;

/// A fixed length of time. Months and years are not fixed and are refused by the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration {
    /// Length in microseconds; not negative.
    pub micros: i64,
}

impl Duration {
    /// Reads `30 days`, `24 hours`, `90 minutes`, `7d`, `24h`, `1 week`; `None` when it is not a length of time.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: i64 = text[..digits].parse().ok()?;
        let unit = match text[digits..].trim() {
            "us" | "microsecond" | "microseconds" => 1,
            "ms" | "millisecond" | "milliseconds" => 1_000,
            "s" | "second" | "seconds" => 1_000_000,
            "m" | "min" | "minute" | "minutes" => 60_000_000,
            "h" | "hour" | "hours" => 3_600_000_000,
            "d" | "day" | "days" => 86_400_000_000,
            "w" | "week" | "weeks" => 7 * 86_400_000_000,
            _ => return None,
        };
        number.checked_mul(unit).map(|micros| Self { micros })
    }
}

/// In its largest whole unit: `30 days`.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(i64, &str); 5] = [
            (86_400_000_000, "days"),
            (3_600_000_000, "hours"),
            (60_000_000, "minutes"),
            (1_000_000, "seconds"),
            (1, "microseconds"),
        ];
        let (unit, name) = UNITS.iter().find(|(unit, _)| self.micros % unit == 0).unwrap_or(&UNITS[4]);
        write!(f, "{} {name}", self.micros / unit)
    }
}

/// A comparison operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparator {
    /// `=`
    Equal,
    /// `<>` or `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparator {
    /// The SQL spelling.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

/// A measure compared with a number: `count: '> 2'`, `sum: 'amount >= 100'`.
#[derive(Debug, Clone)]
pub struct Measure {
    /// What is measured over the matching rows.
    pub function: MeasureFunction,
    /// The SQL expression that is measured; `None` for `count`.
    pub operand: Option<Spanned<String>>,
    /// The comparison.
    pub comparator: Comparator,
    /// The number compared with, as written (a SQL number).
    pub number: String,
}

/// Functions of a [`Measure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeasureFunction {
    /// Matching rows.
    Count,
    /// Sum of the operand.
    Sum,
    /// Least operand.
    Min,
    /// Greatest operand.
    Max,
    /// Mean of the operand.
    Avg,
    /// Number of distinct non-null operands.
    UniqueCount,
}

impl MeasureFunction {
    /// The key of a condition, which is also the name of the aggregate.
    pub fn word(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
            Self::Avg => "avg",
            Self::UniqueCount => "unique_count",
        }
    }
}

/// Which times count, seen from `as_of`.
#[derive(Debug, Clone, Default)]
pub struct Window {
    /// `within: d` — time >= as_of - d.
    pub within: Option<Spanned<Duration>>,
    /// `between: [a, b]` (ago) — as_of - a < time <= as_of - b; `a` is the longer.
    pub between: Option<Spanned<(Duration, Duration)>>,
    /// `before: date` — time < date.
    pub before: Option<Spanned<DateTime<Utc>>>,
    /// `after: date` — time > date (>= with `inclusive`).
    pub after: Option<Spanned<DateTime<Utc>>>,
    /// `inclusive: true` closes both ends.
    pub inclusive: bool,
}

impl Window {
    /// Whether any bound is set, which needs a time column.
    pub fn is_bounded(&self) -> bool {
        self.within.is_some() || self.between.is_some() || self.before.is_some() || self.after.is_some()
    }

    /// Whether a bound counts from the logical time.
    pub fn moves(&self) -> bool {
        self.within.is_some() || self.between.is_some()
    }
}
