//! The cookie that proves that a browser has begun a login here, for the answer that another site's form brings back.
//!
//! ```text
//! flow = r ‖ issued ‖ HMAC-SHA-256(visitor key, 18 "cloakroom csrf 1 f" ‖ 16 r ‖ 8 issued)  first 24 bytes
//! ```

use std::time::Duration;

use subtle::ConstantTimeEq;

use super::{CsrfToken, RANDOM_LEN, SKEW, VisitorKeys, join, read, sign};
use crate::clock::Timestamp;
use crate::cookie::{Cookie, SetCookie};
use crate::entropy::{Entropy, EntropyError, draw};

/// How long a user may be away with the identity provider.
pub const LOGIN_FLOW_AGE: Duration = Duration::from_secs(600);

const FLOW: &[u8] = b"cloakroom csrf 1 f";

/// The cookie of a login that has begun: the session cookie's name with `-flow` behind it, as `__Host-Http-sid-flow`.
///
/// A browser sends no `SameSite=Lax` cookie with another site's POST, so the session cookie cannot tell that the login which an
/// identity provider's form completes was begun in this browser. This one is `SameSite=None`, good for [`LOGIN_FLOW_AGE`] by the server's
/// clock, and used for nothing else. It names nobody, and no login in particular.
///
/// # Security
///
/// Within its time the same browser can show it again, and another site can make it begin a login. That an answer belongs to the
/// question that was asked (`state`, `nonce`, `InResponseTo`) stays the application's to check.
#[derive(Clone, Debug)]
pub struct LoginFlowCookie(Cookie);

impl LoginFlowCookie {
    /// The one beside a session cookie. `None` if that one is not `Secure`: browsers refuse `SameSite=None` without.
    pub fn beside(session: &Cookie) -> Option<Self> {
        session.cross_site_companion("flow").map(Self)
    }

    /// The cookie itself, for instance to take it out of what goes to an application.
    pub const fn cookie(&self) -> &Cookie {
        &self.0
    }

    /// The `Set-Cookie` value where a login begins.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] if no randomness is to be had.
    pub fn begin(
        &self,
        keys: &VisitorKeys,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<SetCookie, EntropyError> {
        let random = draw::<RANDOM_LEN>(entropy)?;
        let issued = now.as_millis().to_be_bytes();
        // There is always a first key; without one nothing verifies.
        let tag = keys.keys.first().map_or([0; 32], |key| sign(key, &[FLOW, &random, &issued]));
        let text = CsrfToken::of(join(&[&random, &issued, &tag]));
        Ok(self.0.set_text_for(text.expose(), LOGIN_FLOW_AGE))
    }

    /// Whether a request's `Cookie` fields show that a login was begun in this browser, not too long ago. Copies that differ are
    /// nobody's: position never decides (R-033). Compares in constant time.
    #[must_use = "a login that was not begun here must not be completed"]
    pub fn is_shown<'a>(
        &'a self,
        cookie_fields: impl IntoIterator<Item = &'a [u8]> + 'a,
        keys: &VisitorKeys,
        now: Timestamp,
    ) -> bool {
        let mut values = self.0.values(cookie_fields);
        let Some(first) = values.next() else { return false };
        values.all(|value| value == first) && keys.opens_flow(first, now)
    }

    /// The `Set-Cookie` value that removes the cookie, after a login.
    pub fn removal(&self) -> SetCookie {
        self.0.removal()
    }
}

