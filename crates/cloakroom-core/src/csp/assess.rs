//! What is weak in a policy that somebody else wrote.

use std::fmt;

use super::source::{List, Policy, Source};

/// Scripts in elements, and `javascript:` addresses (CSP3 section 6.8.3).
const ELEMENTS: [&str; 3] = ["script-src-elem", "script-src", "default-src"];
/// Scripts in attributes.
const HANDLERS: [&str; 3] = ["script-src-attr", "script-src", "default-src"];
/// Text that becomes code.
const EVAL: [&str; 2] = ["script-src", "default-src"];
const STYLES: [&str; 3] = ["style-src-elem", "style-src", "default-src"];
const PLUGINS: [&str; 2] = ["object-src", "default-src"];

/// One way that a response's policies leave open and a strict policy closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Weakness {
    /// Nothing limits script elements.
    ScriptsUnrestricted,
    /// Injected script elements and `javascript:` addresses run: `'unsafe-inline'` that nothing neutralises.
    InlineScripts,
    /// Injected event handlers run.
    InlineHandlers,
    /// Text that reaches `eval` and the like runs.
    UnsafeEval,
    /// Event handlers that the page allows by hash run wherever they are injected.
    UnsafeHashes,
    /// Scripts load from every host, or every host of a scheme.
    ScriptAnySource,
    /// Scripts load from `data:`, `blob:` or `filesystem:`.
    ScriptData,
    /// Scripts load from listed hosts: one of them with a file to upload, an old library or a callback parameter is
    /// enough.
    ScriptHosts,
    /// Scripts load from the whole own origin, thus from whatever users can put there.
    ScriptSelf,
    /// A nonce has less than 128 bits, so it can be guessed or is not made for the purpose (CSP3 section 7.1).
    ShortNonce,
    /// Plugins load: `object-src` is not `'none'`.
    Plugins,
    /// Injected markup can change where the page's relative addresses lead: `base-uri` is not `'none'`.
    BaseUri,
    /// Injected forms can send what users type to anywhere.
    FormAction,
    /// Other sites can put the page into a frame.
    FrameAncestors,
    /// Injected style elements apply, and can read parts of the page by selectors.
    InlineStyles,
    /// Styles load from every host, or from made-up addresses.
    StyleAnySource,
    /// Scripts may hand plain text to the browser's dangerous functions: Trusted Types are not required.
    TrustedTypes,
    /// Trusted Types are required, but everybody may make a policy for them.
    TrustedTypesNames,
}

