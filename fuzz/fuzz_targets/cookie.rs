//! Reading the session cookie never panics, and agrees with an independent parser on the values under our name.
#![no_main]

use cloakroom_core::cookie::{Cookie, CookieOptions};
use cloakroom_core::engine::{Engine, TOKENS_MAX};
use cloakroom_core::policy::Policy;
use cloakroom_core::seal::{Pepper, Peppers};
use libfuzzer_sys::fuzz_target;

/// A short name is found by chance far more often than the default one.
const NAME: &str = "__Host-s";

fn cookie() -> Cookie {
    CookieOptions::default().name(NAME).build().expect("a good name")
}

fuzz_target!(|data: &[u8]| {
    // Newlines part the fields of one request.
    let fields: Vec<&[u8]> = data.split(|&byte| byte == b'\n').collect();
    let engine = Engine::new(Policy::default(), cookie(), Peppers::new(Pepper::none())).expect("good parts");
    assert!(engine.present(fields.iter().copied()).handles().count() <= TOKENS_MAX);

    let ours = engine.cookie();
    for field in fields {
        // The oracle works on text, and also forgives whitespace around the equals sign, which no browser sends.
        let Ok(text) = str::from_utf8(field) else { continue };
        let spaced = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            name.trim_end() != name || value.trim_start() != value
        };
        // What it trims at the ends is Unicode's whitespace, not HTTP's.
        if !text.is_ascii() || text.contains('\u{b}') || text.split(';').any(spaced) {
            continue;
        }
        let read: Vec<&[u8]> = ours.values([field]).collect();
        let oracle: Vec<String> = cookie::Cookie::split_parse(text)
            .filter_map(Result::ok)
            .filter(|cookie| cookie.name() == NAME)
            .map(|cookie| cookie.value().to_owned())
            .collect();
        assert_eq!(read, oracle.iter().map(|value| value.as_bytes()).collect::<Vec<_>>(), "{text:?}");
    }
});
