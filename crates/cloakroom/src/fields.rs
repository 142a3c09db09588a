//! Changes to a response's header fields that the layers here and adapters elsewhere have in common.

use cloakroom_core::csp::Nonce;
use cloakroom_core::security_headers::{Change, Scheme, SecurityHeaders};
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Puts security headers onto a response, for adapters: what it has of its own and is stricter stays
/// ([`SecurityHeaders::merge`]). A value with a nonce is marked as sensitive, so that `Debug` does not show it.
pub fn add_security_headers(headers: &mut HeaderMap, set: &SecurityHeaders, scheme: Scheme, nonce: &Nonce) {
    let own = |name: &'static str| headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    for change in set.merge(scheme, nonce, own) {
        // Names and values are printable ASCII by the core's promise, so each of them is one.
        match change {
            Change::Set(name, value) => {
                if let Some(value) = field_value(&value, nonce) {
                    headers.insert(HeaderName::from_static(name), value);
                }
            }
            Change::Append(name, value) => {
                if let Some(value) = field_value(&value, nonce) {
                    headers.append(HeaderName::from_static(name), value);
                }
            }
            Change::Remove(name) => {
                headers.remove(name);
            }
        }
    }
}

fn field_value(text: &str, nonce: &Nonce) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(text.contains(nonce.as_str()));
    Some(value)
}

/// Adds the names of request fields, in lower case, on which a response depended to its `Vary`, for adapters. Those that are there,
/// in any case, are not said again.
pub fn add_vary(headers: &mut HeaderMap, names: impl Iterator<Item = &'static str>) {
    let said = headers.get_all(header::VARY).iter();
    let said = said.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let said = said.collect::<Vec<_>>();
    if said.contains(&&b"*"[..]) {
        return;
    }
    let there = |name: &str| said.iter().any(|one| one.eq_ignore_ascii_case(name.as_bytes()));
    let missing = names.filter(|name| !there(name)).collect::<Vec<_>>();
    if !missing.is_empty()
        && let Ok(value) = HeaderValue::from_str(&missing.join(", "))
    {
        headers.append(header::VARY, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::SystemEntropy;

    #[test]
    fn r086_a_policys_nonce_is_not_in_debug_text() {
        let nonce = Nonce::draw(&SystemEntropy).unwrap();
        let mut headers = HeaderMap::new();
        add_security_headers(&mut headers, &SecurityHeaders::default(), Scheme::Https, &nonce);
        assert!(headers["content-security-policy"].to_str().unwrap().contains(nonce.as_str()));
        let shown = format!("{headers:?}");
        assert!(!shown.contains(nonce.as_str()) && shown.contains("nosniff"), "{shown}");
    }

    #[test]
    fn what_a_response_depended_on_is_said_once() {
        for (before, after) in [
            (&[][..], &["origin, sec-fetch-site"][..]),
            (&["Accept, Origin"], &["Accept, Origin", "sec-fetch-site"]),
            (&["accept", "SEC-FETCH-SITE,origin"], &["accept", "SEC-FETCH-SITE,origin"]),
            (&["*"], &["*"]),
        ] {
            let mut headers = HeaderMap::new();
            for line in before {
                headers.append("vary", HeaderValue::from_static(line));
            }
            add_vary(&mut headers, ["origin", "sec-fetch-site"].into_iter());
            assert_eq!(headers.get_all("vary").iter().collect::<Vec<_>>(), after, "{before:?}");
        }
    }
}