impl Weakness {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::ScriptsUnrestricted,
        Self::InlineScripts,
        Self::InlineHandlers,
        Self::UnsafeEval,
        Self::UnsafeHashes,
        Self::ScriptAnySource,
        Self::ScriptData,
        Self::ScriptHosts,
        Self::ScriptSelf,
        Self::ShortNonce,
        Self::Plugins,
        Self::BaseUri,
        Self::FormAction,
        Self::FrameAncestors,
        Self::InlineStyles,
        Self::StyleAnySource,
        Self::TrustedTypes,
        Self::TrustedTypesNames,
    ];

    /// A stable name, for configurations and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScriptsUnrestricted => "scripts-unrestricted",
            Self::InlineScripts => "inline-scripts",
            Self::InlineHandlers => "inline-handlers",
            Self::UnsafeEval => "unsafe-eval",
            Self::UnsafeHashes => "unsafe-hashes",
            Self::ScriptAnySource => "script-any-source",
            Self::ScriptData => "script-data",
            Self::ScriptHosts => "script-hosts",
            Self::ScriptSelf => "script-self",
            Self::ShortNonce => "short-nonce",
            Self::Plugins => "plugins",
            Self::BaseUri => "base-uri",
            Self::FormAction => "form-action",
            Self::FrameAncestors => "frame-ancestors",
            Self::InlineStyles => "inline-styles",
            Self::StyleAnySource => "style-any-source",
            Self::TrustedTypes => "trusted-types",
            Self::TrustedTypesNames => "trusted-types-names",
        }
    }

    /// The weakness of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|weakness| weakness.name() == name)
    }

    /// The directive that closes it.
    pub const fn directive(self) -> &'static str {
        match self {
            Self::Plugins => "object-src",
            Self::BaseUri => "base-uri",
            Self::FormAction => "form-action",
            Self::FrameAncestors => "frame-ancestors",
            Self::InlineStyles | Self::StyleAnySource => "style-src",
            Self::TrustedTypes => "require-trusted-types-for",
            Self::TrustedTypesNames => "trusted-types",
            _ => "script-src",
        }
    }

    /// What a policy without it has.
    pub const fn expected(self) -> &'static str {
        match self {
            Self::ScriptsUnrestricted => "script-src with a nonce: nothing limits scripts (CSP3 section 8.2)",
            Self::InlineScripts => {
                "no 'unsafe-inline' without a nonce: injected scripts run (CSP3 section 6.7.3.2)"
            }
            Self::InlineHandlers => {
                "no 'unsafe-inline' without a nonce: injected handlers run (CSP3 section 6.7.3.2)"
            }
            Self::UnsafeEval => "no 'unsafe-eval': text becomes code (CSP3 section 4.4)",
            Self::UnsafeHashes => {
                "no 'unsafe-hashes': hashed handlers run wherever they are injected (CSP3 section 8.3)"
            }
            Self::ScriptAnySource => "no wildcard and no scheme: scripts load from any host",
            Self::ScriptData => {
                "no data:, blob: or filesystem: for scripts: whoever writes the address makes up the script"
            }
            Self::ScriptHosts => {
                "a nonce in the place of hosts: lists of hosts are bypassable (CSP3 section 8.2)"
            }
            Self::ScriptSelf => {
                "a nonce in the place of 'self': what users can put on the site is script (CSP3 section 8.2)"
            }
            Self::ShortNonce => "a nonce of at least 128 bits (CSP3 section 7.1)",
            Self::Plugins => "'none': plugins run script (CSP3 section 6)",
            Self::BaseUri => {
                "'none': injected markup moves the page's relative addresses (CSP3 section 6.3.1)"
            }
            Self::FormAction => {
                "'self' or exact origins: injected forms send what users type away (CSP3 section 6.4.1)"
            }
            Self::FrameAncestors => {
                "'none', 'self' or exact origins: other sites frame the page (CSP3 section 6.4.2)"
            }
            Self::InlineStyles => "no 'unsafe-inline' without a nonce: injected styles read the page",
            Self::StyleAnySource => "no wildcard, scheme or data: for styles: injected styles read the page",
            Self::TrustedTypes => {
                "'script': plain text reaches dangerous functions (Trusted Types, require-trusted-types-for)"
            }
            Self::TrustedTypesNames => {
                "names, or 'none': everybody may make a policy (Trusted Types, trusted-types)"
            }
        }
    }

    /// The ways of using it. One that is open in each policy is open.
    const fn ways(self) -> &'static [Way] {
        match self {
            Self::ShortNonce => &[Way::Inline, Way::Address, Way::MadeUp],
            Self::UnsafeHashes => &[Way::Inline, Way::Handler],
            _ => &[Way::Only],
        }
    }

    /// Those that say more than this one: beside one of them it is not named.
    const fn part_of(self) -> &'static [Self] {
        match self {
            Self::InlineScripts | Self::ScriptAnySource | Self::ScriptData => &[Self::ScriptsUnrestricted],
            Self::UnsafeHashes => &[Self::InlineHandlers, Self::InlineScripts, Self::ScriptsUnrestricted],
            Self::ScriptHosts => &[Self::ScriptAnySource, Self::ScriptsUnrestricted],
            Self::ScriptSelf => &[Self::ScriptHosts, Self::ScriptAnySource, Self::ScriptsUnrestricted],
            Self::ShortNonce => &[
                Self::ScriptsUnrestricted,
                Self::InlineScripts,
                Self::ScriptAnySource,
                Self::ScriptData,
                Self::ScriptHosts,
                Self::ScriptSelf,
            ],
            Self::TrustedTypesNames => &[Self::TrustedTypes],
            _ => &[],
        }
    }
}

