//! Tokens against forged requests: what a page of ours proves and a page of another site cannot (R-077 to R-079).
//!
//! ```text
//! session    token = r ‖ HMAC-SHA-256(csrf key, 18 "cloakroom csrf 1 s" ‖ 16 handle ‖ 16 r)
//! seal       token = r ‖ HMAC-SHA-256(csrf key, 18 "cloakroom csrf 1 p" ‖ 16 handle ‖ 16 r ‖ n purpose)
//! visitor    token = r ‖ issued ‖ HMAC-SHA-256(visitor key, 18 "cloakroom csrf 1 v" ‖ 16 visitor ‖ 16 r ‖ 8 issued)  first 24 bytes
//! ```
//!
//! *r* is 16 random bytes, *issued* milliseconds since 1970 in 8 bytes; each part of a message follows its length in
//! one byte, so that no two inputs give one message. Both tokens are 48 bytes, 64 characters of base64url without
//! padding, and need no escaping in HTML, forms, header fields and JSON.
//!
//! A session's key follows from its data key: it survives rotation, is another after a login, and is lost with the
//! session. The server keeps nothing of the tokens it issues; several are good at a time, so that tabs do not disturb
//! one another.
//!
//! **Compression.** A secret that stays the same from response to response can be guessed through the length of
//! compressed pages that also show what the attacker sends (BREACH). Here *r* is drawn anew for each token, and what
//! follows it is a pseudo-random function of *r*: no two tokens share anything.
//!
//! **Visitors.** A form that is shown before there is a session, above all the login form, is protected by a cookie of
//! its own with a random value, set only when a page asks for a token. Cookie and token are not equal; the token can
//! only be made with the server's key. An attacker can ask the server for a genuine pair, though; that he cannot plant
//! its cookie in somebody's browser is the work of the `__Host-` prefix, and that he cannot send the form at all, of
//! the verdict on the header fields ([`crate::origin`]).

mod flow;

use std::fmt;
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::Mac as _;
use subtle::ConstantTimeEq;
use zeroize::Zeroize as _;

pub use self::flow::{LOGIN_FLOW_AGE, LoginFlowCookie};
use crate::clock::Timestamp;
use crate::cookie::{Cookie, SetCookie};
use crate::engine::Resumed;
use crate::entropy::{Entropy, EntropyError, draw};
use crate::seal::{Peppers, keyed};
use crate::token::Handle;
use crate::wipe::wiped;

/// Characters in a token.
pub const CSRF_TOKEN_LEN: usize = 64;
/// The form field that holds a token, unless the application chooses another. No other framework's: theirs pass untouched.
pub const FORM_FIELD: &str = "cloakroom_csrf";
/// The request header field that holds a token, unless the application chooses another.
pub const HEADER_FIELD: &str = "x-cloakroom-csrf";
/// How long a visitor's token is good, unless the application chooses otherwise: a login page may stand open for a
/// working day.
pub const VISITOR_TOKEN_AGE: Duration = Duration::from_secs(12 * 3600);

const RAW_LEN: usize = 48;
const RANDOM_LEN: usize = 16;
/// How far a token may lie in the future: clocks of instances differ.
const SKEW: Duration = Duration::from_secs(60);
const SESSION: &[u8] = b"cloakroom csrf 1 s";
const PURPOSE: &[u8] = b"cloakroom csrf 1 p";
const VISITOR: &[u8] = b"cloakroom csrf 1 v";

/// A token for a form or for a script's header field.
///
/// # Security
///
/// It belongs into a page or a response body that only the user gets: never into a cookie, a URL or a log (R-077).
/// `Debug` is redacted.
#[derive(Clone)]
pub struct CsrfToken([u8; CSRF_TOKEN_LEN]);

wiped!(CsrfToken, 0; CsrfKey, key; Visitor, 0; VisitorKeys, keys);

impl CsrfToken {
    fn of(mut raw: [u8; RAW_LEN]) -> Self {
        let mut text = [0; CSRF_TOKEN_LEN];
        // 48 bytes are exactly 64 characters, so this cannot fail; zeros would be refused anywhere.
        let encoded = Base64UrlUnpadded::encode(&raw, &mut text).is_ok();
        raw.zeroize();
        debug_assert!(encoded);
        Self(text)
    }

