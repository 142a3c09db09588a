//! The set of response headers, and what becomes of a response's own (design section 4.8).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod common;

use std::time::Duration;

use cloakroom_core::csp::{Csp, CspOptions, Nonce};
use cloakroom_core::security_headers::{
    Change, CspMode, HSTS_MIN, OBSOLETE, Opener, Referrer, ResourcePolicy, Scheme, SecurityHeaders,
    SecurityHeadersOptions,
};
use common::Seeded;

type Fields = Vec<(String, String)>;

fn nonce() -> Nonce {
    Nonce::draw(&Seeded::new(3)).unwrap()
}

fn apply(fields: &Fields, headers: &SecurityHeaders, scheme: Scheme) -> Fields {
    let own = |name: &str| {
        fields.iter().filter(|(held, _)| held == name).map(|(_, value)| value.as_bytes()).collect::<Vec<_>>()
    };
    let mut after = fields.clone();
    for change in headers.merge(scheme, &nonce(), own) {
        match change {
            Change::Set(name, value) => {
                after.retain(|(held, _)| held != name);
                after.push((name.to_owned(), value));
            }
            Change::Append(name, value) => after.push((name.to_owned(), value)),
            Change::Remove(name) => after.retain(|(held, _)| held != name),
        }
    }
    after
}

fn values(fields: &Fields, name: &str) -> Vec<String> {
    fields.iter().filter(|(held, _)| held == name).map(|(_, value)| value.clone()).collect()
}

#[test]
fn the_set_is_complete_and_has_nothing_obsolete() {
    let headers = SecurityHeaders::default();
    let secure = headers.fields(Scheme::Https, &nonce());
    let expected = [
        ("content-security-policy", Csp::default().header(&nonce())),
        ("x-content-type-options", "nosniff".to_owned()),
        ("referrer-policy", "strict-origin-when-cross-origin".to_owned()),
        ("cross-origin-opener-policy", "same-origin".to_owned()),
        ("cross-origin-resource-policy", "same-origin".to_owned()),
        ("strict-transport-security", "max-age=31536000; includeSubDomains".to_owned()),
    ];
    assert_eq!(secure, expected);
    assert_eq!(headers.fields(Scheme::Http, &nonce()), expected[..5], "no HSTS over plain http");
    assert!(secure.iter().all(|(name, _)| !OBSOLETE.contains(name)));
    // A response without any gets the same.
    let bare = apply(&Vec::new(), &headers, Scheme::Https);
    assert_eq!(bare, expected.map(|(name, value)| (name.to_owned(), value)));
}

#[test]
fn obsolete_fields_of_a_response_are_removed_but_for_the_switch_that_turns_the_filter_off() {
    for (name, value, kept) in [
        ("x-xss-protection", "0", true),
        ("x-xss-protection", " 0 ", true),
        ("x-xss-protection", "1; mode=block", false),
        ("x-xss-protection", "1", false),
        ("public-key-pins", "pin-sha256=\"x\"; max-age=1", false),
        ("public-key-pins-report-only", "pin-sha256=\"x\"", false),
        ("expect-ct", "max-age=1", false),
        ("server", "x", true),
    ] {
        let fields = vec![(name.to_owned(), value.to_owned())];
        let after = values(&apply(&fields, &SecurityHeaders::default(), Scheme::Https), name);
        assert_eq!(!after.is_empty(), kept, "{name}: {value}");
    }
}

