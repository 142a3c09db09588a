//! Reading and writing the session cookie, against an independent parser.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use cloakroom_core::cookie::{ATTRIBUTE_MAX, Cookie, CookieOptions, NAME_VALUE_MAX, SameSite};
use cloakroom_core::engine::{Engine, TOKENS_MAX};
use cloakroom_core::policy::{ConfigErrors, Policy};
use cloakroom_core::seal::{Pepper, Peppers};
use cloakroom_core::token::{TOKEN_LEN, Token};
use proptest::prelude::*;

const NAME: &str = "__Host-Http-sid";

fn token() -> Token {
    Token::parse(&"AbCdEf-_9".repeat(8).as_bytes()[..TOKEN_LEN]).unwrap()
}

fn values(fields: &[&str]) -> Vec<String> {
    let cookie = Cookie::default();
    let values: Vec<_> = cookie.values(fields.iter().map(|field| field.as_bytes())).collect();
    values.into_iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}

fn keys(result: Result<Cookie, ConfigErrors>) -> Vec<String> {
    result.unwrap_err().problems().iter().map(|problem| problem.key.clone()).collect()
}

#[test]
fn r025_every_copy_of_the_cookie_is_read_and_nothing_else() {
    let table: &[(&str, &[&str], &[&str])] = &[
        ("one", &["__Host-Http-sid=a"], &["a"]),
        ("among others", &["x=1; __Host-Http-sid=a; y=2"], &["a"]),
        ("duplicates", &["__Host-Http-sid=a; __Host-Http-sid=b; __Host-Http-sid=a"], &["a", "b", "a"]),
        ("split fields (R-032)", &["x=1; __Host-Http-sid=a", "__Host-Http-sid=b"], &["a", "b"]),
        ("whitespace", &[" \t__Host-Http-sid=a \t;\t__Host-Http-sid=b"], &["a", "b"]),
        ("no whitespace", &["x=1;__Host-Http-sid=a;y=2"], &["a"]),
        ("quotes stay", &["__Host-Http-sid=\"a\""], &["\"a\""]),
        ("equals in the value", &["__Host-Http-sid=a=b="], &["a=b="]),
        ("empty value", &["__Host-Http-sid="], &[""]),
        ("no equals", &["__Host-Http-sid"], &[]),
        ("nothing", &["", ";", "; ;"], &[]),
        ("longer name", &["__Host-Http-sid2=a; x__Host-Http-sid=b"], &[]),
        ("name as value", &["x=__Host-Http-sid=a"], &[]),
        ("comma is no separator", &["x=1, __Host-Http-sid=a"], &[]),
        ("R-025 variants in case", &["__host-http-sid=a; __HOST-HTTP-SID=b; __Host-http-sid=c"], &[]),
        ("R-025 variant beside the real one", &["__HOST-Http-sid=evil; __Host-Http-sid=a"], &["a"]),
        ("R-025 percent is not decoded", &["__Host-Http%2Dsid=a"], &[]),
        ("a browser's nameless cookie", &["=__Host-Http-sid=a"], &[]),
    ];
    for (name, fields, expected) in table {
        assert_eq!(values(fields), *expected, "{name}");
    }
}

#[test]
fn more_than_four_copies_are_malformed_and_not_looked_up() {
    let engine = Engine::default();
    let copy = |index: usize| format!("{NAME}={}", &format!("{index}{}", "A".repeat(63)));
    for (copies, handles) in [(0, 0), (1, 1), (TOKENS_MAX, TOKENS_MAX), (TOKENS_MAX + 1, 0), (200, 0)] {
        let field = (0..copies).map(|index| copy(index % 10)).collect::<Vec<_>>().join("; ");
        let presented = engine.present([field.as_bytes()]);
        assert_eq!(presented.handles().count(), handles, "{copies}");
        assert_eq!(presented.is_empty(), copies == 0);
    }
    // The same copy five times is too many all the same.
    let field = [copy(1), copy(1), copy(1), copy(1), copy(1)].join(";");
    assert_eq!(engine.present([field.as_bytes()]).handles().count(), 0);
    // Several secrets of one handle are one look-up.
    let field = format!("{NAME}={0}A; {NAME}={0}B", "A".repeat(63));
    assert_eq!(engine.present([field.as_bytes()]).handles().count(), 1);
}