    /// The 64 characters, none of which needs escaping.
    pub fn expose(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for CsrfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CsrfToken(redacted)")
    }
}

/// Reads a token's bytes: exactly 64 characters of the base64url alphabet, which have one spelling.
fn read(text: &[u8]) -> Option<[u8; RAW_LEN]> {
    let mut raw = [0; RAW_LEN];
    (text.len() == CSRF_TOKEN_LEN && Base64UrlUnpadded::decode(text, &mut raw).is_ok()).then_some(raw)
}

/// Whether a text under one of our names is a token of ours, whosever: what has another shape is somebody else's and counts as
/// absent.
pub fn has_token_shape(text: &[u8]) -> bool {
    read(text).is_some()
}

/// HMAC over parts, each behind its length.
fn sign(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = keyed(key);
    for part in parts {
        // Parts have at most 255 bytes.
        mac.update(&[u8::try_from(part.len()).unwrap_or(u8::MAX)]);
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Puts parts one behind the other, as far as there is room.
fn join(parts: &[&[u8]]) -> [u8; RAW_LEN] {
    let mut raw = [0; RAW_LEN];
    raw.iter_mut().zip(parts.iter().copied().flatten()).for_each(|(to, from)| *to = *from);
    raw
}

/// What issues and verifies the tokens of one session: see [`Resumed::csrf_key`].
#[derive(Clone)]
pub struct CsrfKey {
    key: [u8; 32],
    handle: Handle,
}

impl CsrfKey {
    pub(crate) const fn new(key: [u8; 32], handle: Handle) -> Self {
        Self { key, handle }
    }

    /// Issues a token. Each response needs its own.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] if no randomness is to be had.
    pub fn issue(&self, entropy: &dyn Entropy) -> Result<CsrfToken, EntropyError> {
        let random = draw::<RANDOM_LEN>(entropy)?;
        Ok(CsrfToken::of(join(&[&random, &self.sign(&random)])))
    }

    /// Whether a text is a token of this session. Compares in constant time.
    #[must_use = "a request whose token is not valid must not go on"]
    pub fn verify(&self, text: &[u8]) -> bool {
        let Some(raw) = read(text) else { return false };
        let Some((random, tag)) = raw.split_first_chunk::<RANDOM_LEN>() else { return false };
        self.sign(random).ct_eq(tag).into()
    }

    /// Seals a purpose, of at most 255 bytes: for a form that does one thing, in this session. What says another purpose, a form token
    /// too, does not open it.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] if no randomness is to be had.
    pub fn seal(&self, purpose: &[u8], entropy: &dyn Entropy) -> Result<CsrfToken, EntropyError> {
        let random = draw::<RANDOM_LEN>(entropy)?;
        Ok(CsrfToken::of(join(&[&random, &self.sign_purpose(purpose, &random)])))
    }

    /// Whether a text is a seal of this session on this purpose. Compares in constant time.
    #[must_use = "what is not sealed must not be done"]
    pub fn opens(&self, purpose: &[u8], text: &[u8]) -> bool {
        let Some(raw) = read(text) else { return false };
        let Some((random, tag)) = raw.split_first_chunk::<RANDOM_LEN>() else { return false };
        purpose.len() <= usize::from(u8::MAX) && bool::from(self.sign_purpose(purpose, random).ct_eq(tag))
    }

    fn sign(&self, random: &[u8; RANDOM_LEN]) -> [u8; 32] {
        sign(&self.key, &[SESSION, self.handle.as_bytes(), random])
    }

    fn sign_purpose(&self, purpose: &[u8], random: &[u8; RANDOM_LEN]) -> [u8; 32] {
        sign(&self.key, &[PURPOSE, self.handle.as_bytes(), random, purpose])
    }
}

impl fmt::Debug for CsrfKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CsrfKey({}, redacted)", self.handle)
    }
}

/// A browser without a session, known by the random value of a cookie of its own.
#[derive(Clone)]
pub struct Visitor([u8; 16]);

impl Visitor {
    /// Draws a new visitor.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] if no randomness is to be had.
    pub fn draw(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        draw(entropy).map(Self)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; 16];
        (text.len() == 22 && Base64UrlUnpadded::decode(text, &mut bytes).is_ok()).then_some(Self(bytes))
    }

    #[cfg(test)]
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl PartialEq for Visitor {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Visitor {}

impl fmt::Debug for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Visitor(redacted)")
    }
}

