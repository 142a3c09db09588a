//! Order statistics.

/// A measured quantity: the median of its rounds, and the middle half of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spread {
    pub(super) low: f64,
    pub(super) median: f64,
    pub(super) high: f64,
}

impl Spread {
    /// Of any number of samples; zero of none.
    pub(super) fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted = samples.into_iter().collect::<Vec<_>>();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1) as f64;
        let at = |index: f64| sorted.get(index as usize).copied().unwrap_or_default();
        // Outwards, so that a few samples do not look like one.
        Self {
            low: at((0.25 * last).floor()),
            median: at((0.5 * last).round()),
            high: at((0.75 * last).ceil()),
        }
    }
}

/// A whole number with commas between thousands.
pub(super) fn number(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 { format!("−{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_middle_half_are_those_of_the_sorted_samples() {
        let spread = Spread::of([5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!((spread.low, spread.median, spread.high), (2.0, 3.0, 4.0));
        let few = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!((few.low, few.median, few.high), (1.0, 2.0, 3.0));
        assert_eq!(Spread::of([]).median, 0.0);
    }

    #[test]
    fn numbers_have_commas_between_thousands() {
        let shown = [0.4, 999.0, 1_000.0, 1_234_567.4, -1_234.0].map(number);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567", "−1,234"]);
    }
}