impl VisitorKeys {
    fn opens_flow(&self, text: &[u8], now: Timestamp) -> bool {
        let Some(raw) = read(text) else { return false };
        let Some((random, rest)) = raw.split_first_chunk::<RANDOM_LEN>() else { return false };
        let Some((issued, tag)) = rest.split_first_chunk::<8>() else { return false };
        let genuine = self.keys.iter().any(|key| {
            let whole = sign(key, &[FLOW, random, issued]);
            whole.first_chunk::<24>().is_some_and(|part| part.ct_eq(tag).into())
        });
        let issued = Timestamp::from_millis(u64::from_be_bytes(*issued));
        genuine && issued <= now.plus(SKEW) && now < issued.plus(LOGIN_FLOW_AGE)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Visitor;
    use super::*;
    use crate::cookie::CookieOptions;
    use crate::seal::{Pepper, Peppers};
    use crate::testing::Counting;

    const NOON: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn keys(byte: u8) -> VisitorKeys {
        VisitorKeys::of(&Peppers::new(Pepper::new(&[byte; 32]).unwrap())).unwrap()
    }

    fn flow() -> LoginFlowCookie {
        LoginFlowCookie::beside(&Cookie::default()).unwrap()
    }

    fn begun(keys: &VisitorKeys) -> String {
        let set = flow().begin(keys, NOON, &Counting::default()).unwrap();
        set.expose().split(';').next().unwrap().to_owned()
    }

    fn shown(fields: &[&str], keys: &VisitorKeys, now: Timestamp) -> bool {
        flow().is_shown(fields.iter().map(|field| field.as_bytes()).collect::<Vec<_>>(), keys, now)
    }

    #[test]
    fn r027_a_flow_cookie_is_for_other_sites_posts_and_for_ten_minutes() {
        let set = flow().begin(&keys(1), NOON, &Counting::default()).unwrap();
        let (pair, attributes) = set.expose().split_once(';').unwrap();
        assert_eq!(attributes, " Path=/; Secure; HttpOnly; SameSite=None; Max-Age=600");
        let (name, value) = pair.split_once('=').unwrap();
        assert_eq!((name, value.len()), ("__Host-Http-sid-flow", 64));
        assert!(!format!("{set:?}").contains(value));
        let removal = flow().removal();
        assert_eq!(
            removal.expose(),
            "__Host-Http-sid-flow=; Path=/; Secure; HttpOnly; SameSite=None; Max-Age=0; \
             Expires=Thu, 01 Jan 1970 00:00:00 GMT"
        );
        let shared = CookieOptions::default().insecure_shared_with_subdomains("example.org", "a test");
        let beside = LoginFlowCookie::beside(&shared.build().unwrap()).unwrap();
        assert!(!beside.cookie().attributes().contains("Domain"));
        let plain = CookieOptions::default().insecure_plain_http("a test").build().unwrap();
        assert!(LoginFlowCookie::beside(&plain).is_none(), "browsers would refuse it");
    }

    #[test]
    fn r080_a_login_was_begun_here_only_if_our_own_cookie_says_so_and_for_ten_minutes() {
        let cookie = begun(&keys(1));
        let at = |secs: i64| Timestamp::from_secs(1_800_000_000_u64.saturating_add_signed(secs));
        for (secs, counts) in
            [(0, true), (599, true), (600, false), (86_400, false), (-60, true), (-61, false)]
        {
            assert_eq!(shown(&[&cookie], &keys(1), at(secs)), counts, "{secs}");
        }
        assert!(
            shown(&["a=1", &format!("b=2; {cookie}; c=3"), &cookie], &keys(1), NOON),
            "copies that agree"
        );
        let (name, value) = cookie.split_once('=').unwrap();
        let later = flow().begin(&keys(1), at(1), &Counting::default()).unwrap();
        let later = later.expose().split(';').next().unwrap();
        for (what, fields) in [
            ("none", vec![]),
            ("empty", vec![format!("{name}=")]),
            ("another name", vec![format!("x{cookie}")]),
            ("the name in another case", vec![cookie.to_lowercase()]),
            ("too short", vec![cookie[..cookie.len() - 1].to_owned()]),
            ("too long", vec![format!("{cookie}A")]),
            ("altered", vec![format!("{name}=B{}", &value[1..])]),
            ("altered in its time", vec![format!("{name}={}__{}", &value[..24], &value[26..])]),
            ("copies that differ", vec![cookie.clone(), later.to_owned()]),
            ("zeros", vec![format!("{name}={}", "A".repeat(64))]),
        ] {
            let fields = fields.iter().map(String::as_str).collect::<Vec<_>>();
            assert!(!shown(&fields, &keys(1), NOON), "{what}");
        }
        assert!(!shown(&[&cookie], &keys(2), NOON), "another server's");
        let both = Peppers::new(Pepper::new(&[2; 32]).unwrap()).accept(Pepper::new(&[1; 32]).unwrap());
        assert!(shown(&[&cookie], &VisitorKeys::of(&both).unwrap(), NOON), "of a pepper that is accepted");
    }

    #[test]
    fn r078_a_flow_is_no_form_token_and_a_form_token_no_flow() {
        let visitor = Visitor::draw(&Counting::default()).unwrap();
        let token = keys(1).issue(&visitor, NOON, &Counting::default()).unwrap();
        assert!(!shown(&[&format!("__Host-Http-sid-flow={}", token.expose())], &keys(1), NOON));
        let cookie = begun(&keys(1));
        let (_, flow) = cookie.split_once('=').unwrap();
        assert!(!keys(1).verify(&visitor, flow.as_bytes(), NOON));
    }
}