#[test]
fn of_two_values_the_stricter_is_sent() {
    // Field, the response's own, and whether it stays.
    let table: [(&str, &[&str], bool); 47] = [
        ("x-content-type-options", &["nosniff"], true),
        ("x-content-type-options", &["NoSniff"], true),
        ("x-content-type-options", &["nosniff, nosniff"], true),
        ("x-content-type-options", &["sniff"], false),
        ("x-content-type-options", &["x, nosniff"], false),
        ("x-content-type-options", &[""], false),
        ("referrer-policy", &["no-referrer"], true),
        ("referrer-policy", &["same-origin"], true),
        ("referrer-policy", &["strict-origin"], true),
        ("referrer-policy", &["Strict-Origin-When-Cross-Origin"], true),
        ("referrer-policy", &["no-referrer, strict-origin"], true),
        ("referrer-policy", &["unsafe-url", "no-referrer"], true),
        ("referrer-policy", &["no-referrer, future-policy"], true),
        ("referrer-policy", &["origin"], false),
        ("referrer-policy", &["origin-when-cross-origin"], false),
        ("referrer-policy", &["no-referrer-when-downgrade"], false),
        ("referrer-policy", &["unsafe-url"], false),
        ("referrer-policy", &["no-referrer", "unsafe-url"], false),
        ("referrer-policy", &["no-referrer, unsafe-url"], false),
        ("referrer-policy", &["future-policy"], false),
        ("referrer-policy", &[""], false),
        ("cross-origin-opener-policy", &["same-origin"], true),
        ("cross-origin-opener-policy", &["same-origin; report-to=\"x\""], true),
        ("cross-origin-opener-policy", &["same-origin-allow-popups"], false),
        ("cross-origin-opener-policy", &["noopener-allow-popups"], false),
        ("cross-origin-opener-policy", &["unsafe-none"], false),
        ("cross-origin-opener-policy", &["Same-Origin"], false),
        ("cross-origin-opener-policy", &["same-origin, same-origin"], false),
        ("cross-origin-opener-policy", &["same-origin", "same-origin"], false),
        ("cross-origin-resource-policy", &["same-origin"], true),
        ("cross-origin-resource-policy", &["same-site"], false),
        ("cross-origin-resource-policy", &["cross-origin"], false),
        ("cross-origin-resource-policy", &["Same-Origin"], false),
        ("cross-origin-resource-policy", &["same-origin", "same-origin"], false),
        ("strict-transport-security", &["max-age=31536000; includeSubDomains"], true),
        ("strict-transport-security", &["max-age=63072000; includesubdomains; preload"], true),
        ("strict-transport-security", &["max-age=\"31536000\" ;INCLUDESUBDOMAINS"], true),
        ("strict-transport-security", &["max-age=99999999999999999999999; includeSubDomains"], true),
        ("strict-transport-security", &["max-age=31536000"], false),
        ("strict-transport-security", &["max-age=31535999; includeSubDomains"], false),
        ("strict-transport-security", &["max-age=0; includeSubDomains"], false),
        ("strict-transport-security", &["max-age=-1; includeSubDomains"], false),
        ("strict-transport-security", &["max-age=; includeSubDomains"], false),
        ("strict-transport-security", &["includeSubDomains"], false),
        ("strict-transport-security", &["max-age=31536000; max-age=1; includeSubDomains"], false),
        ("strict-transport-security", &["max-age=1", "max-age=31536000; includeSubDomains"], false),
        ("strict-transport-security", &["max-age=31536000; includeSubDomains", "max-age=1"], true),
    ];
    let headers = SecurityHeaders::default();
    for (name, own, stays) in table {
        let fields: Fields = own.iter().map(|value| (name.to_owned(), (*value).to_owned())).collect();
        let after = apply(&fields, &headers, Scheme::Https);
        let expected: Vec<String> = if stays {
            own.iter().map(|value| (*value).to_owned()).collect()
        } else {
            let set = headers.fields(Scheme::Https, &nonce());
            set.into_iter().filter(|(held, _)| *held == name).map(|(_, value)| value).collect()
        };
        assert_eq!(values(&after, name), expected, "{name}: {own:?}");
        assert_eq!(apply(&after, &headers, Scheme::Https), after, "once more changes nothing");
    }
}

#[test]
fn what_is_not_text_counts_as_weak() {
    let headers = SecurityHeaders::default();
    let own = |name: &str| {
        let bytes: &[u8] = b"same-origin\xff";
        if name.starts_with("cross-origin") { vec![bytes, &b"same-origin"[..]] } else { Vec::new() }
    };
    let changes = headers.merge(Scheme::Https, &nonce(), own);
    assert!(changes.contains(&Change::Set("cross-origin-opener-policy", "same-origin".to_owned())));
    assert!(changes.contains(&Change::Set("cross-origin-resource-policy", "same-origin".to_owned())));
}

#[test]
fn hsts_is_taken_off_plain_http_where_it_must_not_be() {
    let fields =
        vec![("strict-transport-security".to_owned(), "max-age=31536000; includeSubDomains".to_owned())];
    assert_eq!(
        values(&apply(&fields, &SecurityHeaders::default(), Scheme::Http), "strict-transport-security"),
        [""; 0]
    );
}

#[test]
fn r086_a_responses_own_policy_stays_and_what_it_leaves_open_is_closed_beside_it() {
    let headers = SecurityHeaders::default();
    let name = "content-security-policy";
    for own in ["default-src *", "sandbox", "script-src 'unsafe-inline' *; img-src https://cdn.example", ""] {
        let fields = vec![(name.to_owned(), own.to_owned())];
        let after = apply(&fields, &headers, Scheme::Https);
        let both = values(&after, name);
        assert_eq!(both[0], own);
        let texts: Vec<&str> = both.iter().map(String::as_str).collect();
        assert_eq!(cloakroom_core::csp::assess(&texts), [], "{both:?}");
        assert_eq!(apply(&after, &headers, Scheme::Https), after);
    }
    let strict = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let fields = vec![(name.to_owned(), strict.to_owned())];
    assert_eq!(values(&apply(&fields, &headers, Scheme::Https), name), [strict]);
}