/// How a weakness is used: with script in an element, in a handler, from an address of the site or a host, or from a
/// made-up one.
#[derive(Clone, Copy, Debug)]
enum Way {
    Only,
    Inline,
    Handler,
    Address,
    MadeUp,
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names what is weak in the policies of one response, given its `Content-Security-Policy` field values. Without any
/// policy everything is. Report-only policies do not count: they forbid nothing.
///
/// All policies are enforced, so a way is open only where each of them leaves it open. Two different lists of hosts may
/// have nothing in common; that is not looked at, so a weakness can be named that is none, never the reverse. What is
/// longer than 16 KiB, and what follows the 32nd policy, counts as not there.
pub fn assess(policies: &[&str]) -> Vec<Weakness> {
    let open = open(policies);
    open.iter()
        .filter(|weakness| !weakness.part_of().iter().any(|more| open.contains(more)))
        .copied()
        .collect()
}

/// The same with those that others imply.
pub(super) fn open(policies: &[&str]) -> Vec<Weakness> {
    let policies = Policy::all(policies);
    let is_open = |weakness: &Weakness| {
        let ways = weakness.ways().iter();
        ways.copied().any(|way| policies.iter().all(|policy| policy.leaves_open(*weakness, way)))
    };
    Weakness::ALL.into_iter().filter(is_open).collect()
}

impl Policy<'_> {
    /// Whether this policy, alone, leaves a way open. What says less follows from what says more, so that policies can
    /// be combined.
    fn leaves_open(&self, weakness: Weakness, way: Way) -> bool {
        // No directive, no limit.
        let scripts = |chain: &[&str], allows: &dyn Fn(&List<'_>) -> bool| {
            !self.forbids("allow-scripts") && self.list(chain).is_none_or(|list| allows(&list))
        };
        let loads = |is: fn(&Source<'_>) -> bool| scripts(&ELEMENTS, &|list| list.loads_scripts_from(is));
        match weakness {
            Weakness::ScriptsUnrestricted => scripts(&ELEMENTS, &|_| false),
            Weakness::InlineScripts => scripts(&ELEMENTS, &|list| list.allows_inline_scripts()),
            Weakness::InlineHandlers => scripts(&HANDLERS, &|list| list.allows_inline_scripts()),
            Weakness::UnsafeEval => scripts(&EVAL, &|list| list.allows_eval()),
            // Hashes hold for javascript: addresses too, which go by the rules for elements.
            Weakness::UnsafeHashes => {
                scripts(if matches!(way, Way::Handler) { &HANDLERS } else { &ELEMENTS }, &|list| {
                    list.allows_inline_scripts() || list.allows_hashed_handlers()
                })
            }
            Weakness::ScriptAnySource => loads(|source| *source == Source::Any),
            Weakness::ScriptData => loads(|source| *source == Source::MadeUp),
            Weakness::ScriptHosts => loads(is_remote),
            Weakness::ScriptSelf => loads(|source| is_remote(source) || *source == Source::Own),
            Weakness::ShortNonce => scripts(&ELEMENTS, &|list| {
                list.has_short_nonce()
                    || match way {
                        Way::Inline => list.allows_inline_scripts(),
                        Way::MadeUp => list.loads_scripts_from(|source| *source == Source::MadeUp),
                        _ => list.loads_scripts_from(|source| is_remote(source) || *source == Source::Own),
                    }
            }),
            // A sandbox has no plugins, whatever it allows.
            Weakness::Plugins => {
                self.tokens("sandbox").is_none() && self.list(&PLUGINS).is_none_or(|list| !list.is_nothing())
            }
            Weakness::BaseUri => self.list(&["base-uri"]).is_none_or(|list| !list.is_nothing()),
            Weakness::FormAction => {
                !self.forbids("allow-forms")
                    && self.list(&["form-action"]).is_none_or(|list| !list.is_exact())
            }
            Weakness::FrameAncestors => self.list(&["frame-ancestors"]).is_none_or(|list| !list.is_exact()),
            Weakness::InlineStyles => self.list(&STYLES).is_none_or(|list| list.allows_inline_styles()),
            Weakness::StyleAnySource => self
                .list(&STYLES)
                .is_none_or(|list| list.any(|source| matches!(source, Source::Any | Source::MadeUp))),
            Weakness::TrustedTypes => {
                !self.has("require-trusted-types-for", "'script'") && self.runs_scripts()
            }
            // Where they are required, or do not matter, the names do not either; the policy that names them may be
            // another.
            Weakness::TrustedTypesNames => {
                self.runs_scripts() && self.tokens("trusted-types").is_none_or(|names| names.contains(&"*"))
            }
        }
    }

    /// Whether a sandbox takes an ability away.
    fn forbids(&self, ability: &str) -> bool {
        self.tokens("sandbox").is_some() && !self.has("sandbox", ability)
    }

    /// Whether any script can run under this policy.
    fn runs_scripts(&self) -> bool {
        let nothing = |chain: &[&str]| self.list(chain).is_some_and(|list| list.is_nothing());
        !(self.forbids("allow-scripts") || (nothing(&ELEMENTS) && nothing(&HANDLERS)))
    }
}

fn is_remote(source: &Source<'_>) -> bool {
    matches!(source, Source::Any | Source::Wildcard | Source::Host { .. })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(policies: &[&str]) -> Vec<&'static str> {
        assess(policies).into_iter().map(Weakness::name).collect()
    }

