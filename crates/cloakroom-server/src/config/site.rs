//! Where the site stands: its address, its origins, its TLS, its login page, and the application behind it.

use std::net::{IpAddr, SocketAddr};

use cloakroom::core::origin::Origin;
use http::uri::Authority;
use http::{Method, Uri};

use super::Check;
use crate::routes::{Require, Routes, SessionUse, is_own};

/// The application's address.
pub(super) fn upstream(check: &mut Check, url: Option<&str>) -> Option<Authority> {
    let Some(url) = url else {
        check.problem("upstream", "", "the application's address, such as http://127.0.0.1:3000");
        return None;
    };
    let expected = "http:// with a host and a port, without path, such as http://127.0.0.1:3000";
    check.read("upstream", url, expected, |url| {
        let uri = url.parse::<Uri>().ok()?;
        let plain =
            uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/") && uri.query().is_none();
        let authority = uri.authority()?.clone();
        let port = authority.port_u16().is_some_and(|port| port != 0);
        (plain && port && !authority.as_str().contains('@')).then_some(authority)
    })
}

/// Refuses an application that is the gateway itself: each request would come back as another one.
pub(super) fn not_itself(check: &mut Check, upstream: &Authority, listen: SocketAddr, origins: &[Origin]) {
    let (host, port) = (upstream.host().trim_end_matches('.').to_ascii_lowercase(), upstream.port_u16());
    let own = listen.ip();
    let here = port == Some(listen.port())
        && match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) => {
                let (address, own) = (address.to_canonical(), own.to_canonical());
                // An address that means all, as one to connect to, means this machine.
                let this = address.is_loopback() || address.is_unspecified();
                address == own
                    || (this && own.is_unspecified())
                    || (address.is_unspecified() && own.is_loopback())
            }
            Err(_) => {
                let this = host == "localhost" || host.ends_with(".localhost");
                this && (own.is_loopback() || own.is_unspecified())
            }
        };
    let site = origins
        .iter()
        .any(|origin| !origin.is_https() && origin.host() == host && Some(origin.port()) == port);
    if here || site {
        let expected = "the application's address: this one is the gateway's own, and each request would come back to it";
        check.problem("upstream", format!("http://{upstream}"), expected);
    }
}

/// Whether whoever reaches an address must be on this machine or a private network.
pub(super) fn is_private(host: &str) -> bool {
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_private(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unique_local(),
        Err(_) => host == "localhost",
    }
}

/// Whether a text is a path of this site: for redirects, so never `//host` or anything with a scheme.
fn is_own_path(text: &str) -> bool {
    text.starts_with('/')
        && !text.starts_with("//")
        && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'?' | b'#' | b'%'))
}

/// Refuses a login page that nobody could log in on. `needed` says whether anybody is ever sent there.
pub(super) fn login_page(check: &mut Check, page: &str, routes: Option<&Routes>, needed: bool) {
    const KEY: &str = "login_page";
    if !is_own_path(page) {
        check.problem(KEY, page, "a path of the application, such as /login");
        return;
    }
    let Some(routes) = routes else { return };
    let Some((path, route)) =
        page.parse::<Uri>().ok().and_then(|uri| routes.resolve(&Method::GET, &uri).ok())
    else {
        check.problem(KEY, page, "a path in its normal form, such as /login");
        return;
    };
    if is_own(&path) {
        check.problem(KEY, page, "a page of the application, not one of the gateway's own");
    } else if !needed {
        // Nobody is sent there.
    } else if route.require != Require::Anyone {
        let expected = format!(
            "a page that needs no login: the routes require one there (case aside), so browsers would be sent to it for ever; add a \
             [[route]] with path = \"={page}\", or name another page"
        );
        check.problem(KEY, page, expected);
    } else if route.session == SessionUse::None {
        let expected = format!(
            "a page with a session: nobody can log in under route {}, which has session = \"none\"; add a [[route]] with path = \
             \"={page}\", or name another page",
            route.pattern
        );
        check.problem(KEY, page, expected);
    }
}

/// The origins under which browsers know the site.
pub(super) fn origins(
    check: &mut Check,
    origin: Option<&str>,
    listen: Option<SocketAddr>,
    https: bool,
) -> Vec<Origin> {
    let expected = "scheme, host and port as browsers show them, such as https://example.org";
    if let Some(text) = origin {
        let read = check.read("origin", text, expected, |text| Origin::parse(text).ok());
        match &read {
            Some(origin) if https && !origin.is_https() => {
                check.problem(
                    "origin",
                    text,
                    "https:// in front, because browsers use https here (tls, tls_terminated_by_proxy)",
                );
            }
            Some(origin) if !https && origin.is_https() => {
                let expected = "tls.cert and tls.key beside it, or tls_terminated_by_proxy = true, because browsers use plain http here";
                check.problem("origin", text, expected);
            }
            _ => {}
        }
        return read.into_iter().collect();
    }
    let Some(listen) = listen else { return Vec::new() };
    if !listen.ip().is_loopback() || https {
        check.problem("origin", "", expected);
        return Vec::new();
    }
    loopback_origins(listen)
}