fn strictly_parsed(text: &str) -> cookie::Cookie<'_> {
    assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "no control characters: {text}");
    let mut attributes: Vec<_> = text.split("; ").skip(1).collect();
    let count = attributes.len();
    attributes.sort_unstable();
    attributes.dedup_by_key(|attribute| attribute.split('=').next().unwrap().to_ascii_lowercase());
    assert_eq!(attributes.len(), count, "no attribute twice: {text}");
    cookie::Cookie::parse(text).unwrap()
}

#[test]
fn r020_to_r031_the_default_cookie_is_bound_to_its_host_and_dies_with_the_browser() {
    let set = Cookie::default().set(&token());
    let parsed = strictly_parsed(set.expose());
    assert_eq!((parsed.name(), parsed.value()), (NAME, token().expose().as_str()));
    assert_eq!((parsed.secure(), parsed.http_only()), (Some(true), Some(true)));
    assert_eq!((parsed.path(), parsed.domain()), (Some("/"), None));
    assert_eq!(parsed.same_site(), Some(cookie::SameSite::Lax));
    assert_eq!((parsed.max_age(), parsed.expires()), (None, None));
    assert_eq!(parsed.partitioned(), None);
    let expected = format!("{NAME}={}; Path=/; Secure; HttpOnly; SameSite=Lax", token().expose().as_str());
    assert_eq!(set.expose(), expected);
}

#[test]
fn the_default_options_build_the_default_cookie() {
    let built = CookieOptions::default().build().unwrap();
    assert_eq!(built.set(&token()).expose(), Cookie::default().set(&token()).expose());
    assert_eq!(built.name(), Cookie::default().name());
}

#[test]
fn r026_r027_r034_each_accepted_combination_of_options_writes_exactly_its_attributes_and_removes_them() {
    let options = CookieOptions::default;
    let table = [
        ("own name", options().name("__Host-shop"), "__Host-shop", "Path=/; Secure; HttpOnly; SameSite=Lax"),
        (
            "R-026 strict",
            options().same_site(SameSite::Strict),
            NAME,
            "Path=/; Secure; HttpOnly; SameSite=Strict",
        ),
        (
            "R-027 cross-site",
            options().insecure_cross_site("widget"),
            NAME,
            "Path=/; Secure; HttpOnly; SameSite=None; Partitioned",
        ),
        ("plain http", options().insecure_plain_http("lab"), "sid", "Path=/; HttpOnly; SameSite=Lax"),
        (
            "shared",
            options().insecure_shared_with_subdomains("example.org", "one login"),
            "__Http-sid",
            "Path=/; Secure; HttpOnly; Domain=example.org; SameSite=Lax",
        ),
        (
            "shared under __Secure-",
            options().name("__Secure-sid").insecure_shared_with_subdomains("a.example.org", "x"),
            "__Secure-sid",
            "Path=/; Secure; HttpOnly; Domain=a.example.org; SameSite=Lax",
        ),
    ];
    for (label, options, name, attributes) in table {
        let cookie = options.build().unwrap();
        let text = token().expose();
        let set = cookie.set(&token());
        assert_eq!(set.expose(), format!("{name}={}; {attributes}", text.as_str()), "{label}");
        // the removal repeats the same and lies in the past.
        let removal = cookie.removal();
        let prefix = format!("{name}=; {attributes}; ");
        assert!(removal.expose().starts_with(&prefix), "{label}: {}", removal.expose());
        let (set, removal) = (strictly_parsed(set.expose()), strictly_parsed(removal.expose()));
        let scope = |c: &cookie::Cookie<'_>| {
            (c.name().to_owned(), c.domain().map(str::to_owned), c.path().map(str::to_owned), c.secure())
        };
        assert_eq!(scope(&set), scope(&removal), "{label}");
        assert_eq!(set.http_only(), removal.http_only());
        assert_eq!((set.same_site(), set.partitioned()), (removal.same_site(), removal.partitioned()));
        assert!(removal.max_age().unwrap().is_zero());
        assert_eq!(removal.expires_datetime().unwrap().unix_timestamp(), 0);
    }
}

