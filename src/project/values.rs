//! Decoders of the language's own small values: lengths of time, dates, comparisons, windows.

use super::reader::{Fields, Reader};
use super::yaml::{Node, NodeKind};
use crate::diagnostic::{Code, Diagnostic, Span, Spanned};
use crate::model::{Comparator, Duration, Measure, MeasureFunction, Window};
use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, TimeZone, Utc};

/// Keys of a window.
pub(super) const WINDOW_KEYS: [&str; 5] = ["within", "between", "before", "after", "inclusive"];

/// Measures of an `event` condition and their keys.
const MEASURES: [(&str, MeasureFunction); 6] = [
    ("count", MeasureFunction::Count),
    ("sum", MeasureFunction::Sum),
    ("min", MeasureFunction::Min),
    ("max", MeasureFunction::Max),
    ("avg", MeasureFunction::Avg),
    ("unique_count", MeasureFunction::UniqueCount),
];

/// Longest first, so that `<=` is not read as `<`.
const COMPARATORS: [(&str, Comparator); 8] = [
    ("<=", Comparator::LessOrEqual),
    (">=", Comparator::GreaterOrEqual),
    ("<>", Comparator::NotEqual),
    ("!=", Comparator::NotEqual),
    ("==", Comparator::Equal),
    ("=", Comparator::Equal),
    ("<", Comparator::Less),
    (">", Comparator::Greater),
];

/// The zone of times that name none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    /// A fixed distance from UTC.
    Fixed(FixedOffset),
    /// A named zone, whose rules are not known here.
    Named,
}

impl Zone {
    /// `UTC`, `Z`, `+HH:MM` or `Area/City`; `None` when it is none of them.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if matches!(text, "UTC" | "Z" | "Etc/UTC") {
            return FixedOffset::east_opt(0).map(Self::Fixed);
        }
        if text.starts_with(['+', '-']) {
            return text.parse().ok().map(Self::Fixed);
        }
        let part = |p: &str| {
            p.starts_with(|c: char| c.is_ascii_uppercase())
                && p.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+'))
        };
        (text.contains('/') && text.split('/').all(part)).then_some(Self::Named)
    }
}

/// Why a text is not a time.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TimeMistake {
    NotATime,
    NeedsZone,
}

/// Reads a date (its first moment) or a time; those without a zone are in `zone`.
pub(super) fn parse_time(text: &str, zone: Zone) -> Result<DateTime<Utc>, TimeMistake> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.with_timezone(&Utc));
    }
    let midnight = |d: NaiveDate| d.and_hms_opt(0, 0, 0);
    let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    let local = text
        .parse::<NaiveDate>()
        .ok()
        .and_then(midnight)
        .or_else(|| formats.iter().find_map(|f| NaiveDateTime::parse_from_str(text, f).ok()))
        .ok_or(TimeMistake::NotATime)?;
    match zone {
        Zone::Fixed(offset) => {
            offset.from_local_datetime(&local).single().map(|t| t.with_timezone(&Utc)).ok_or(TimeMistake::NotATime)
        }
        Zone::Named => Err(TimeMistake::NeedsZone),
    }
}

/// Whether a share is written with its sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PercentSign {
    /// `10%` only.
    Required,
    /// The key says that it is percent: `10` or `10%`.
    Optional,
}

