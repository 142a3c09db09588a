//! Parsing a token or a handle never panics, and what is parsed has exactly one spelling.
#![no_main]

use cloakroom_core::cookie::Cookie;
use cloakroom_core::token::{Handle, Token};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(token) = Token::parse(data) {
        assert_eq!(token.expose().as_str().as_bytes(), data);
        assert_eq!(Token::parse(token.expose().as_str().as_bytes()), Some(token.clone()));
        let set = Cookie::default().set(&token);
        let text = set.expose().to_owned();
        assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        assert!(!format!("{token:?}").contains(&text["__Host-Http-sid=".len() + 22..][..42]));
    }
    if let Ok(text) = str::from_utf8(data)
        && let Ok(handle) = text.parse::<Handle>()
    {
        assert_eq!(handle.to_string(), text);
        assert!(handle.tag() < 1 << 14);
    }
});