#[test]
fn r023_each_invalid_combination_is_refused() {
    let options = CookieOptions::default;
    let shared = |domain: &str| options().insecure_shared_with_subdomains(domain, "x");
    let table = [
        ("no prefix", options().name("sid"), "cookie.name"),
        ("R-025 prefix in another case", options().name("__HOST-sid"), "cookie.name"),
        ("weaker prefix", options().name("__Secure-sid"), "cookie.name"),
        ("prefix without Host", options().name("__Http-sid"), "cookie.name"),
        ("R-031 empty name", options().name(""), "cookie.name"),
        ("space", options().name("__Host-s id"), "cookie.name"),
        ("separator", options().name("__Host-s;id"), "cookie.name"),
        ("equals", options().name("__Host-s=id"), "cookie.name"),
        ("control", options().name("__Host-s\r\nid"), "cookie.name"),
        ("not ASCII", options().name("__Host-šid"), "cookie.name"),
        ("prefix over plain http", options().name("__Host-sid").insecure_plain_http("x"), "cookie.name"),
        ("prefix in another case", options().name("__SECURE-s").insecure_plain_http("x"), "cookie.name"),
        ("host prefix when shared", shared("example.org").name("__Host-sid"), "cookie.name"),
        ("no prefix when shared", shared("example.org").name("sid"), "cookie.name"),
        ("no reason", options().insecure_plain_http(" "), "cookie.insecure_plain_http"),
        ("R-027 no reason", options().insecure_cross_site(""), "cookie.insecure_cross_site"),
        (
            "no reason to share",
            options().insecure_shared_with_subdomains("example.org", "\t"),
            "cookie.insecure_shared_with_subdomains",
        ),
        (
            "cross-site without Secure",
            options().insecure_plain_http("x").insecure_cross_site("y"),
            "cookie.insecure_cross_site",
        ),
        (
            "strict and cross-site",
            options().same_site(SameSite::Strict).insecure_cross_site("x"),
            "cookie.same_site",
        ),
        ("R-028 one label", shared("org"), "cookie.domain"),
        ("leading dot", shared(".example.org"), "cookie.domain"),
        ("trailing dot", shared("example.org."), "cookie.domain"),
        ("injection", shared("example.org; Secure"), "cookie.domain"),
        ("port", shared("example.org:80"), "cookie.domain"),
        ("empty domain", shared(""), "cookie.domain"),
        ("hyphen at the edge", shared("-a.example.org"), "cookie.domain"),
    ];
    for (label, options, key) in table {
        let mut keys = keys(options.build());
        keys.dedup();
        assert_eq!(keys, [key], "{label}");
    }
}

#[test]
fn all_problems_are_listed_at_once() {
    let options = CookieOptions::default()
        .name("__Host-s id")
        .same_site(SameSite::Strict)
        .insecure_cross_site("")
        .insecure_plain_http("")
        .insecure_shared_with_subdomains("org", "");
    let expected = [
        "cookie.name",
        "cookie.name",
        "cookie.insecure_plain_http",
        "cookie.insecure_cross_site",
        "cookie.insecure_shared_with_subdomains",
        "cookie.insecure_cross_site",
        "cookie.same_site",
        "cookie.domain",
    ];
    assert_eq!(keys(options.build()), expected);
}

#[test]
fn r029_name_and_value_have_at_most_4096_octets_and_an_attribute_1024() {
    for (total, fits) in [(4095, true), (4096, true), (4097, false)] {
        let name = format!("__Host-{}", "n".repeat(total - TOKEN_LEN - 7));
        let built = CookieOptions::default().name(&name).build();
        assert_eq!(built.is_ok(), fits, "{total}");
        match built {
            Ok(cookie) => {
                let set = cookie.set(&token());
                let pair = set.expose().split(';').next().unwrap();
                assert_eq!(pair.len() - 1, total);
                assert!(total <= NAME_VALUE_MAX);
            }
            Err(errors) => assert_eq!(errors.problems()[0].key, "cookie.name"),
        }
    }
    for (len, fits) in [(1023_usize, true), (1024, true), (1025, false)] {
        let mut domain = "abcdefg.".repeat(len.div_ceil(8));
        domain.truncate(len - 1);
        domain.push('z');
        assert_eq!((domain.len(), len <= ATTRIBUTE_MAX), (len, fits));
        let built = CookieOptions::default().insecure_shared_with_subdomains(&domain, "x").build();
        assert_eq!(built.is_ok(), fits, "{len}");
    }
}

