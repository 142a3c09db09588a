//! Whether two names are one to a program that ignores case.

/// A segment as it reads where case is ignored: what is equal under Unicode's simple case folding is equal here, and so is what
/// some programs take for equal besides (`ß` and `ss`, the Kelvin sign and `k`, the dotted and dotless `i` of Turkish). It may rather find
/// too much equal than too little: it decides what guards a path, never what relaxes.
///
/// For comparing only.
pub(super) fn fold(segment: &[u8]) -> String {
    // A segment in normal form is UTF-8.
    let text = String::from_utf8_lossy(segment);
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let dotless = |c: char| if c == '\u{130}' { 'i' } else { c };
    // Downwards first, for what has a small letter and no capital one but is itself one (\u{1e9e}).
    let letters = text.chars().map(dotless).flat_map(char::to_lowercase).flat_map(char::to_uppercase);
    letters.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use proptest::strategy::{Strategy as _, ValueTree as _};
    use proptest::string::string_regex;
    use proptest::test_runner::TestRunner;

    use super::*;

    fn folded(text: &str) -> String {
        fold(text.as_bytes())
    }

    #[test]
    fn r130_what_programs_take_for_one_name_is_one() {
        for names in [
            &["admin", "ADMIN", "Admin", "aDMIN"][..],
            &["kiosk", "\u{212a}iosk", "KIO\u{17f}K"],
            &["straße", "STRASSE", "STRA\u{1e9e}E", "Strasse"],
            &["ΣΊΣΥΦΟΣ", "σίσυφος", "σίσυφοσ"],
            &["ISI", "isi", "\u{131}s\u{131}", "\u{130}S\u{130}"],
            &["µ", "μ", "Μ"],
        ] {
            assert!(names.iter().all(|name| folded(name) == folded(names[0])), "{names:?}");
        }
        for (one, other) in [("a", "b"), ("a", "\u{e4}"), ("o", "0"), ("admin", "admins"), ("é", "e")] {
            assert_ne!(folded(one), folded(other));
        }
    }

    /// The expression library of the test generator knows Unicode's simple case folding: it generates what it takes for equal.
    #[test]
    fn r130_nothing_that_simple_case_folding_equates_is_told_apart() {
        let mut runner = TestRunner::deterministic();
        let cased = ('\u{80}'..=char::MAX).filter(|c| c.to_lowercase().ne([*c]) || c.to_uppercase().ne([*c]));
        let mut seen = 0;
        for letter in ('A'..='Z').chain(cased) {
            let same = string_regex(&format!("(?i){letter}{{8}}")).unwrap();
            let text = same.new_tree(&mut runner).unwrap().current();
            for other in text.chars() {
                assert_eq!(folded(&other.to_string()), folded(&letter.to_string()), "{letter:?} {other:?}");
            }
            seen += 1;
        }
        assert!(seen > 2500, "{seen}");
    }
}
