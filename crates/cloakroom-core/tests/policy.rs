//! The policy: NIST's figures, and every problem at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::time::Duration;

use cloakroom_core::policy::Policy;
use cloakroom_core::store::AtCap;

const fn mins(mins: u64) -> Duration {
    Duration::from_secs(60 * mins)
}

const fn hours(hours: u64) -> Duration {
    mins(60 * hours)
}

const fn days(days: u64) -> Duration {
    hours(24 * days)
}

const SECOND: Duration = Duration::from_secs(1);

fn keys(policy: &Policy) -> Vec<String> {
    policy
        .check()
        .err()
        .map_or_else(Vec::new, |errors| errors.problems().iter().map(|problem| problem.key.clone()).collect())
}

#[test]
fn r038_the_presets_hold_nists_figures_and_nothing_looser() {
    for (name, preset, absolute, idle) in [
        ("AAL1", Policy::aal1(), days(30), None),
        ("AAL2", Policy::aal2(), hours(24), Some(hours(1))),
        ("AAL3", Policy::aal3(), hours(12), Some(mins(15))),
    ] {
        assert_eq!(keys(&preset), [""; 0], "{name}");
        assert_eq!(keys(&preset.clone().absolute(absolute)), [""; 0], "{name}");
        assert_eq!(keys(&preset.clone().absolute(absolute + SECOND)), ["policy.absolute"], "{name}");
        if let Some(idle) = idle {
            assert_eq!(keys(&preset.clone().idle(idle)), [""; 0], "{name}");
            assert_eq!(keys(&preset.idle(idle + SECOND)), ["policy.idle"], "{name}");
        }
    }
}

#[test]
fn r038_a_reason_lifts_what_nist_recommends_but_never_aal3s_twelve_hours() {
    let because = "a kiosk without people";
    for (name, policy, lifted) in [
        ("AAL1", Policy::aal1().absolute(days(60)), true),
        ("AAL2 absolute", Policy::aal2().absolute(days(2)), true),
        ("AAL2 idle", Policy::aal2().idle(hours(2)), true),
        ("AAL3 idle", Policy::aal3().idle(hours(1)), true),
        ("AAL3 absolute", Policy::aal3().absolute(hours(12) + SECOND), false),
        ("400 days", Policy::aal1().absolute(days(400) + SECOND), false),
    ] {
        assert!(!keys(&policy).is_empty(), "{name}");
        let reasoned = policy.clone().insecure_beyond_nist(because);
        assert_eq!(keys(&reasoned).is_empty(), lifted, "{name}");
        let unreasoned = policy.insecure_beyond_nist(" ");
        assert!(keys(&unreasoned).contains(&"policy.insecure_beyond_nist".to_owned()), "{name}");
    }
}

