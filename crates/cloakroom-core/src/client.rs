//! What is remembered of a client: a label and a network prefix. Display and roaming, never proof.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// The network a client came from: an IPv4 /24 or an IPv6 /48. The rest of the address is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Network {
    /// The first three bytes of an IPv4 address.
    V4([u8; 3]),
    /// The first six bytes of an IPv6 address.
    V6([u8; 6]),
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, ..] = v6.octets();
                Self::V6([a, b, c, d, e, f])
            }
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::V4([a, b, c]) => write!(out, "{}/24", Ipv4Addr::new(a, b, c, 0)),
            Self::V6([a, b, c, d, e, f]) => {
                let address = Ipv6Addr::from([a, b, c, d, e, f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                write!(out, "{address}/48")
            }
        }
    }
}

/// A browser family, as far as a user-agent string tells. Versions are ignored on purpose: an update of
/// the browser must not look like another client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each variant is the product it names")]
pub enum Browser {
    #[default]
    Unknown,
    Firefox,
    Chrome,
    Edge,
    Opera,
    Safari,
    SamsungInternet,
    Curl,
    Other,
}

/// An operating system, as far as a user-agent string tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each variant is the product it names")]
pub enum System {
    #[default]
    Unknown,
    Windows,
    MacOs,
    Linux,
    Android,
    Ios,
    ChromeOs,
}

/// A client as a session remembers it, in the clear, for its owner's sessions page and for telling a
/// client that looks like another one.
///
/// Nothing here proves anything: all of it can be copied by a thief.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Client {
    /// The browser's family.
    pub browser: Browser,
    /// The operating system.
    pub system: System,
    /// The network prefix, where a trustworthy address was at hand.
    pub network: Option<Network>,
}

impl Client {
    /// Recognises a client by its `User-Agent` field and, if there is a trustworthy one, its address.
    ///
    /// Only the first 512 bytes of the field are looked at.
    pub fn recognise(user_agent: &[u8], address: Option<IpAddr>) -> Self {
        let text = user_agent.get(..512).unwrap_or(user_agent);
        let (browser, system) = families(text);
        Self { browser, system, network: address.map(Network::from) }
    }

    /// Whether `other` may be the same client: the same families, and the same network unless one of the
    /// two has none to compare.
    pub fn looks_like(&self, other: &Self) -> bool {
        let same_network = match (self.network, other.network) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        self.browser == other.browser && self.system == other.system && same_network
    }

    /// Four bytes that tell one client from another well enough to count strangers.
    pub(crate) fn mark(&self) -> u32 {
        let mut hash = 0x811c_9dc5_u32;
        let mut mix = |byte: u8| hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        mix(self.browser as u8);
        mix(self.system as u8);
        match self.network {
            None => {}
            Some(Network::V4(bytes)) => bytes.into_iter().for_each(mix),
            Some(Network::V6(bytes)) => bytes.into_iter().for_each(mix),
        }
        hash
    }
}

impl fmt::Display for Client {
    /// For people: `Firefox on Linux`, `Safari`, `unknown client`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let browser = match self.browser {
            Browser::Unknown => "unknown client",
            Browser::Firefox => "Firefox",
            Browser::Chrome => "Chrome",
            Browser::Edge => "Edge",
            Browser::Opera => "Opera",
            Browser::Safari => "Safari",
            Browser::SamsungInternet => "Samsung Internet",
            Browser::Curl => "curl",
            Browser::Other => "other client",
        };
        let system = match self.system {
            System::Unknown => return out.write_str(browser),
            System::Windows => "Windows",
            System::MacOs => "macOS",
            System::Linux => "Linux",
            System::Android => "Android",
            System::Ios => "iOS",
            System::ChromeOs => "ChromeOS",
        };
        write!(out, "{browser} on {system}")
    }
}

// Order matters: nearly every browser also names the ones it wants to be taken for.
const BROWSERS: [(&[u8], Browser); 13] = [
    (b"Edg/", Browser::Edge),
    (b"EdgA/", Browser::Edge),
    (b"EdgiOS/", Browser::Edge),
    (b"OPR/", Browser::Opera),
    (b"OPT/", Browser::Opera),
    (b"SamsungBrowser/", Browser::SamsungInternet),
    (b"FxiOS/", Browser::Firefox),
    (b"Firefox/", Browser::Firefox),
    (b"CriOS/", Browser::Chrome),
    (b"Chrome/", Browser::Chrome),
    (b"Chromium/", Browser::Chrome),
    (b"Safari/", Browser::Safari),
    (b"curl/", Browser::Curl),
];

const SYSTEMS: [(&[u8], System); 8] = [
    (b"Android", System::Android),
    (b"iPhone", System::Ios),
    (b"iPad", System::Ios),
    (b"CrOS", System::ChromeOs),
    (b"Windows", System::Windows),
    (b"Macintosh", System::MacOs),
    (b"Mac OS X", System::MacOs),
    (b"Linux", System::Linux),
];

/// The places in [`BROWSERS`] of the words with this letter before the slash.
const fn browsers_on(last: u8) -> &'static [usize] {
    match last {
        b'g' => &[0],
        b'A' => &[1],
        b'S' => &[2, 6, 8],
        b'R' => &[3],
        b'T' => &[4],
        b'r' => &[5],
        b'x' => &[7],
        b'e' => &[9],
        b'm' => &[10],
        b'i' => &[11],
        b'l' => &[12],
        _ => &[],
    }
}

