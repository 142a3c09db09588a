//! Changes to a response's header fields that the layers here and adapters elsewhere have in common.

use std::cell::RefCell;

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

/// The security headers of one deployment as far as they are the same for all its responses, for adapters that add them to every
/// one: [`apply`](Self::apply) does what [`add_security_headers`] does, at a tenth of the cost where a response has none of them
/// of its own.
#[derive(Clone, Debug)]
pub struct PreparedSecurityHeaders {
    set: SecurityHeaders,
    scheme: Scheme,
    fields: Vec<(HeaderName, Prepared)>,
    /// The fields of a response that have a say.
    heard: Vec<HeaderName>,
}

#[derive(Clone, Debug)]
enum Prepared {
    Same(HeaderValue),
    /// What stands before, between and behind the places of the nonce.
    Around(Vec<String>),
}

impl PreparedSecurityHeaders {
    /// Prepares headers for a scheme. The nonce is any that was drawn for this; what is prepared has no trace of it.
    pub fn new(set: SecurityHeaders, scheme: Scheme, sample: &Nonce) -> Self {
        let heard = RefCell::new(Vec::new());
        let changes = set.merge(scheme, sample, |name| {
            heard.borrow_mut().push(HeaderName::from_static(name));
            Vec::new()
        });
        let prepare = |change| match change {
            Change::Set(name, value) | Change::Append(name, value) => {
                let prepared = if value.contains(sample.as_str()) {
                    Prepared::Around(value.split(sample.as_str()).map(str::to_owned).collect())
                } else {
                    Prepared::Same(HeaderValue::try_from(value).ok()?)
                };
                Some((HeaderName::from_static(name), prepared))
            }
            // There is nothing to remove.
            Change::Remove(_) => None,
        };
        let fields = changes.into_iter().filter_map(prepare).collect();
        Self { set, scheme, fields, heard: heard.into_inner() }
    }

    /// Puts them onto a response.
    pub fn apply(&self, headers: &mut HeaderMap, nonce: &Nonce) {
        if headers.keys().any(|name| self.heard.contains(name)) {
            add_security_headers(headers, &self.set, self.scheme, nonce);
            return;
        }
        for (name, prepared) in &self.fields {
            let value = match prepared {
                Prepared::Same(value) => Some(value.clone()),
                Prepared::Around(parts) => HeaderValue::try_from(parts.join(nonce.as_str())).ok(),
            };
            if let Some(mut value) = value {
                value.set_sensitive(matches!(prepared, Prepared::Around(_)));
                headers.insert(name.clone(), value);
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
    fn what_is_prepared_is_what_would_have_been_added() {
        let [sample, nonce] = [0; 2].map(|_| Nonce::draw(&SystemEntropy).unwrap());
        let strict = SecurityHeaders::default();
        for set in [strict.without_nonce(None), strict] {
            for scheme in [Scheme::Https, Scheme::Http] {
                let prepared = PreparedSecurityHeaders::new(set.clone(), scheme, &sample);
                for own in [
                    &[][..],
                    &[("content-type", "text/html"), ("vary", "accept")],
                    &[("content-security-policy", "sandbox; default-src 'none'")],
                    &[("strict-transport-security", "max-age=1")],
                    &[("x-content-type-options", "nosniff"), ("referrer-policy", "unsafe-url")],
                    &[("x-xss-protection", "1"), ("expect-ct", "max-age=0")],
                ] {
                    let own = own.iter().map(|(name, value)| {
                        (HeaderName::from_static(name), HeaderValue::from_static(value))
                    });
                    let mut fast = HeaderMap::from_iter(own);
                    let mut slow = fast.clone();
                    prepared.apply(&mut fast, &nonce);
                    add_security_headers(&mut slow, &set, scheme, &nonce);
                    assert_eq!(fast, slow);
                    let sensitive = |headers: &HeaderMap| {
                        headers.values().filter(|value| value.is_sensitive()).cloned().collect::<Vec<_>>()
                    };
                    assert_eq!(sensitive(&fast), sensitive(&slow));
                }
            }
        }
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