#[test]
fn reports_go_to_both_kinds_of_endpoints_and_report_only_leaves_a_responses_own_policy_alone() {
    let csp = CspOptions::default().report_to("/.cloakroom/reports").build().unwrap();
    let options = SecurityHeadersOptions::default().csp(csp.clone());
    let enforced = options.clone().build().unwrap();
    let fields = apply(&Vec::new(), &enforced, Scheme::Https);
    assert_eq!(values(&fields, "reporting-endpoints"), ["cloakroom-csp=\"/.cloakroom/reports\""]);
    let policy = values(&fields, "content-security-policy").remove(0);
    assert!(policy.contains("report-to cloakroom-csp") && policy.contains("report-uri /.cloakroom/reports"));

    // Over plain http browsers know no endpoint by name, and the name keeps them from the address.
    let fields = apply(&Vec::new(), &enforced, Scheme::Http);
    assert!(values(&fields, "reporting-endpoints").is_empty());
    let policy = values(&fields, "content-security-policy").remove(0);
    assert!(!policy.contains("report-to") && policy.contains("report-uri /.cloakroom/reports"), "{policy}");

    let trial = options.csp_mode(CspMode::ReportOnly).build().unwrap();
    let own: Fields = [
        ("content-security-policy", "default-src *"),
        ("content-security-policy-report-only", "img-src a"),
        ("reporting-endpoints", "theirs=\"/x\""),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let after = apply(&own, &trial, Scheme::Https);
    assert_eq!(values(&after, "content-security-policy"), ["default-src *"]);
    assert_eq!(
        values(&after, "content-security-policy-report-only"),
        ["img-src a".to_owned(), csp.header(&nonce())]
    );
    assert_eq!(values(&after, "reporting-endpoints").len(), 2);
    assert_eq!(apply(&after, &trial, Scheme::Https), after);
}

#[test]
fn hsts_lasts_a_year_at_least_and_preloading_keeps_its_rules() {
    let hsts = |options: SecurityHeadersOptions| {
        let fields =
            options.build().map_err(|errors| errors.problems().len())?.fields(Scheme::Https, &nonce());
        Ok::<_, usize>(fields.into_iter().find(|(name, _)| *name == "strict-transport-security").unwrap().1)
    };
    let options = SecurityHeadersOptions::default;
    let longer = options().hsts_max_age(2 * HSTS_MIN).hsts_preload();
    assert_eq!(hsts(longer), Ok("max-age=63072000; includeSubDomains; preload".to_owned()));
    let host = options().insecure_hsts_without_subdomains("intranet.example.org has no https");
    assert_eq!(hsts(host.clone()), Ok("max-age=31536000".to_owned()));
    assert_eq!(hsts(options().hsts_max_age(HSTS_MIN - Duration::from_secs(1))), Err(1));
    assert_eq!(hsts(host.hsts_preload()), Err(1));
    assert_eq!(
        hsts(options().insecure_hsts_without_subdomains(" ").hsts_preload().hsts_max_age(Duration::ZERO)),
        Err(3)
    );
}

#[test]
fn a_trial_without_an_endpoint_and_with_nobody_to_hear_of_it_is_refused() {
    assert!(SecurityHeadersOptions::default().csp_mode(CspMode::ReportOnly).build().is_err());
}

#[test]
fn settings_choose_among_what_the_standards_allow() {
    let headers = SecurityHeadersOptions::default()
        .referrer(Referrer::SameOrigin)
        .opener(Opener::SameOriginAllowPopups)
        .resource(ResourcePolicy::SameSite)
        .build()
        .unwrap();
    let kept: Fields = [
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin-allow-popups"),
        ("cross-origin-resource-policy", "same-origin"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let after = apply(&kept, &headers, Scheme::Https);
    for (name, value) in &kept {
        assert_eq!(values(&after, name).as_slice(), std::slice::from_ref(value));
    }
    let weak = vec![("referrer-policy".to_owned(), "strict-origin".to_owned())];
    assert_eq!(values(&apply(&weak, &headers, Scheme::Https), "referrer-policy"), ["same-origin"]);
    for (referrer, name) in [
        (Referrer::StrictOrigin, "strict-origin"),
        (Referrer::NoReferrer, "no-referrer"),
        (Referrer::StrictOriginWhenCrossOrigin, "strict-origin-when-cross-origin"),
    ] {
        let headers = SecurityHeadersOptions::default().referrer(referrer).build().unwrap();
        assert_eq!(values(&apply(&Vec::new(), &headers, Scheme::Http), "referrer-policy"), [name]);
    }
}
