//! The session cookie: strict reading of one name, and one way of writing it.

use std::fmt;
use std::time::Duration;

use crate::policy::{ConfigErrors, Problem};
use crate::token::{TOKEN_LEN, Token};

/// Name and value of a cookie may have this many bytes together (RFC 6265bis section 5.6); a browser drops
/// a larger one without a word.
pub const NAME_VALUE_MAX: usize = 4096;
/// An attribute's value may have this many bytes (RFC 6265bis section 5.6).
pub const ATTRIBUTE_MAX: usize = 1024;
/// The default name. Its prefix makes a browser insist on `Secure`, `HttpOnly`, `Path=/` and no `Domain`.
pub const DEFAULT_NAME: &str = "__Host-Http-sid";
/// The default name where plain http was allowed; a prefix would make browsers drop it.
pub const PLAIN_HTTP_NAME: &str = "sid";

/// When a browser sends the cookie along with requests from other sites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SameSite {
    /// On top-level navigation with a safe method, so that links to the application work.
    #[default]
    Lax,
    /// Never: somebody who follows a link from elsewhere arrives without the session.
    Strict,
}

/// How the session cookie is written.
///
/// The default is `__Host-Http-sid=…; Path=/; Secure; HttpOnly; SameSite=Lax`: no `Domain`, no `Max-Age`, so that it is
/// bound to one host and dies with the browser (R-020 to R-030; NIST SP 800-63B-4 section 5.1.1). What is weaker has a
/// name that says so and wants a reason.
#[derive(Clone, Debug, Default)]
pub struct CookieOptions {
    name: Option<String>,
    same_site: SameSite,
    plain_http: Option<String>,
    cross_site: Option<String>,
    domain: Option<(String, String)>,
}