#[test]
fn r031_no_part_of_a_request_reaches_the_field() {
    // Whatever was presented, only the engine's own tokens are written: 64 characters of base64url.
    let set = Cookie::default().set(&token());
    let value = set.expose().split(['=', ';']).nth(1).unwrap();
    assert!(value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
    assert!(Token::parse(format!("{}\r\nX: y", &value[..TOKEN_LEN - 6]).as_bytes()).is_none());
}

/// What an independent parser reads under our name, where it and we must agree.
fn oracle(field: &str) -> Vec<String> {
    cookie::Cookie::split_parse(field)
        .filter_map(Result::ok)
        .filter(|cookie| cookie.name() == NAME)
        .map(|cookie| cookie.value().to_owned())
        .collect()
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just(format!("{NAME}=")),
        1 => Just(NAME.to_owned()),
        1 => Just("__host-Http-sid=".to_owned()),
        3 => Just("; ".to_owned()),
        1 => Just(";".to_owned()),
        2 => "[a-zA-Z0-9\"=_-]{0,12}",
        1 => " |\t",
    ]
}

proptest! {
    #[test]
    fn any_bytes_in_any_fields_are_read_without_panic(
        fields in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6),
    ) {
        let engine = Engine::default();
        let presented = engine.present(fields.iter().map(Vec::as_slice));
        prop_assert!(presented.handles().count() <= TOKENS_MAX);
        let fields: Vec<_> = fields.iter().map(Vec::as_slice).collect();
        for value in Cookie::default().values(fields.iter().copied()) {
            prop_assert!(!value.contains(&b';'));
        }
    }

    #[test]
    fn values_agree_with_an_independent_parser(pieces in prop::collection::vec(piece(), 0..24)) {
        let field = pieces.concat();
        // The oracle also forgives whitespace around the equals sign, which no browser sends.
        prop_assume!(!field.contains(" =") && !field.contains("\t=") && !field.contains("= ") && !field.contains("=\t"));
        prop_assert_eq!(values(&[&field]), oracle(&field));
    }

    #[test]
    fn r032_fields_split_anywhere_between_pairs_mean_the_same(
        pairs in prop::collection::vec(("[a-z]{1,3}|__Host-Http-sid", "[a-zA-Z0-9]{0,6}"), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let (first, second) = pairs.split_at(cut.index(pairs.len()));
        let (first, second) = (first.join("; "), second.join("; "));
        prop_assert_eq!(values(&[&first, &second]), values(&[&pairs.join("; ")]));
    }

    #[test]
    fn what_is_written_is_read_back_by_us_and_by_others(bytes in any::<[u8; 48]>(), name in "__Host-[!#$%&'*+.^_`|~a-zA-Z0-9-]{0,40}") {
        let text = {
            use base64ct::Encoding as _;
            base64ct::Base64UrlUnpadded::encode_string(&bytes)
        };
        let token = Token::parse(text.as_bytes()).unwrap();
        let cookie = CookieOptions::default().name(&name).build().unwrap();
        let set = cookie.set(&token);
        let parsed = strictly_parsed(set.expose());
        prop_assert_eq!((parsed.name(), parsed.value()), (name.as_str(), text.as_str()));
        let sent = format!("a=b; {name}={text}");
        let engine = Engine::new(Policy::default(), cookie, Peppers::new(Pepper::none())).unwrap();
        let handles: Vec<_> = engine.present([sent.as_bytes()]).handles().collect();
        prop_assert_eq!(handles, [token.handle()]);
    }
}
