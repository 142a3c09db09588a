//! What every response leaves with: the security headers, and word for caches of what it depended on.
//!
//! A response has a nonce only if the application was told it, and is then never stored; everything else has the same
//! policy without nonce.

use cloakroom::core::csp::Nonce;
use cloakroom::core::entropy::EntropyError;
use cloakroom::core::origin::{Fields, Origin};
use cloakroom::core::security_headers::{ResourcePolicy, Scheme};
use cloakroom::{PreparedSecurityHeaders, SystemEntropy, add_vary};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};

use crate::config::Config;
use crate::headers;

/// What becomes of a response, as far as its request decides it.
#[derive(Clone, Debug, Default)]
pub struct Leave {
    /// The nonce that the application was told.
    pub nonce: Option<Nonce>,
    /// Who may load it, where its route says so.
    pub resource: Option<ResourcePolicy>,
    /// The fields of the request that decided whether it was refused.
    pub fields: Fields,
}

/// Puts the headers on.
#[derive(Debug)]
pub struct Protection {
    fresh: PreparedSecurityHeaders,
    /// Without nonce: as configured, and for each resource policy that a route can have.
    kept: PreparedSecurityHeaders,
    kept_for: [(ResourcePolicy, PreparedSecurityHeaders); 3],
    /// Handed in where none is used.
    unused: Nonce,
    /// Who may read responses with the user's cookies: the site, and whom it trusts.
    readers: Vec<Origin>,
}

impl Protection {
    /// Puts together what a configuration says.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] if no randomness is to be had.
    pub fn new(config: &Config) -> Result<Self, EntropyError> {
        let all = [ResourcePolicy::CrossOrigin, ResourcePolicy::SameSite, ResourcePolicy::SameOrigin];
        let scheme = if config.https { Scheme::Https } else { Scheme::Http };
        let unused = Nonce::draw(&SystemEntropy)?;
        let prepared = |set| PreparedSecurityHeaders::new(set, scheme, &unused);
        Ok(Self {
            fresh: prepared(config.headers.clone()),
            kept: prepared(config.headers.without_nonce(None)),
            kept_for: all.map(|policy| (policy, prepared(config.headers.without_nonce(Some(policy))))),
            unused,
            readers: config.origins.iter().chain(&config.csrf.trusted).cloned().collect(),
        })
    }

    /// Puts them onto a response.
    pub fn apply<B>(&self, response: &mut Response<B>, leave: &Leave) {
        let fields = response.headers_mut();
        self.limit_readers(fields);
        add_vary(fields, leave.fields.names());
        let (set, nonce) = match (&leave.nonce, leave.resource) {
            (Some(nonce), _) => {
                fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                (&self.fresh, nonce)
            }
            (None, wanted) => {
                let wanted = self.kept_for.iter().find(|(policy, _)| Some(*policy) == wanted);
                (wanted.map_or(&self.kept, |(_, set)| set), &self.unused)
            }
        };
        set.apply(fields, nonce);
        keep_from_caches(fields);
    }

    /// Lets other origins read a response with the user's cookies only where they are trusted: an application that answers
    /// with whatever `Origin` it was asked with opens itself to every site.
    fn limit_readers(&self, fields: &mut HeaderMap) {
        let allowed = fields.get_all(header::ACCESS_CONTROL_ALLOW_ORIGIN).iter().collect::<Vec<_>>();
        let Some(first) = allowed.first() else {
            fields.remove(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
            return;
        };
        let named = allowed.len() == 1 && first.as_bytes() != b"*";
        let origin = first.to_str().ok().and_then(|text| Origin::parse(text).ok());
        let reader = named && origin.is_some_and(|origin| self.readers.contains(&origin));
        if !reader && fields.remove(header::ACCESS_CONTROL_ALLOW_CREDENTIALS).is_some() {
            tracing::warn!(
                target: "cloakroom::gateway",
                "the application lets an origin read with credentials that csrf.trusted_origins does not name; not passed on"
            );
        }
        if named {
            add_vary(fields, ["origin"].into_iter());
        }
    }
}

/// Sees to it that a response which is not to be stored is not stored: what sets a cookie never is, and fields that mean more
/// to some caches than `Cache-Control` does (RFC 9213 and its forerunners) are left out.
fn keep_from_caches(headers: &mut HeaderMap) {
    if headers.contains_key(header::SET_COOKIE) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    let mut said = headers.get_all(header::CACHE_CONTROL).iter();
    if said.any(|value| value.as_bytes().eq_ignore_ascii_case(b"no-store")) {
        headers::remove_if(headers, |name: &HeaderName| {
            let name = name.as_str();
            name.ends_with("-cache-control")
                || matches!(name, "surrogate-control" | "edge-control" | "x-accel-expires")
        });
    }
}