impl Reader<'_> {
    /// A share in percent, from 0 to 100.
    pub(super) fn percent(&mut self, key: &str, node: &Node, sign: PercentSign) -> Option<f64> {
        let text = self.scalar(key, node)?;
        let written = text.value.trim();
        let bare = written.strip_suffix('%').or((sign == PercentSign::Optional).then_some(written));
        let number = bare.and_then(|t| t.trim().parse::<f64>().ok()).filter(|n| (0.0..=100.0).contains(n));
        if number.is_none() {
            let example = if sign == PercentSign::Required { "10%" } else { "10" };
            self.findings.push(
                Diagnostic::error(Code::OutOfRange, text.span, format!("`{key}` must be a share in percent"))
                    .with_label("expected 0% to 100%")
                    .with_help(format!("write it like `{key}: {example}`")),
            );
        }
        number
    }

    /// A length of time.
    pub(super) fn duration(&mut self, key: &str, node: &Node) -> Option<Spanned<Duration>> {
        let text = self.scalar(key, node)?;
        match Duration::parse(&text.value) {
            Some(duration) if duration.micros > 0 => Some(Spanned::new(duration, text.span)),
            Some(_) => {
                self.findings.push(
                    Diagnostic::error(Code::OutOfRange, text.span, format!("`{key}` must be longer than nothing"))
                        .with_label("an empty window"),
                );
                None
            }
            None => {
                let finding = bad_duration(key, text.span, &self.shown(text.span));
                self.findings.push(finding);
                None
            }
        }
    }

    /// A date or time.
    pub(super) fn time(&mut self, key: &str, node: &Node, zone: Zone) -> Option<Spanned<DateTime<Utc>>> {
        let text = self.scalar(key, node)?;
        let finding = match parse_time(&text.value, zone) {
            Ok(time) => return Some(Spanned::new(time, text.span)),
            Err(TimeMistake::NotATime) => {
                let shown = self.shown(text.span);
                Diagnostic::error(Code::BadTime, text.span, format!("`{shown}` is not a date or time"))
                    .with_label("expected YYYY-MM-DD, or YYYY-MM-DDTHH:MM:SSZ")
            }
            Err(TimeMistake::NeedsZone) => Diagnostic::error(Code::BadTime, text.span, "this time needs its zone")
                .with_label("the zone is not known here")
                .with_note("a named `timezone` is applied to data, not to times in definitions")
                .with_help("write it in UTC, such as 2025-02-01T00:00:00Z"),
        };
        self.findings.push(finding);
        None
    }

    /// The window keys of a mapping.
    pub(super) fn window(&mut self, fields: &Fields<'_>, zone: Zone) -> Window {
        let mut window = Window {
            within: fields.get("within").and_then(|n| self.duration("within", n)),
            between: fields.get("between").and_then(|n| self.between(n)),
            before: fields.get("before").and_then(|n| self.time("before", n, zone)),
            after: fields.get("after").and_then(|n| self.time("after", n, zone)),
            inclusive: false,
        };
        if let Some(node) = fields.get("inclusive") {
            window.inclusive = self.boolean("inclusive", node).unwrap_or(false);
            let bounded = WINDOW_KEYS[..4].iter().any(|k| fields.get(k).is_some());
            if !bounded {
                fields.meaningless(self, &["inclusive"], "there is no window to close");
            }
        }
        if let (Some(within), Some(between)) = (fields.key_span("within"), fields.key_span("between")) {
            self.conflict(between, "between", within, "within", "keep one of them");
        }
        if let (Some(before), Some(after)) = (&window.before, &window.after)
            && before.value <= after.value
        {
            self.findings.push(
                Diagnostic::error(Code::OutOfRange, before.span, "the window is empty: `before` is not after `after`")
                    .with_label("the window ends here")
                    .with_related(after.span, "and starts here"),
            );
        }
        window
    }

    fn between(&mut self, node: &Node) -> Option<Spanned<(Duration, Duration)>> {
        let items = self.list("between", node)?;
        let [from, to] = items else {
            self.findings.push(
                Diagnostic::error(Code::WrongType, node.span, "`between` takes two lengths of time ago")
                    .with_label(format!("these are {}", items.len()))
                    .with_help("write `between: [30 days, 7 days]`"),
            );
            return None;
        };
        // The nearer end may be no distance at all: `[30 days, 0 days]` ends at as_of.
        let from = self.duration("between", from);
        let to = self.duration_or_zero(to);
        let (from, to) = (from?, to?);
        if from.value <= to.value {
            self.findings.push(
                Diagnostic::error(
                    Code::OutOfRange,
                    node.span,
                    "the window is empty: the first length must be the longer",
                )
                .with_label("both count back from as_of")
                .with_help("swap the two"),
            );
            return None;
        }
        Some(Spanned::new((from.value, to.value), node.span))
    }

    fn duration_or_zero(&mut self, node: &Node) -> Option<Spanned<Duration>> {
        let zero = match &node.kind {
            NodeKind::Number(text) => text == "0",
            NodeKind::Text { value, .. } => Duration::parse(value) == Some(Duration { micros: 0 }),
            _ => false,
        };
        if zero { Some(Spanned::new(Duration { micros: 0 }, node.span)) } else { self.duration("between", node) }
    }

    /// Reports two keys that exclude each other.
    pub(super) fn conflict(&mut self, span: Span, key: &str, other_span: Span, other: &str, help: &str) {
        self.findings.push(
            Diagnostic::error(Code::Conflict, span, format!("`{key}` and `{other}` exclude each other"))
                .with_label("this one")
                .with_related(other_span, "and this one")
                .with_help(help),
        );
    }

    /// The measures among a condition's keys.
    pub(super) fn measures(&mut self, fields: &Fields<'_>) -> Vec<Measure> {
        let mut measures = Vec::new();
        for (key, function) in MEASURES {
            if let Some(node) = fields.get(key) {
                let Some(measure) = self.measure(key, function, node) else { continue };
                super::meaning::constant(self, key, &measure, node.span);
                measures.push(measure);
            }
        }
        measures
    }

    fn measure(&mut self, key: &str, function: MeasureFunction, node: &Node) -> Option<Measure> {
        let count = function == MeasureFunction::Count;
        if let (NodeKind::Number(number), true) = (&node.kind, count) {
            let number = number.clone();
            return Some(Measure { function, operand: None, comparator: Comparator::Equal, number });
        }
        if matches!(node.kind, NodeKind::List(_) | NodeKind::Map(_) | NodeKind::Null) {
            self.wrong_type(node, key, if count { "a number or a comparison" } else { "a comparison" });
            return None;
        }
        let text = self.sql(key, node)?;
        let Some((operand, comparator, number)) = parse_comparison(&text.value) else {
            self.bad_comparison(key, count, text.span);
            return None;
        };
        if operand.is_empty() != count {
            self.bad_comparison(key, count, text.span);
            return None;
        }
        let lead = text.value.len() - text.value.trim_start().len();
        let span = self.sources.locate_range(text.span, &text.value, lead, lead + operand.len());
        let operand = (!count).then(|| Spanned::new(operand.to_owned(), span));
        Some(Measure { function, operand, comparator, number: number.to_owned() })
    }

    /// Reports a text that is no comparison with a number.
    pub(super) fn bad_comparison(&mut self, key: &str, count: bool, span: Span) {
        let shown = self.shown(span);
        let example = if count { format!("{key}: '> 2'") } else { format!("{key}: 'amount >= 100'") };
        let label =
            if count { "expected a comparison with a number" } else { "expected SQL, a comparison and a number" };
        self.findings.push(
            Diagnostic::error(Code::BadComparison, span, format!("`{key}` cannot be `{shown}`"))
                .with_label(label)
                .with_help(format!("write it like `{example}`")),
        );
    }
}