impl CookieOptions {
    /// Uses another name. It must begin with `__Host-` (better `__Host-Http-`), and should be the application's own:
    /// cookies are shared by all ports of a host.
    #[must_use = "this returns the changed options"]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Chooses between `Lax` (the default) and `Strict`.
    #[must_use = "this returns the changed options"]
    pub const fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }

    /// Drops `Secure` and the name's prefix, so that the cookie works over plain http away from loopback.
    ///
    /// # Security
    ///
    /// Whoever can listen on the network takes the session. Loopback does not need this: browsers keep
    /// `Secure` cookies there.
    #[must_use = "this returns the changed options"]
    pub fn insecure_plain_http(mut self, reason: impl Into<String>) -> Self {
        self.plain_http = Some(reason.into());
        self
    }

    /// Sends the cookie with requests from other sites: `SameSite=None; Partitioned`, for an application that lives in
    /// other sites' frames.
    ///
    /// # Security
    ///
    /// Takes away the browser's own defence against forged requests.
    #[must_use = "this returns the changed options"]
    pub fn insecure_cross_site(mut self, reason: impl Into<String>) -> Self {
        self.cross_site = Some(reason.into());
        self
    }

    /// Shares the cookie with all sub-domains of `domain`. The name must begin with `__Secure-` or `__Http-` then.
    ///
    /// # Security
    ///
    /// Every host below the domain sees the session and can plant another one (RFC 6265bis section 8.6).
    #[must_use = "this returns the changed options"]
    pub fn insecure_shared_with_subdomains(
        mut self,
        domain: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        self.domain = Some((domain.into(), reason.into()));
        self
    }

    /// Checks the options.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with every problem at once.
    pub fn build(self) -> Result<Cookie, ConfigErrors> {
        let mut problems = Vec::new();
        let plain = self.plain_http.is_some();
        let name = self.name.unwrap_or_else(|| {
            match (plain, &self.domain) {
                (true, _) => PLAIN_HTTP_NAME,
                (false, Some(_)) => "__Http-sid",
                (false, None) => DEFAULT_NAME,
            }
            .to_owned()
        });
        if !is_token(&name) {
            problems.push(Problem::new("cookie.name", &name, "a token of RFC 9110 section 5.6.2, not empty"));
        }
        if name.len() + TOKEN_LEN > NAME_VALUE_MAX {
            let len = name.len().to_string();
            problems.push(Problem::new("cookie.name", &len, "at most 4032 characters, or browsers drop it"));
        }
        let wanted = match (plain, &self.domain) {
            (true, _) => Prefixes::None,
            (false, Some(_)) => Prefixes::Shared,
            (false, None) => Prefixes::Host,
        };
        if let Err(expected) = wanted.check(&name) {
            problems.push(Problem::new("cookie.name", &name, expected));
        }
        let reasons = [
            ("cookie.insecure_plain_http", self.plain_http.as_deref()),
            ("cookie.insecure_cross_site", self.cross_site.as_deref()),
            (
                "cookie.insecure_shared_with_subdomains",
                self.domain.as_ref().map(|(_, reason)| reason.as_str()),
            ),
        ];
        for (key, reason) in reasons {
            if reason.is_some_and(|reason| reason.trim().is_empty()) {
                problems.push(Problem::new(key, "", "a reason, in words"));
            }
        }
        if plain && self.cross_site.is_some() {
            let expected = "no insecure_plain_http beside it: browsers refuse SameSite=None without Secure";
            problems.push(Problem::new("cookie.insecure_cross_site", "set", expected));
        }
        if self.cross_site.is_some() && self.same_site == SameSite::Strict {
            problems.push(Problem::new("cookie.same_site", "strict", "no insecure_cross_site beside it"));
        }
        if let Some((domain, _)) = &self.domain {
            let good = domain.len() <= ATTRIBUTE_MAX
                && domain.split('.').count() > 1
                && domain.split('.').all(is_label);
            if !good {
                problems.push(Problem::new("cookie.domain", domain, "a host name of at least two labels"));
            }
        }
        ConfigErrors::unless_empty(problems)?;
        let mut attributes = String::from("; Path=/");
        if !plain {
            attributes.push_str("; Secure");
        }
        attributes.push_str("; HttpOnly");
        if let Some((domain, _)) = &self.domain {
            attributes.push_str("; Domain=");
            attributes.push_str(domain);
        }
        attributes.push_str(match (self.cross_site.is_some(), self.same_site) {
            (true, _) => "; SameSite=None; Partitioned",
            (false, SameSite::Lax) => "; SameSite=Lax",
            (false, SameSite::Strict) => "; SameSite=Strict",
        });
        Ok(Cookie { name, attributes })
    }
}

enum Prefixes {
    Host,
    Shared,
    None,
}

impl Prefixes {
    fn check(&self, name: &str) -> Result<(), &'static str> {
        let begins = |prefix: &str| name.starts_with(prefix);
        // Browsers take a prefix in any case for the real one; the server must not.
        let lower = name.to_ascii_lowercase();
        let any = ["__host-", "__secure-", "__http-"].iter().any(|prefix| lower.starts_with(prefix));
        match self {
            Self::Host if begins("__Host-") => Ok(()),
            Self::Host => Err("a name that begins with __Host-, spelled exactly so"),
            Self::Shared if begins("__Secure-") || begins("__Http-") => Ok(()),
            Self::Shared => {
                Err("a name that begins with __Secure- or __Http-, because the cookie has a domain")
            }
            Self::None if any => Err("a name without prefix: over plain http browsers drop a prefixed one"),
            Self::None => Ok(()),
        }
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Whether a text is a token of RFC 9110 section 5.6.2, as a cookie's name must be.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// The session cookie: its name, and the attributes that setting and removing share.
#[derive(Clone, Debug)]
pub struct Cookie {
    name: String,
    attributes: String,
}

impl Default for Cookie {
    /// `__Host-Http-sid` with `Path=/; Secure; HttpOnly; SameSite=Lax`.
    fn default() -> Self {
        Self {
            name: DEFAULT_NAME.to_owned(),
            attributes: "; Path=/; Secure; HttpOnly; SameSite=Lax".to_owned(),
        }
    }
}

impl Cookie {
    /// A cookie of another purpose beside this one, for its host alone: `HttpOnly`, gone with the browser, `Secure` and
    /// prefixed if this one is.
    pub(crate) fn companion(&self, purpose: &str) -> Self {
        let attributes = self.attributes.split("; ").filter(|attribute| !attribute.starts_with("Domain="));
        let name = [&self.name, "-", purpose].concat();
        Self { name, attributes: attributes.collect::<Vec<_>>().join("; ") }
    }