/// The cookie that tells visitors apart: the session cookie's name with `-csrf` behind it, as `__Host-Http-sid-csrf`.
///
/// `HttpOnly`, without `Domain`, gone with the browser, `Secure` and `SameSite` as the session's. A page has the token,
/// never the cookie.
#[derive(Clone, Debug)]
pub struct VisitorCookie(Cookie);

impl VisitorCookie {
    /// The one beside a session cookie.
    pub fn beside(session: &Cookie) -> Self {
        Self(session.companion("csrf"))
    }

    /// The cookie itself, for instance to take it out of what goes to an application.
    pub const fn cookie(&self) -> &Cookie {
        &self.0
    }

    /// The visitor of a request, by its `Cookie` fields: if several copies differ, nobody. Position never decides
    /// (R-033).
    pub fn find<'a>(&'a self, cookie_fields: impl IntoIterator<Item = &'a [u8]> + 'a) -> Option<Visitor> {
        let mut values = self.0.values(cookie_fields);
        let first = values.next()?;
        values.all(|value| value == first).then(|| Visitor::parse(first)).flatten()
    }

    /// The `Set-Cookie` value for a new visitor.
    pub fn set(&self, visitor: &Visitor) -> SetCookie {
        let mut text = [0; 22];
        // 16 bytes are exactly 22 characters; what is not encoded is not accepted either.
        let text = Base64UrlUnpadded::encode(&visitor.0, &mut text).unwrap_or_default();
        self.0.set_text(text)
    }

    /// The `Set-Cookie` value that removes the cookie, after a login.
    pub fn removal(&self) -> SetCookie {
        self.0.removal()
    }
}

/// The server's keys for the tokens of visitors: one to issue, and those of older peppers that are still accepted.
#[derive(Clone)]
pub struct VisitorKeys {
    keys: Vec<[u8; 32]>,
    max_age: Duration,
}

impl VisitorKeys {
    /// Derives them from the peppers. `None` if the current one is the empty pepper: everybody knows what follows from
    /// it. Then draw a key with [`VisitorKeys::draw`].
    pub fn of(peppers: &Peppers) -> Option<Self> {
        peppers.current().visitor_key()?;
        let keys = peppers.live().filter_map(|pepper| pepper.visitor_key()).collect();
        Some(Self { keys, max_age: VISITOR_TOKEN_AGE })
    }

    /// Draws a key that lives as long as the process: where no pepper is configured. Forms that were open before a
    /// restart, or that another process issued, have to be loaded again; several processes behind one name need a
    /// pepper.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] if no randomness is to be had.
    pub fn draw(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        Ok(Self { keys: vec![draw(entropy)?], max_age: VISITOR_TOKEN_AGE })
    }

    /// Changes how long tokens are good. The default is [`VISITOR_TOKEN_AGE`].
    ///
    /// # Security
    ///
    /// Whoever learns cookie and token of a visitor can have the login form sent for him that long.
    #[must_use = "this returns the changed keys"]
    pub const fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    /// Issues a token for a visitor. Each response needs its own.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] if no randomness is to be had.
    pub fn issue(
        &self,
        visitor: &Visitor,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<CsrfToken, EntropyError> {
        let random = draw::<RANDOM_LEN>(entropy)?;
        let issued = now.as_millis().to_be_bytes();
        // There is always a first key; without one nothing verifies.
        let tag = self.keys.first().map_or([0; 32], |key| Self::sign(key, visitor, &random, &issued));
        Ok(CsrfToken::of(join(&[&random, &issued, &tag])))
    }

    /// Whether a text is a token of this visitor and young enough. Compares in constant time.
    #[must_use = "a request whose token is not valid must not go on"]
    pub fn verify(&self, visitor: &Visitor, text: &[u8], now: Timestamp) -> bool {
        let Some(raw) = read(text) else { return false };
        let Some((random, rest)) = raw.split_first_chunk::<RANDOM_LEN>() else { return false };
        let Some((issued, tag)) = rest.split_first_chunk::<8>() else { return false };
        let genuine = self.keys.iter().any(|key| {
            let whole = Self::sign(key, visitor, random, issued);
            whole.first_chunk::<24>().is_some_and(|half| half.ct_eq(tag).into())
        });
        let issued = Timestamp::from_millis(u64::from_be_bytes(*issued));
        genuine && issued <= now.plus(SKEW) && now < issued.plus(self.max_age)
    }

    fn sign(key: &[u8; 32], visitor: &Visitor, random: &[u8; RANDOM_LEN], issued: &[u8; 8]) -> [u8; 32] {
        sign(key, &[VISITOR, &visitor.0, random, issued])
    }
}

impl fmt::Debug for VisitorKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VisitorKeys").field("max_age", &self.max_age).finish_non_exhaustive()
    }
}