fn bad_duration(key: &str, span: Span, shown: &str) -> Diagnostic {
    let finding = Diagnostic::error(Code::BadDuration, span, format!("`{key}` cannot be `{shown}`"))
        .with_label("expected a length of time");
    let lower = shown.to_lowercase();
    if lower.contains("month") || lower.contains("year") {
        return finding.with_help("months and years differ in length: write days, such as `30 days`");
    }
    if shown.chars().all(|c| c.is_ascii_digit()) {
        return finding.with_help(format!("name the unit: `{shown} days`"));
    }
    finding.with_help("write it like `30 days`, `24 hours`, `90 minutes` or `1 week`")
}

/// Splits `operand op number`; the operand may be empty.
pub(super) fn parse_comparison(text: &str) -> Option<(&str, Comparator, &str)> {
    let text = text.trim();
    let number_start = text
        .rfind(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-')))
        .map(|i| i + text[i..].chars().next().map_or(1, char::len_utf8))?;
    let number = &text[number_start..];
    if !is_number(number) {
        return None;
    }
    let before = text[..number_start].trim_end();
    let (sign, comparator) = COMPARATORS.iter().find(|(sign, _)| before.ends_with(sign))?;
    Some((before[..before.len() - sign.len()].trim_end(), *comparator, number))
}

/// A SQL number: `-1`, `2.50`, `1e3`.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '-' | '+'))
        && text.parse::<f64>().is_ok_and(f64::is_finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc() -> Zone {
        Zone::parse("UTC").expect("UTC is a zone")
    }

    #[test]
    fn comparisons() {
        assert_eq!(parse_comparison("> 2"), Some(("", Comparator::Greater, "2")));
        assert_eq!(parse_comparison(">=2.50"), Some(("", Comparator::GreaterOrEqual, "2.50")));
        assert_eq!(parse_comparison("a + b <= -1e3"), Some(("a + b", Comparator::LessOrEqual, "-1e3")));
        assert_eq!(parse_comparison("f(a > 1) <> 7 "), Some(("f(a > 1)", Comparator::NotEqual, "7")));
        assert_eq!(parse_comparison("case when x = 'é' then 1 end != 0").map(|c| c.1), Some(Comparator::NotEqual));
        for bad in ["", "2", "more than 2", "> two", "> 2 days", "> nan", "> 1e999", "=> 2x", "é"] {
            assert_eq!(parse_comparison(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_and_zones() {
        let at = |text: &str, zone| parse_time(text, zone).map(|t| t.to_rfc3339());
        assert_eq!(at("2025-02-01", utc()), Ok("2025-02-01T00:00:00+00:00".to_owned()));
        assert_eq!(at("2025-02-01 10:30", utc()), Ok("2025-02-01T10:30:00+00:00".to_owned()));
        assert_eq!(at("2025-02-01T10:30:00+02:00", utc()), Ok("2025-02-01T08:30:00+00:00".to_owned()));
        let plus = Zone::parse("+02:00").expect("an offset");
        assert_eq!(at("2025-02-01", plus), Ok("2025-01-31T22:00:00+00:00".to_owned()));
        assert_eq!(Zone::parse("Europe/Berlin"), Some(Zone::Named));
        assert_eq!(at("2025-02-01", Zone::Named), Err(TimeMistake::NeedsZone));
        assert_eq!(at("01.02.2025", utc()), Err(TimeMistake::NotATime));
        assert_eq!(at("2025-02-30", utc()), Err(TimeMistake::NotATime));
        assert_eq!(Zone::parse("Berlin"), None);
        assert_eq!(Zone::parse("+2"), None);
    }
}
