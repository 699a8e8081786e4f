//! How fast batches go, and how long a batch is tried again: limits that hold over all lanes of a sync.

use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// What a sync says about speed and patience.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pacing {
    /// Batches at once, at least one; more only where the destination takes them.
    pub concurrency: usize,
    /// Batches begun in a second; none when there is no limit.
    pub per_second: Option<f64>,
    /// How long a batch that the destination cannot take now is tried again.
    pub retry_for: Duration,
    /// Pause before the second try; each later one is twice as long, up to `longest_pause`.
    pub first_pause: Duration,
    /// No pause is longer, unless the destination asks for it.
    pub longest_pause: Duration,
}

impl Default for Pacing {
    fn default() -> Self {
        Self {
            concurrency: 1,
            per_second: None,
            retry_for: Duration::from_mins(10),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_mins(1),
        }
    }
}

impl Pacing {
    /// Pause before a try (the first try again is number 1). `chance` is from 0 to 1, so that lanes which failed together do
    /// not come back together.
    fn pause(&self, number: u32, chance: f64) -> Duration {
        let doubled = self.first_pause.saturating_mul(2_u32.saturating_pow(number.saturating_sub(1).min(30)));
        doubled.min(self.longest_pause).mul_f64(0.5 + 0.5 * chance)
    }
}

/// The turns of all lanes of one sync.
#[derive(Debug)]
pub(super) struct Pace {
    pub(super) pacing: Pacing,
    /// When the next batch may begin.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(pacing: Pacing) -> Self {
        Self { pacing, next: Mutex::new(None) }
    }

    /// Waits until a batch may begin.
    pub(super) async fn turn(&self) {
        let at = {
            let mut next = self.next.lock().await;
            let at = next.map_or_else(Instant::now, |n| n.max(Instant::now()));
            let gap = self.pacing.per_second.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
            *next = Some(at + gap);
            at
        };
        sleep_until(at).await;
    }

    /// Keeps all lanes waiting: what the destination asks of one holds for the others.
    async fn hold(&self, length: Duration) {
        let until = Instant::now() + length;
        let mut next = self.next.lock().await;
        *next = Some(next.map_or(until, |n| n.max(until)));
    }
}

/// The tries of one batch.
#[derive(Debug, Default)]
pub(super) struct Patience {
    tries: u32,
    since: Option<Instant>,
}

impl Patience {
    /// Waits before the next try; false when the time for it is over.
    pub(super) async fn wait(&mut self, pace: &Pace, asked: Option<Duration>) -> bool {
        self.tries += 1;
        let since = *self.since.get_or_insert_with(Instant::now);
        let own = pace.pacing.pause(self.tries, chance());
        let pause = asked.map_or(own, |asked| asked.max(own));
        if since.elapsed() + pause > pace.pacing.retry_for {
            return false;
        }
        if let Some(asked) = asked {
            pace.hold(asked).await;
        }
        sleep_until(Instant::now() + pause).await;
        true
    }
}

/// A number from 0 to 1 by chance.
fn chance() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ() {
        let pacing = Pacing::default();
        let seconds = |number, chance| pacing.pause(number, chance).as_secs_f64();
        for (number, longest) in [(1, 0.5), (2, 1.0), (3, 2.0), (7, 32.0), (8, 60.0), (4_000_000_000, 60.0)] {
            assert!((seconds(number, 1.0) - longest).abs() < 1e-9, "{number}");
            assert!((seconds(number, 0.0) - longest / 2.0).abs() < 1e-9, "{number}");
        }
    }

    #[tokio::test]
    async fn the_rate_holds_over_all_and_a_pause_asked_of_one_holds_all() {
        let pace = Pace::new(Pacing { per_second: Some(200.0), ..Pacing::default() });
        let start = Instant::now();
        for _ in 0..5 {
            pace.turn().await;
        }
        assert!(start.elapsed() >= Duration::from_millis(20));
        let start = Instant::now();
        pace.hold(Duration::from_millis(60)).await;
        pace.turn().await;
        assert!(start.elapsed() >= Duration::from_millis(60));
    }

    #[tokio::test]
    async fn patience_ends_with_its_time() {
        let limit = Duration::from_millis(300);
        let pace = Pace::new(Pacing { retry_for: limit, first_pause: Duration::from_millis(10), ..Pacing::default() });
        let (mut patience, start) = (Patience::default(), Instant::now());
        let mut tries = 0;
        while patience.wait(&pace, None).await {
            tries += 1;
        }
        // pauses of 5 to 10, 10 to 20, 20 to 40, 40 to 80, 80 to 160 ms and so on
        assert!((3..=6).contains(&tries), "{tries} tries in {:?}", start.elapsed());
        assert!(!Patience::default().wait(&pace, Some(Duration::from_millis(301))).await);
        assert!(Patience::default().wait(&pace, Some(Duration::from_millis(20))).await);
    }
}