/// Under which origins browsers know a gateway on loopback.
pub(super) fn loopback_origins(listen: SocketAddr) -> Vec<Origin> {
    let names = ["127.0.0.1", "localhost", "[::1]"];
    names.iter().filter_map(|name| Origin::parse(&format!("http://{name}:{}", listen.port())).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Raw};

    fn said(text: &str) -> String {
        let raw = Raw::parse(&format!("store = \"memory\"\n{text}")).unwrap();
        Config::check(raw).err().map(|errors| errors.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_login_page_that_nobody_could_log_in_on_is_refused_whatever_the_case() {
        let route = |path: &str, what: &str| format!("[[route]]\npath = \"{path}\"\n{what}\n");
        let (required, none) = ("require = \"authenticated\"", "session = \"none\"");
        for (page, routes, refused) in [
            ("/login", route("/", required), true),
            ("/login", route("/login", "require = \"recent\""), true),
            ("/login", route("=/login", required), true),
            ("/login", route("/LOGIN", required), true),
            ("/account/Login", route("/Account", required), true),
            ("/login", route("/login", none) + &route("/a", required), true),
            ("/login", route("/", none) + &route("/a", required), true),
            ("/.cloakroom/sessions", String::new(), true),
            ("/x/../login", route("/login", required), true),
            ("/login", route("/", required) + &route("=/login", ""), false),
            ("/login", route("/log", required) + &route("/logins", none), false),
            ("/login", route("/", none), false),
            ("/login", route("/a", required), false),
        ] {
            let said = said(&format!("upstream = \"http://127.0.0.1:1\"\nlogin_page = \"{page}\"\n{routes}"));
            assert_eq!(said.contains("\n  login_page = "), refused, "{page} {routes}: {said}");
            assert_eq!(said.lines().count(), if refused { 2 } else { 0 }, "{said}");
        }
    }

    #[test]
    fn an_application_that_is_the_gateway_itself_is_refused() {
        let proxy = "tls_terminated_by_proxy = true\ntrusted_proxies = [\"10.0.0.1\"]\norigin = \"https://example.org\"\n";
        let plain = "insecure_plain_http = \"a test\"\norigin = \"http://nas.lan:8080\"\n";
        for (listen, upstream, more, refused) in [
            ("127.0.0.1:8080", "127.0.0.1:8080", "", true),
            ("127.0.0.1:8080", "localhost:8080", "", true),
            ("127.0.0.1:8080", "LocalHost.:8080", "", true),
            ("127.0.0.1:8080", "app.localhost:8080", "", true),
            ("127.0.0.1:8080", "0.0.0.0:8080", "", true),
            ("[::1]:8080", "[::1]:8080", "", true),
            ("[::1]:8080", "localhost:8080", "", true),
            ("127.0.0.1:8080", "[::ffff:127.0.0.1]:8080", "", true),
            ("0.0.0.0:8080", "127.0.0.2:8080", proxy, true),
            ("0.0.0.0:8080", "localhost:8080", proxy, true),
            ("[::]:8080", "127.0.0.1:8080", proxy, true),
            ("10.0.0.7:8080", "10.0.0.7:8080", proxy, true),
            ("0.0.0.0:8080", "nas.lan:8080", plain, true),
            ("127.0.0.1:8080", "127.0.0.1:8081", "", false),
            ("127.0.0.1:8080", "127.0.0.2:8080", "", false),
            ("0.0.0.0:8080", "10.0.0.8:8080", proxy, false),
            ("10.0.0.7:8080", "127.0.0.1:8080", proxy, false),
            ("0.0.0.0:8080", "example.org:80", proxy, false),
        ] {
            let said = said(&format!("listen = \"{listen}\"\nupstream = \"http://{upstream}\"\n{more}"));
            assert_eq!(said.contains("\n  upstream = "), refused, "{listen} {upstream}: {said}");
            assert_eq!(said.lines().count(), if refused { 2 } else { 0 }, "{said}");
        }
        assert!(said("upstream = \"http://127.0.0.1:0\"").contains("upstream = "));
    }

    #[test]
    fn r035_the_scheme_of_the_origin_is_the_one_that_browsers_use() {
        let tls = "[tls]\ncert = \"c\"\nkey = \"k\"\n";
        let proxy = "tls_terminated_by_proxy = true\ntrusted_proxies = [\"10.0.0.1\"]\n";
        for (origin, more, wrong) in [
            ("https://example.org", "", &["origin = \"https://example.org\""][..]),
            (
                "https://example.org",
                "insecure_plain_http = \"a test\"\n",
                &["origin = \"https://example.org\""],
            ),
            ("http://example.org", tls, &["origin = \"http://example.org\""]),
            ("http://example.org", proxy, &["origin = \"http://example.org\""]),
            ("https://example.org", "tls_terminated_by_proxy = true\n", &["trusted_proxies = \"\""]),
            ("https://example.org", tls, &[]),
            ("https://example.org", proxy, &[]),
            ("http://127.0.0.1:8080", "", &[]),
        ] {
            let said = said(&format!("upstream = \"http://127.0.0.1:1\"\norigin = \"{origin}\"\n{more}"));
            assert!(wrong.iter().all(|key| said.contains(key)), "{origin} {more}: {said}");
            assert_eq!(said.lines().count(), if wrong.is_empty() { 0 } else { 1 + wrong.len() }, "{said}");
        }
    }
}
