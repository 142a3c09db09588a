//! Where a request came from: what is believed of it, and what the upstream is told.
//!
//! Only `X-Forwarded-For` is read, and only from a peer on the list of trusted proxies. A client can send it too; a trusted
//! proxy must therefore append the address of its own peer to it, or replace it, as all common ones do. `Forwarded` (RFC 7239)
//! and `X-Real-IP` are not read: a proxy that does not know them passes on what the client wrote.

use std::net::IpAddr;

use cloakroom::core::policy::{ConfigErrors, Problem};
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::headers::{folded, remove_if};

/// The setting that [`TrustedProxies::parse`] reports problems of.
const KEY: &str = "trusted_proxies";
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A network: those addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    fn parse(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "an address (192.0.2.1) or a network (192.0.2.0/24, 2001:db8::/32)";
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| EXPECTED.to_owned())?;
        if address != address.to_canonical() {
            return Err(format!("the IPv4 address itself, {}", address.to_canonical()));
        }
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= width).ok_or(EXPECTED)?
            }
            Some(_) => return Err(EXPECTED.to_owned()),
        };
        if bits == 0 {
            return Err("not all addresses there are: any client could choose its own then".to_owned());
        }
        let first = first_of(address, bits);
        if first != address {
            return Err(format!("the first address of the network, {first}/{bits}"));
        }
        Ok(Self { address, bits })
    }

    fn contains(&self, address: IpAddr) -> bool {
        // Of two families, never equal.
        first_of(address, self.bits) == self.address
    }
}

/// An address with all bits behind the first `bits` cleared.
fn first_of(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// The proxies that are believed what they say of a client. Default: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Network>);

impl TrustedProxies {
    /// Reads addresses and networks.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with every entry that is none.
    pub fn parse<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> Result<Self, ConfigErrors> {
        let mut problems = Vec::new();
        let mut networks = Vec::new();
        for entry in entries {
            match Network::parse(entry.as_ref()) {
                Ok(network) => networks.push(network),
                Err(expected) => problems.push(Problem::new(KEY, entry.as_ref(), &expected)),
            }
        }
        ConfigErrors::unless_empty(problems)?;
        Ok(Self(networks))
    }

    /// Whether an address is one of them. An IPv4 address mapped into IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(address))
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The client's address: the peer's, or, if that is a trusted proxy, the one it has written; and so on from right to left
/// through `X-Forwarded-For` for as long as the one who has written it is trusted.
///
/// What is malformed ends the walk at the proxy that passed it on. Look before
/// [`strip_request`](crate::headers::strip_request).
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &TrustedProxies) -> IpAddr {
    let mut client = peer.to_canonical();
    let lines: Vec<&[u8]> = headers.get_all(X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
    for element in lines.into_iter().rev().flat_map(|line| line.rsplit(|&b| b == b',')) {
        if !trusted.contains(client) {
            break;
        }
        let Some(address) = std::str::from_utf8(element).ok().and_then(|text| address(text.trim())) else {
            break;
        };
        client = address;
    }
    client
}

/// An address as proxies write it: alone, in brackets, or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let address = match text.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => IpAddr::V6(inner.parse().ok()?),
            None => text.parse::<std::net::SocketAddr>().ok()?.ip(),
        },
    };
    Some(address.to_canonical())
}

/// What a client used to reach the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proto {
    /// Plain http.
    Http,
    /// TLS.
    Https,
}

impl Proto {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Tells the upstream where a request came from: `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host` and
/// `Forwarded`, each with one element. Whatever of the kind the request had is removed first, in every spelling, also from a
/// trusted proxy: the walk is done, and an upstream that counts elements cannot be led astray.
///
/// `host` is the authority that [`check_request`](crate::headers::check_request) has returned; one that is not fit for a
/// field is left out.
pub fn set(headers: &mut HeaderMap, client: IpAddr, proto: Proto, host: &str) {
    const REMOVED: [&str; 6] =
        ["forwarded", "x-forwarded", "x-real-ip", "x-client-ip", "client-ip", "x-cluster-client-ip"];
    remove_if(headers, |name| {
        let name = folded(name);
        name.starts_with("x-forwarded-") || REMOVED.iter().any(|removed| name.is(removed))
    });
    let client = client.to_canonical();
    let address = client.to_string();
    let mut forwarded = String::with_capacity(address.len() + host.len() + 40);
    // RFC 7239 section 6: an IPv6 address is in brackets and so must be quoted.
    let (before, after) = if client.is_ipv4() { ("for=", "") } else { ("for=\"[", "]\"") };
    forwarded.extend([before, &address, after]);
    let mut put = |name: HeaderName, value: Result<HeaderValue, _>| {
        if let Ok(value) = value {
            headers.insert(name, value);
        }
    };
    put(X_FORWARDED_FOR, HeaderValue::try_from(address));
    put(X_FORWARDED_PROTO, Ok(HeaderValue::from_static(proto.as_str())));
    if crate::headers::is_authority(host) {
        put(X_FORWARDED_HOST, HeaderValue::from_str(host));
        forwarded.extend([";host=\"", host, "\""]);
    }
    forwarded.extend([";proto=", proto.as_str()]);
    put(http::header::FORWARDED, HeaderValue::try_from(forwarded));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        headers
    }