    #[test]
    fn r086_policies_are_as_weak_as_the_table_says() {
        let table = include_str!("../../../../conformance/csp-assess.tsv");
        let mut rows = table.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(rows.next(), Some("weaknesses\tpolicies"));
        let mut count = 0;
        for row in rows {
            let (expected, policies) = row.split_once('\t').expect("two cells");
            let policies: Vec<_> = policies.split(" || ").filter(|policy| *policy != "-").collect();
            let found = names(&policies);
            assert_eq!(if found.is_empty() { "none".to_owned() } else { found.join(" ") }, expected, "{row}");
            count += 1;
        }
        assert!(count >= 60, "{count}");
    }

    #[test]
    fn each_weakness_has_one_name() {
        for weakness in Weakness::ALL {
            assert_eq!(Weakness::from_name(weakness.name()), Some(weakness));
        }
        assert_eq!(Weakness::from_name("none"), None);
    }

    #[test]
    fn what_is_too_long_or_too_much_counts_as_not_there() {
        let strict = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
        assert_eq!(names(&[strict]), [""; 0]);
        let long = format!("{strict}; img-src {}", "x".repeat(16 * 1024));
        assert_eq!(names(&[&long]), names(&[]));
        let mut many = vec!["img-src *"; 32];
        many.push(strict);
        assert_eq!(names(&many), names(&[]));
        many.remove(0);
        assert_eq!(names(&many), [""; 0]);
        assert_eq!(names(&[&",".repeat(100_000)]), names(&[]));
    }

    const WORDS: [&str; 40] = [
        "script-src",
        "script-src-elem",
        "script-src-attr",
        "default-src",
        "style-src",
        "object-src",
        "base-uri",
        "form-action",
        "frame-ancestors",
        "sandbox",
        "require-trusted-types-for",
        "trusted-types",
        "img-src",
        ";",
        ";",
        ";",
        ",",
        "'none'",
        "'self'",
        "'unsafe-inline'",
        "'unsafe-eval'",
        "'strict-dynamic'",
        "'unsafe-hashes'",
        "'nonce-AAAAAAAAAAAAAAAAAAAAAA'",
        "'nonce-abc'",
        "'sha256-abc='",
        "'script'",
        "*",
        "https:",
        "data:",
        "https://a.example",
        "*.a.example",
        "http://a.example",
        "allow-scripts",
        "allow-forms",
        "\u{fc}",
        "a",
        ":",
        "/",
        "'",
    ];

    fn policy() -> impl Strategy<Value = String> {
        proptest::collection::vec(0..WORDS.len(), 0..30)
            .prop_map(|words| words.into_iter().map(|word| WORDS[word]).collect::<Vec<_>>().join(" "))
    }

    proptest! {
        #[test]
        fn another_policy_never_opens_a_way(one in policy(), other in policy()) {
            let (alone, both) = (open(&[&one]), open(&[&one, &other]));
            prop_assert!(both.iter().all(|weakness| alone.contains(weakness)), "{:?} {:?}", alone, both);
            prop_assert_eq!(assess(&[&one, &other]), assess(&[&format!("{one}, {other}")]));
        }

        #[test]
        fn a_way_that_says_more_opens_those_that_say_less(policy in policy()) {
            for policy in Policy::all(&[&policy]) {
                let opens = |weakness: Weakness| weakness.ways().iter().any(|way| policy.leaves_open(weakness, *way));
                // Names of policies are beside the point where no type is required, whatever is said of them.
                for weakness in Weakness::ALL.into_iter().filter(|w| *w != Weakness::TrustedTypesNames) {
                    let more = weakness.part_of().iter().any(|more| opens(*more));
                    prop_assert!(!more || opens(weakness), "{:?}", weakness);
                }
            }
        }

        #[test]
        fn any_text_is_assessed(texts in proptest::collection::vec(".{0,200}", 0..4)) {
            let texts: Vec<_> = texts.iter().map(String::as_str).collect();
            let _ = assess(&texts);
        }
    }
}