impl Resumed {
    /// Whether a request may act on the strength of a token.
    ///
    /// In a session that belongs to somebody, only a token of that session counts, so that those of before the login
    /// are dead (R-079). An anonymous session arises as soon as there is something to keep, also between a form and its
    /// sending; so beside one, and without any, a token of the visitor counts too.
    #[must_use = "a request whose token is not valid must not go on"]
    pub fn accepts_csrf(
        &self,
        text: &[u8],
        visitor: Option<(&VisitorKeys, &Visitor)>,
        now: Timestamp,
    ) -> bool {
        let visits = visitor.is_some_and(|(keys, visitor)| keys.verify(visitor, text, now));
        self.csrf_key().is_some_and(|key| key.verify(text)) || (visits && self.subject().is_none())
    }

    /// Whether a text is a token of another session than this one, which belongs to somebody: of a page that was open while
    /// somebody else logged in, or of before this user's own login.
    ///
    /// # Security
    ///
    /// What such a form says was meant for the account before. It is refused whatever else the request shows: the browser sends it
    /// from the site itself, with the cookie of the account after (R-079).
    pub fn has_other_csrf(&self, text: &[u8]) -> bool {
        self.subject().is_some()
            && has_token_shape(text)
            && !self.csrf_key().is_some_and(|key| key.verify(text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cookie::CookieOptions;
    use crate::seal::Pepper;
    use crate::testing::Counting;

    const NOON: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn key(byte: u8) -> CsrfKey {
        CsrfKey::new([byte; 32], Handle::from_bytes([byte; 16]))
    }

    fn keys(byte: u8) -> VisitorKeys {
        VisitorKeys::of(&Peppers::new(Pepper::new(&[byte; 32]).unwrap())).unwrap()
    }

    #[test]
    fn r077_tokens_of_one_session_have_nothing_in_common() {
        let entropy = Counting::default();
        let tokens: Vec<_> = (0..200).map(|_| key(1).issue(&entropy).unwrap()).collect();
        for (index, token) in tokens.iter().enumerate() {
            assert_eq!(token.expose().len(), CSRF_TOKEN_LEN);
            assert!(token.expose().bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
            // A compression oracle needs three characters or more that stay; by chance few positions agree.
            for other in &tokens[..index] {
                let same = token.expose().bytes().zip(other.expose().bytes()).filter(|(a, b)| a == b).count();
                assert!(same < 12, "{} {}", token.expose(), other.expose());
            }
            assert!(key(1).verify(token.expose().as_bytes()));
        }
    }

    #[test]
    fn r078_a_seal_is_of_one_session_and_one_purpose() {
        let entropy = Counting::default();
        let seal = key(1).seal(b"logout this", &entropy).unwrap();
        let text = seal.expose().as_bytes();
        assert!(key(1).opens(b"logout this", text));
        assert!(!key(2).opens(b"logout this", text));
        assert!(!CsrfKey::new([1; 32], Handle::from_bytes([2; 16])).opens(b"logout this", text));
        for other in [&b"logout others"[..], b"logout ", b"logout this ", b"", &[b'x'; 300]] {
            assert!(!key(1).opens(other, text), "{other:?}");
        }
        assert!(!key(1).verify(text), "it is no form token");
        let token = key(1).issue(&entropy).unwrap();
        assert!(!key(1).opens(b"", token.expose().as_bytes()) && !key(1).opens(b"logout this", b""));
        assert_ne!(key(1).seal(b"logout this", &entropy).unwrap().expose(), seal.expose());
    }

    #[test]
    fn r078_a_token_is_of_one_key_one_holder_and_one_purpose() {
        let entropy = Counting::default();
        let token = key(1).issue(&entropy).unwrap();
        assert!(key(1).verify(token.expose().as_bytes()));
        assert!(!key(2).verify(token.expose().as_bytes()));
        let same_key_other_handle = CsrfKey::new([1; 32], Handle::from_bytes([2; 16]));
        assert!(!same_key_other_handle.verify(token.expose().as_bytes()));

        // Even under one key, and for one holder, the two kinds of tokens are told apart.
        let visitors = VisitorKeys { keys: vec![[1; 32]], max_age: VISITOR_TOKEN_AGE };
        let visitor = Visitor::from_bytes([1; 16]);
        let visiting = visitors.issue(&visitor, NOON, &entropy).unwrap();
        assert!(visitors.verify(&visitor, visiting.expose().as_bytes(), NOON));
        assert!(!key(1).verify(visiting.expose().as_bytes()));
        assert!(!visitors.verify(&visitor, token.expose().as_bytes(), NOON));
    }

    #[test]
    fn r078_an_own_cookie_with_the_same_text_in_the_field_is_no_token() {
        let visitor = Visitor::from_bytes([5; 16]);
        let set = VisitorCookie::beside(&Cookie::default()).set(&visitor);
        let value = set.expose().split(['=', ';']).nth(1).unwrap();
        for text in [value.to_owned(), value.repeat(3)[..64].to_owned(), format!("{value}{}", "A".repeat(42))]
        {
            assert!(!keys(1).verify(&visitor, text.as_bytes(), NOON), "{text}");
        }
        // Nor can whoever does not know the server's key make one.
        let made_up = keys(2).issue(&visitor, NOON, &Counting::default()).unwrap();
        assert!(!keys(1).verify(&visitor, made_up.expose().as_bytes(), NOON));
    }

    #[test]
    fn r079_a_visitors_token_is_good_for_that_visitor_and_for_a_while() {
        let entropy = Counting::default();
        let (alice, bob) = (Visitor::draw(&entropy).unwrap(), Visitor::draw(&entropy).unwrap());
        let token = keys(1).issue(&alice, NOON, &entropy).unwrap();
        let good = |visitor, now| keys(1).verify(visitor, token.expose().as_bytes(), now);
        let last = NOON.plus(VISITOR_TOKEN_AGE - Duration::from_millis(1));
        assert!(good(&alice, NOON) && good(&alice, last));
        assert!(!good(&bob, NOON));
        assert!(!good(&alice, NOON.plus(VISITOR_TOKEN_AGE)));
        // Clocks differ a little, not more.
        let early = |secs| NOON.minus(Duration::from_secs(secs));
        assert!(good(&alice, early(60)));
        assert!(!good(&alice, early(61)));
        let brief = keys(1).max_age(Duration::from_secs(5));
        assert!(!brief.verify(&alice, token.expose().as_bytes(), NOON.plus(Duration::from_secs(5))));
    }

    #[test]
    fn r078_the_empty_pepper_yields_no_visitor_keys_and_an_old_one_only_verifies() {
        assert!(VisitorKeys::of(&Peppers::new(Pepper::none())).is_none());
        let entropy = Counting::default();
        let visitor = Visitor::draw(&entropy).unwrap();
        let [old, new] = [1, 2].map(|byte| Pepper::new(&[byte; 32]).unwrap());
        let before = keys(1).issue(&visitor, NOON, &entropy).unwrap();
        let both =
            VisitorKeys::of(&Peppers::new(new.clone()).accept(old.clone()).accept(Pepper::none())).unwrap();
        assert_eq!(both.keys.len(), 2, "the empty pepper is none, also among the accepted");
        assert!(both.verify(&visitor, before.expose().as_bytes(), NOON));
        let after = both.issue(&visitor, NOON, &entropy).unwrap();
        assert!(!keys(1).verify(&visitor, after.expose().as_bytes(), NOON));
        let retired = VisitorKeys::of(&Peppers::new(new).accept(old.clone()).retire(old.id())).unwrap();
        assert!(!retired.verify(&visitor, before.expose().as_bytes(), NOON));
        let (one, other) = (VisitorKeys::draw(&entropy).unwrap(), VisitorKeys::draw(&entropy).unwrap());
        let token = one.issue(&visitor, NOON, &entropy).unwrap();
        assert!(one.verify(&visitor, token.expose().as_bytes(), NOON));
        assert!(!other.verify(&visitor, token.expose().as_bytes(), NOON));
    }

    #[test]
    fn r077_the_visitors_cookie_is_for_the_server_alone_and_holds_no_token() {
        let cookie = VisitorCookie::beside(&Cookie::default());
        let visitor = Visitor::from_bytes([0xfb; 16]);
        let set = cookie.set(&visitor);
        assert_eq!(
            set.expose(),
            "__Host-Http-sid-csrf=-_v7-_v7-_v7-_v7-_v7-w; Path=/; Secure; HttpOnly; SameSite=Lax"
        );
        let shared = CookieOptions::default().insecure_shared_with_subdomains("example.org", "test").build();
        let set = VisitorCookie::beside(&shared.unwrap()).set(&visitor).expose().to_owned();
        assert!(set.starts_with("__Http-sid-csrf=") && !set.contains("Domain"), "{set}");
        let plain = CookieOptions::default().insecure_plain_http("test").build().unwrap();
        let set = VisitorCookie::beside(&plain).set(&visitor).expose().to_owned();
        assert_eq!(set, "sid-csrf=-_v7-_v7-_v7-_v7-_v7-w; Path=/; HttpOnly; SameSite=Lax");
    }

    #[test]
    fn r033_copies_of_the_visitors_cookie_that_differ_are_nobodys() {
        let cookie = VisitorCookie::beside(&Cookie::default());
        let pair = |byte| {
            let set = cookie.set(&Visitor::from_bytes([byte; 16]));
            set.expose().split(';').next().unwrap().to_owned()
        };
        let find = |fields: &[String]| cookie.find(fields.iter().map(String::as_bytes)).is_some();
        assert!(find(&[pair(1)]));
        assert!(find(&[pair(1), pair(1)]));
        assert!(!find(&[]));
        assert!(!find(&[pair(1), pair(2)]));
        assert!(!find(&[format!("{}; {}x", pair(1), pair(1))]));
        assert!(!find(&[format!("{}A", pair(1))]));
        assert!(!find(&[pair(1)[..40].to_owned()]));
        assert!(!find(&[pair(1).to_lowercase()]));
    }

    #[test]
    fn r077_r108_debug_text_shows_neither_key_nor_token() {
        let entropy = Counting::default();
        let visitor = Visitor::from_bytes([0xfb; 16]);
        let token = key(0xcc).issue(&entropy).unwrap();
        let printed = format!("{token:?} {:?} {:?} {visitor:?}", key(0xcc), keys(0xcc));
        let own = Handle::from_bytes([0xcc; 16]).to_string();
        assert_eq!(printed.matches("redacted").count(), 3);
        assert!(!printed.contains(token.expose()) && !printed.contains("204") && !printed.contains("251"));
        assert!(printed.contains(&own));
    }

    proptest! {
        #[test]
        fn r078_no_other_text_is_a_token(text in ".{0,80}", index in 0..64_usize, byte in any::<u8>()) {
            let token = key(1).issue(&Counting::default()).unwrap();
            let mut altered = token.expose().as_bytes().to_vec();
            let same = altered[index] == byte;
            altered[index] = byte;
            prop_assert_eq!(key(1).verify(&altered), same);
            prop_assert!(!key(1).verify(text.as_bytes()));
            for len in 0..64 {
                prop_assert!(!key(1).verify(&token.expose().as_bytes()[..len]));
            }
            for more in ["=", "A", " ", "\n"] {
                let longer = [token.expose(), more].concat();
                prop_assert!(!key(1).verify(longer.as_bytes()));
            }
        }

        #[test]
        fn r078_r079_a_token_is_good_under_its_own_key_and_handle_only(
            one in any::<([u8; 32], [u8; 16])>(),
            other in any::<([u8; 32], [u8; 16])>(),
            seed in 0..1000_u64,
        ) {
            let entropy = Counting::default();
            for _ in 0..seed % 7 {
                Visitor::draw(&entropy).unwrap();
            }
            let key = |(key, handle)| CsrfKey::new(key, Handle::from_bytes(handle));
            let token = key(one).issue(&entropy).unwrap();
            prop_assert!(key(one).verify(token.expose().as_bytes()));
            prop_assert_eq!(key(other).verify(token.expose().as_bytes()), one == other);
            prop_assert_eq!(key((one.0, other.1)).verify(token.expose().as_bytes()), one.1 == other.1);
            prop_assert_eq!(key((other.0, one.1)).verify(token.expose().as_bytes()), one.0 == other.0);
        }
    }
}