/// The places in [`SYSTEMS`] of the words with this first letter.
const fn systems_from(first: u8) -> &'static [usize] {
    match first {
        b'A' => &[0],
        b'i' => &[1, 2],
        b'C' => &[3],
        b'W' => &[4],
        b'M' => &[5, 6],
        b'L' => &[7],
        _ => &[],
    }
}

/// The first browser and the first system of the lists whose word is anywhere in the text. In one pass, because every request
/// that asks for its session comes by here: a browser's word ends where a slash is, a system's begins with one of a few letters.
fn families(text: &[u8]) -> (Browser, System) {
    let (mut browser, mut system) = (BROWSERS.len(), SYSTEMS.len());
    let marked = |byte: &u8| matches!(byte, b'/' | b'A' | b'C' | b'L' | b'M' | b'W' | b'i');
    let mut at = 0;
    while let Some(rest) = text.get(at..) {
        let Some(skip) = rest.iter().position(marked) else { break };
        at += skip + 1;
        let (before, rest) = (text.get(..at).unwrap_or_default(), rest.get(skip..).unwrap_or_default());
        if let [.., last, b'/'] = before {
            let fits = |rank: &usize| BROWSERS.get(*rank).is_some_and(|(word, _)| before.ends_with(word));
            browser = browsers_on(*last).iter().copied().find(fits).map_or(browser, |rank| browser.min(rank));
        } else if let [first, ..] = rest {
            let fits = |rank: &usize| SYSTEMS.get(*rank).is_some_and(|(word, _)| rest.starts_with(word));
            system = systems_from(*first).iter().copied().find(fits).map_or(system, |rank| system.min(rank));
        }
    }
    let unnamed = if text.is_empty() { Browser::Unknown } else { Browser::Other };
    (
        BROWSERS.get(browser).map_or(unnamed, |&(_, found)| found),
        SYSTEMS.get(system).map_or(System::Unknown, |&(_, found)| found),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(agent: &str, address: &str) -> Client {
        Client::recognise(agent.as_bytes(), address.parse().ok())
    }

    #[test]
    fn common_browsers_are_recognised_by_family_and_system() {
        let table = [
            ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
                "Chrome on Windows",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15",
                "Safari on macOS",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/140.0 Mobile/15E148 Safari/604.1",
                "Chrome on iOS",
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36",
                "Samsung Internet on Android",
            ),
            ("curl/8.5.0", "curl"),
            ("something else", "other client"),
            ("", "unknown client"),
        ];
        for (agent, label) in table {
            assert_eq!(client(agent, "").to_string(), label, "{agent}");
        }
    }

    #[test]
    fn one_pass_finds_what_a_search_for_each_word_would() {
        use proptest::prelude::*;
        let words = BROWSERS.iter().map(|(word, _)| *word).chain(SYSTEMS.iter().map(|(word, _)| *word));
        let words = words
            .chain([&b" "[..], b"/", b"A", b"Mac", b"i", b"Chrom", b"", b"xFirefox"])
            .collect::<Vec<_>>();
        let texts = prop::collection::vec(prop::sample::select(words), 0..8).prop_map(|words| words.concat());
        proptest!(|(text in texts)| {
            let has = |word: &[u8]| text.windows(word.len()).any(|window| window == word);
            let browser = BROWSERS.iter().find(|(word, _)| has(word)).map_or(Browser::Other, |&(_, found)| found);
            let browser = if text.is_empty() { Browser::Unknown } else { browser };
            let system = SYSTEMS.iter().find(|(word, _)| has(word)).map_or(System::Unknown, |&(_, found)| found);
            prop_assert_eq!(families(&text), (browser, system));
        });
    }

    #[test]
    fn an_update_of_the_browser_looks_like_the_same_client() {
        let before = client("X11; Linux Firefox/139.0", "203.0.113.9");
        let after = client("X11; Linux Firefox/140.0", "203.0.113.200");
        assert!(before.looks_like(&after));
    }

    #[test]
    fn another_network_or_family_looks_like_another_client() {
        let home = client("X11; Linux Firefox/139.0", "203.0.113.9");
        assert!(!home.looks_like(&client("X11; Linux Firefox/139.0", "203.0.114.9")));
        assert!(!home.looks_like(&client("X11; Linux Chrome/139.0", "203.0.113.9")));
        assert!(!home.looks_like(&client("X11; Linux Firefox/139.0", "2001:db8::1")));
        assert!(home.looks_like(&client("X11; Linux Firefox/139.0", "no address")));
        assert!(home.looks_like(&client("X11; Linux Firefox/139.0", "::ffff:203.0.113.77")));
    }

    #[test]
    fn only_the_network_prefix_of_an_address_is_kept() {
        assert_eq!(Network::from("203.0.113.9".parse::<IpAddr>().unwrap()).to_string(), "203.0.113.0/24");
        let v6 = "2001:db8:7:8:9::1".parse::<IpAddr>().unwrap();
        assert_eq!(Network::from(v6).to_string(), "2001:db8:7::/48");
    }
}