#[test]
fn each_figure_has_a_nearest_accepted_and_a_nearest_refused_value() {
    let policy = Policy::default;
    let without_rotation =
        |grace| policy().insecure_without_rotation("x").rotation_grace(grace).tombstone_ttl(days(2));
    let table = [
        ("policy.idle", policy().idle(mins(2)), policy().idle(mins(1) - SECOND).touch_interval(SECOND)),
        ("policy.idle", policy().idle(hours(24)), policy().idle(hours(24) + SECOND)),
        ("policy.unpresented", policy().unpresented(mins(1)), policy().unpresented(mins(1) - SECOND)),
        (
            "policy.unpresented",
            policy().clock_skew(mins(1)).unpresented(mins(1) + SECOND),
            policy().clock_skew(mins(1)).unpresented(mins(1)),
        ),
        ("policy.unpresented", policy().unpresented(days(1)), policy().unpresented(Duration::ZERO)),
        (
            "policy.touch_interval",
            policy().touch_interval(mins(30) - SECOND * 6),
            policy().touch_interval(mins(30) - SECOND * 5),
        ),
        ("policy.clock_skew", policy().clock_skew(mins(1)), policy().clock_skew(mins(1) + SECOND)),
        ("policy.rotation_grace", policy().rotation_grace(SECOND), policy().rotation_grace(Duration::ZERO)),
        (
            "policy.rotation_interval",
            policy().rotation_interval(SECOND * 66),
            policy().rotation_interval(SECOND * 65),
        ),
        (
            "policy.rotation_interval",
            policy().rotation_interval(hours(24) - SECOND),
            policy().rotation_interval(hours(24)),
        ),
        (
            "policy.rotation_grace",
            without_rotation(hours(24) - SECOND * 6),
            without_rotation(hours(24) - SECOND * 5),
        ),
        (
            "policy.recent_login",
            policy().recent_login(SECOND * 5 + Duration::from_millis(1)),
            policy().recent_login(SECOND * 5),
        ),
        ("policy.recent_login", policy().recent_login(SECOND * 6), policy().recent_login(Duration::ZERO)),
        ("policy.tombstone_ttl", policy().tombstone_ttl(SECOND * 65), policy().tombstone_ttl(SECOND * 64)),
        (
            "policy.watch_interval",
            policy().watch_interval(Duration::from_millis(100)),
            policy().watch_interval(Duration::from_millis(99)),
        ),
        (
            "policy.watch_interval",
            policy().watch_interval(mins(5)),
            policy().watch_interval(mins(5) + Duration::from_millis(1)),
        ),
        ("policy.recent_login", policy().recent_login(hours(24)), policy().recent_login(days(2))),
        (
            "policy.max_sessions",
            policy().max_sessions(1, AtCap::Deny),
            policy().max_sessions(0, AtCap::EvictIdle),
        ),
        ("policy.data_max", policy().data_max(1), policy().data_max(0)),
        ("policy.data_max", policy().data_max(1_000_000), policy().data_max(1_000_001)),
        ("policy.survives_login", policy().survives_login(["cart"]), policy().survives_login(["Cart"])),
        (
            "policy.insecure_without_rotation",
            policy().insecure_without_rotation("x"),
            policy().insecure_without_rotation(""),
        ),
    ];
    for (key, good, bad) in table {
        assert_eq!(keys(&good), [""; 0], "{key}: {good:?}");
        assert_eq!(keys(&bad), [key], "{bad:?}");
    }
}

#[test]
fn r046_every_problem_is_listed_at_once_and_says_what_was_expected() {
    let policy = Policy::aal3()
        .idle(days(500))
        .absolute(days(450))
        .unpresented(SECOND)
        .touch_interval(days(501))
        .clock_skew(hours(1))
        .rotation_interval(SECOND)
        .rotation_grace(Duration::ZERO)
        .tombstone_ttl(Duration::ZERO)
        .recent_login(days(999))
        .max_sessions(0, AtCap::Deny)
        .data_max(0)
        .survives_login(["", "ok", "NO"])
        .insecure_beyond_nist("");
    let expected = [
        "policy.idle",
        "policy.absolute",
        "policy.absolute",
        "policy.unpresented",
        "policy.touch_interval",
        "policy.clock_skew",
        "policy.rotation_grace",
        "policy.rotation_interval",
        "policy.tombstone_ttl",
        "policy.recent_login",
        "policy.max_sessions",
        "policy.data_max",
        "policy.survives_login",
        "policy.survives_login",
        "policy.insecure_beyond_nist",
    ];
    assert_eq!(keys(&policy), expected);
    let text = policy.check().unwrap_err().to_string();
    assert!(text.contains("nothing lifts") && text.starts_with("15 setting(s)"), "{text}");
}

#[test]
fn no_figure_makes_the_check_panic() {
    let most = Duration::MAX;
    for policy in [
        Policy::default().idle(most).absolute(most),
        Policy::default().touch_interval(most).clock_skew(most),
        Policy::default().rotation_grace(most).rotation_interval(most).tombstone_ttl(most),
        Policy::default().recent_login(most).data_max(usize::MAX),
    ] {
        assert!(policy.check().is_err(), "{policy:?}");
    }
    assert!(Policy::default().absolute(most).sweep_limits().epoch_ttl == most);
}
