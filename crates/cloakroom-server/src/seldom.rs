//! Lines of the log that anybody can cause: one a second, so that a flood does not fill the disk.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const EACH: Duration = Duration::from_secs(1);

/// Lets one line pass a second. Events are not lines, and go on.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<Line>);

#[derive(Debug, Default)]
struct Line {
    last: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// Whether a line may be written now, and then how many were left out since the last one.
    pub(crate) fn line(&self) -> Option<u64> {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if line.last.is_some_and(|last| last.elapsed() < EACH) {
            line.left_out = line.left_out.saturating_add(1);
            return None;
        }
        line.last = Some(Instant::now());
        Some(std::mem::take(&mut line.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_second_is_written_and_says_how_many_were_left_out() {
        let seldom = Seldom::default();
        assert_eq!(seldom.line(), Some(0));
        for left_out in [1000, 3, 0] {
            tokio::time::advance(EACH - Duration::from_millis(1)).await;
            assert!((0..left_out).all(|_| seldom.line().is_none()));
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(seldom.line(), Some(left_out));
        }
    }
}