    #[test]
    fn r106_only_addresses_and_networks_are_proxies() {
        for good in [
            "192.0.2.1",
            "192.0.2.0/24",
            "10.0.0.0/8",
            "192.0.2.1/32",
            "::1",
            "2001:db8::/32",
            "fd00::/8",
            "128.0.0.0/1",
        ] {
            assert!(TrustedProxies::parse([good]).is_ok(), "{good}");
        }
        let bad = [
            "",
            "*",
            "all",
            "localhost",
            "192.0.2",
            "192.0.2.1/",
            "192.0.2.0/33",
            "192.0.2.0/-1",
            "192.0.2.0/+8",
            "192.0.2.0/024x",
            "192.0.2.1/24",
            "0.0.0.0/0",
            "::/0",
            "2001:db8::/129",
            "2001:db8::1/32",
            "[::1]",
            "::ffff:192.0.2.1",
            "::ffff:0:0/96",
            "192.0.2.1:80",
            " 192.0.2.1",
            "192.0.2.0/24/24",
        ];
        let errors = TrustedProxies::parse(bad).unwrap_err();
        let values: Vec<_> = errors.problems().iter().map(|problem| problem.value.as_str()).collect();
        assert_eq!(values, bad);
        assert!(errors.problems().iter().all(|problem| problem.key == "trusted_proxies"));
        assert!(errors.to_string().contains("192.0.2.0/24"), "{errors}");
    }

    #[test]
    fn r106_a_network_holds_its_own_addresses_only() {
        let trusted =
            TrustedProxies::parse(["10.1.0.0/16", "192.0.2.7", "2001:db8::/33", "128.0.0.0/1"]).unwrap();
        for inside in [
            "10.1.0.0",
            "10.1.255.255",
            "192.0.2.7",
            "::ffff:10.1.2.3",
            "2001:db8::1",
            "128.0.0.1",
            "255.255.255.255",
        ] {
            assert!(trusted.contains(ip(inside)), "{inside}");
        }
        for outside in [
            "10.0.255.255",
            "10.2.0.0",
            "127.255.255.255",
            "2001:db8:8000::",
            "2001:db9::",
            "::10.1.2.3",
            "::1",
        ] {
            assert!(!trusted.contains(ip(outside)), "{outside}");
        }
        assert!(!TrustedProxies::default().contains(ip("127.0.0.1")));
    }