    /// A cookie of another purpose beside this one, for its host alone, that browsers send with requests of other sites too. `None`
    /// if this one is not `Secure`: browsers take no such cookie without.
    pub(crate) fn cross_site_companion(&self, purpose: &str) -> Option<Self> {
        let secure = self.attributes.split("; ").any(|attribute| attribute == "Secure");
        let name = [&self.name, "-", purpose].concat();
        secure.then(|| Self { name, attributes: "; Path=/; Secure; HttpOnly; SameSite=None".to_owned() })
    }

    /// The cookie's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The attributes as they are written, beginning with `; Path=/`.
    pub fn attributes(&self) -> &str {
        &self.attributes
    }

    /// Every value that a request carries under this cookie's name, in the order of the `Cookie` fields given, of which
    /// there may be several. The name is compared byte for byte.
    pub fn values<'a>(
        &'a self,
        fields: impl IntoIterator<Item = &'a [u8]> + 'a,
    ) -> impl Iterator<Item = &'a [u8]> + 'a {
        fields
            .into_iter()
            .flat_map(|field| field.split(|&byte| byte == b';'))
            .filter_map(|pair| pair.trim_ascii().strip_prefix(self.name.as_bytes()))
            .filter_map(|rest| rest.strip_prefix(b"="))
    }

    /// What a request's `Cookie` fields hold besides this cookie, as one field; `None` if that is nothing. Copies under
    /// the name in another case are taken out too: some applications would read them for this one.
    pub fn without<'a>(&self, fields: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
        let ours = |pair: &[u8]| {
            let name = pair.split(|&byte| byte == b'=').next().unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(self.name.as_bytes())
        };
        let pairs =
            fields.into_iter().flat_map(|field| field.split(|&byte| byte == b';')).map(<[u8]>::trim_ascii);
        let others = pairs.filter(|pair| !pair.is_empty() && !ours(pair)).collect::<Vec<_>>();
        (!others.is_empty()).then(|| others.join(&b"; "[..]))
    }

    /// The `Set-Cookie` value that hands out a token. Only a token's 64 characters and what the options allow can be
    /// in it, so nothing that a client sends reaches it.
    pub fn set(&self, token: &Token) -> SetCookie {
        self.set_text(token.expose().as_str())
    }

    pub(crate) fn set_text(&self, text: &str) -> SetCookie {
        SetCookie([&self.name, "=", text, &self.attributes].concat())
    }

    /// As [`Cookie::set_text`], for a time that the browser keeps too.
    pub(crate) fn set_text_for(&self, text: &str, age: Duration) -> SetCookie {
        let age = age.as_secs().to_string();
        SetCookie([&self.name, "=", text, &self.attributes, "; Max-Age=", &age].concat())
    }

    /// The `Set-Cookie` value that removes the cookie: the same attributes, and a time in the past.
    pub fn removal(&self) -> SetCookie {
        SetCookie(
            [&self.name, "=", &self.attributes, "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"]
                .concat(),
        )
    }
}

/// The value of a `Set-Cookie` field. `Debug` hides it.
pub struct SetCookie(String);

impl SetCookie {
    /// The text for the response. Handle with care: it may hold a token.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// As [`SetCookie::expose`], for a response that takes the text over, uncopied. It is not zeroed then.
    pub fn into_exposed(mut self) -> String {
        std::mem::take(&mut self.0)
    }
}

impl fmt::Debug for SetCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SetCookie(redacted)")
    }
}

impl Drop for SetCookie {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}
