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
        Self { browser: browser(text), system: system(text), network: address.map(Network::from) }
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

fn has(text: &[u8], word: &str) -> bool {
    text.windows(word.len()).any(|window| window == word.as_bytes())
}

// Order matters: nearly every browser also names the ones it wants to be taken for.
fn browser(text: &[u8]) -> Browser {
    const FAMILIES: [(&str, Browser); 13] = [
        ("Edg/", Browser::Edge),
        ("EdgA/", Browser::Edge),
        ("EdgiOS/", Browser::Edge),
        ("OPR/", Browser::Opera),
        ("OPT/", Browser::Opera),
        ("SamsungBrowser/", Browser::SamsungInternet),
        ("FxiOS/", Browser::Firefox),
        ("Firefox/", Browser::Firefox),
        ("CriOS/", Browser::Chrome),
        ("Chrome/", Browser::Chrome),
        ("Chromium/", Browser::Chrome),
        ("Safari/", Browser::Safari),
        ("curl/", Browser::Curl),
    ];
    if text.is_empty() {
        return Browser::Unknown;
    }
    FAMILIES.iter().find(|(word, _)| has(text, word)).map_or(Browser::Other, |&(_, family)| family)
}

fn system(text: &[u8]) -> System {
    const SYSTEMS: [(&str, System); 8] = [
        ("Android", System::Android),
        ("iPhone", System::Ios),
        ("iPad", System::Ios),
        ("CrOS", System::ChromeOs),
        ("Windows", System::Windows),
        ("Macintosh", System::MacOs),
        ("Mac OS X", System::MacOs),
        ("Linux", System::Linux),
    ];
    SYSTEMS.iter().find(|(word, _)| has(text, word)).map_or(System::Unknown, |&(_, system)| system)
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