    #[test]
    fn r106_a_client_cannot_choose_its_address() {
        type Fields = &'static [(&'static str, &'static str)];
        // 198.51.100.9 is the client's own, 10.0.0.0/8 and ::1 are proxies.
        let table: [(&str, Fields, &str); 26] = [
            ("198.51.100.9", &[], "198.51.100.9"),
            ("198.51.100.9", &[("x-forwarded-for", "1.1.1.1")], "198.51.100.9"),
            ("198.51.100.9", &[("forwarded", "for=1.1.1.1"), ("x-real-ip", "1.1.1.1")], "198.51.100.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[("x-forwarded-for", "198.51.100.9")], "198.51.100.9"),
            ("10.0.0.1", &[("x-forwarded-for", "1.1.1.1, 198.51.100.9")], "198.51.100.9"),
            ("10.0.0.1", &[("x-forwarded-for", "10.0.0.7, 198.51.100.9")], "198.51.100.9"),
            ("10.0.0.1", &[("x-forwarded-for", "1.1.1.1, 198.51.100.9, 10.0.0.2")], "198.51.100.9"),
            (
                "10.0.0.1",
                &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "198.51.100.9")],
                "198.51.100.9",
            ),
            (
                "10.0.0.1",
                &[("x-forwarded-for", "198.51.100.9"), ("x-forwarded-for", "10.0.0.2")],
                "198.51.100.9",
            ),
            ("10.0.0.1", &[("x-forwarded-for", "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
            ("::1", &[("x-forwarded-for", "198.51.100.9")], "198.51.100.9"),
            ("::ffff:10.0.0.1", &[("x-forwarded-for", "::ffff:198.51.100.9")], "198.51.100.9"),
            ("10.0.0.1", &[("x-forwarded-for", "2001:db8::9")], "2001:db8::9"),
            ("10.0.0.1", &[("x-forwarded-for", "[2001:db8::9]")], "2001:db8::9"),
            ("10.0.0.1", &[("x-forwarded-for", "[2001:db8::9]:4711")], "2001:db8::9"),
            ("10.0.0.1", &[("x-forwarded-for", "198.51.100.9:4711")], "198.51.100.9"),
            ("10.0.0.1", &[("x-forwarded-for", "1.1.1.1, unknown")], "10.0.0.1"),
            ("10.0.0.1", &[("x-forwarded-for", "1.1.1.1, unknown, 10.0.0.2")], "10.0.0.2"),
            ("10.0.0.1", &[("x-forwarded-for", "1.1.1.1, , 10.0.0.2")], "10.0.0.2"),
            ("10.0.0.1", &[("x-forwarded-for", "1.1.1.1,")], "10.0.0.1"),
            ("10.0.0.1", &[("x-forwarded-for", "")], "10.0.0.1"),
            ("10.0.0.1", &[("x-forwarded-for", "1.1.1.1, 198.51.100.9\u{e9}")], "10.0.0.1"),
            ("10.0.0.1", &[("x-forwarded-for", "1.1.1.1, 010.0.0.2")], "10.0.0.1"),
            ("10.0.0.1", &[("x_forwarded_for", "1.1.1.1"), ("x-forwarded.for", "1.1.1.1")], "10.0.0.1"),
            ("10.0.0.1", &[("forwarded", "for=1.1.1.1"), ("x-real-ip", "1.1.1.1")], "10.0.0.1"),
        ];
        let trusted = TrustedProxies::parse(["10.0.0.0/8", "::1"]).unwrap();
        for (peer, fields, expected) in table {
            assert_eq!(client_address(ip(peer), &map(fields), &trusted), ip(expected), "{peer} {fields:?}");
        }
        let nobody = TrustedProxies::default();
        let headers = map(&[("x-forwarded-for", "1.1.1.1")]);
        assert_eq!(client_address(ip("127.0.0.1"), &headers, &nobody), ip("127.0.0.1"));
    }

    fn told(fields: &[(&str, &str)], client: &str, host: &str) -> Vec<String> {
        let mut headers = map(fields);
        set(&mut headers, ip(client), Proto::Https, host);
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn r106_the_upstream_is_told_nothing_that_the_client_has_written() {
        let spoofed = [
            ("X-Forwarded-For", "1.1.1.1"),
            ("x_forwarded_for", "1.1.1.1"),
            ("X-Forwarded.For", "1.1.1.1"),
            ("X-Forwarded-Host", "evil.test"),
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Port", "1"),
            ("X-Forwarded-Prefix", "/evil"),
            ("X-Forwarded-Server", "evil.test"),
            ("Forwarded", "for=1.1.1.1"),
            ("X-Real-IP", "1.1.1.1"),
            ("X_Real_IP", "1.1.1.1"),
            ("X-Client-IP", "1.1.1.1"),
            ("Client-IP", "1.1.1.1"),
            ("X-Cluster-Client-IP", "1.1.1.1"),
        ];
        let expected = [
            "x-forwarded-for: 198.51.100.9",
            "x-forwarded-proto: https",
            "x-forwarded-host: example.org:8443",
            "forwarded: for=198.51.100.9;host=\"example.org:8443\";proto=https",
        ];
        assert_eq!(told(&spoofed, "198.51.100.9", "example.org:8443"), expected);
        assert_eq!(told(&[], "::ffff:198.51.100.9", "example.org:8443"), expected);
    }

    #[test]
    fn an_ipv6_address_is_in_brackets_where_rfc_7239_wants_them() {
        let told = told(&[], "2001:db8::9", "[2001:db8::1]");
        assert_eq!(told[0], "x-forwarded-for: 2001:db8::9");
        assert_eq!(told[3], "forwarded: for=\"[2001:db8::9]\";host=\"[2001:db8::1]\";proto=https");
    }

    #[test]
    fn a_host_that_could_break_out_of_its_field_is_left_out() {
        for host in ["a\";for=1.1.1.1;x=\"", "a\\", "", "a b", "a\r\nX: y"] {
            let told = told(&[], "198.51.100.9", host);
            assert_eq!(told.last().unwrap(), "forwarded: for=198.51.100.9;proto=https");
            assert_eq!(told.len(), 3);
        }
    }
}
