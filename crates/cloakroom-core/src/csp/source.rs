//! Source lists and policies, read as a browser of CSP3 reads them (sections 2.2 and 2.3).

/// Policies in one response that are looked at. Each only restricts further, so leaving some out never hides a
/// weakness.
const POLICIES_MAX: usize = 32;
/// Characters in a policy that is looked at; a longer one counts as none, for the same reason.
const POLICY_MAX: usize = 16 * 1024;
/// Characters that 128 bits take in base64.
const NONCE_MIN: usize = 22;

/// The directives that matter here. A browser ignores those that it does not know.
pub(super) const DIRECTIVES: [&str; 29] = [
    "base-uri",
    "block-all-mixed-content",
    "child-src",
    "connect-src",
    "default-src",
    "fenced-frame-src",
    "font-src",
    "form-action",
    "frame-ancestors",
    "frame-src",
    "img-src",
    "manifest-src",
    "media-src",
    "object-src",
    "report-to",
    "report-uri",
    "require-trusted-types-for",
    "sandbox",
    "script-src",
    "script-src-attr",
    "script-src-elem",
    "style-src",
    "style-src-attr",
    "style-src-elem",
    "trusted-types",
    "upgrade-insecure-requests",
    "webrtc",
    "worker-src",
    "prefetch-src",
];

/// One policy: its directives, each once.
#[derive(Debug)]
pub(super) struct Policy<'a>(Vec<(&'static str, Vec<&'a str>)>);

impl<'a> Policy<'a> {
    /// Every policy of the given field values, which are lists (section 2.2.2).
    pub(super) fn all(values: &[&'a str]) -> Vec<Self> {
        let texts = values.iter().flat_map(|value| value.split(',')).filter(|text| text.len() <= POLICY_MAX);
        texts.map(Self::parse).filter(|policy| !policy.0.is_empty()).take(POLICIES_MAX).collect()
    }

    /// Section 2.2.1: of directives of one name the first counts, in any case of letters; one with other than ASCII is
    /// ignored.
    fn parse(text: &'a str) -> Self {
        let mut policy = Self(Vec::new());
        for directive in text.split(';').filter(|directive| directive.is_ascii()) {
            let mut tokens = directive.split_ascii_whitespace();
            let Some(name) = tokens.next() else { continue };
            let Some(known) = DIRECTIVES.into_iter().find(|known| known.eq_ignore_ascii_case(name)) else {
                continue;
            };
            if policy.tokens(known).is_none() {
                policy.0.push((known, tokens.collect()));
            }
        }
        policy
    }

    /// A directive's value, if the policy has the directive.
    pub(super) fn tokens(&self, name: &str) -> Option<&[&'a str]> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, tokens)| tokens.as_slice())
    }

    /// The source list that governs, by the first directive of a chain that the policy has (section 6.8.3); `None` if
    /// nothing does.
    pub(super) fn list(&self, chain: &[&str]) -> Option<List<'a>> {
        let tokens = chain.iter().find_map(|name| self.tokens(name))?;
        Some(List(tokens.iter().map(|token| Source::parse(token)).collect()))
    }

    /// Whether a directive has a token, in any case of letters.
    pub(super) fn has(&self, directive: &str, token: &str) -> bool {
        self.tokens(directive).is_some_and(|tokens| tokens.iter().any(|t| t.eq_ignore_ascii_case(token)))
    }
}

/// One source expression (section 2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source<'a> {
    /// `'none'`, which counts for nothing beside others, as an empty list does.
    None,
    /// `'self'`.
    Own,
    UnsafeInline,
    UnsafeEval,
    UnsafeHashes,
    StrictDynamic,
    /// Another keyword that concerns neither inline code nor addresses.
    Harmless,
    Nonce(&'a str),
    Hash,
    /// `data:`, `blob:` or `filesystem:`: content that whoever writes the address makes up.
    MadeUp,
    /// `*`, `https:`, `https://*`, or another scheme: hosts without limit.
    Any,
    /// `*.example.org`.
    Wildcard,
    /// A host; `secure` says that it is not over plain http.
    Host {
        secure: bool,
    },
    /// Quoted, and nothing that a browser knows: ignored.
    Unknown,
}

impl<'a> Source<'a> {
    pub(super) fn parse(token: &'a str) -> Self {
        const KEYWORDS: [(&str, Source<'static>); 11] = [
            ("'none'", Source::None),
            ("'self'", Source::Own),
            ("'unsafe-inline'", Source::UnsafeInline),
            ("'unsafe-eval'", Source::UnsafeEval),
            ("'unsafe-hashes'", Source::UnsafeHashes),
            ("'strict-dynamic'", Source::StrictDynamic),
            ("'report-sample'", Source::Harmless),
            ("'wasm-unsafe-eval'", Source::Harmless),
            ("'trusted-types-eval'", Source::Harmless),
            ("'inline-speculation-rules'", Source::Harmless),
            ("'unsafe-allow-redirects'", Source::Harmless),
        ];
        let keyword =
            |(text, source): &(&str, Source<'static>)| text.eq_ignore_ascii_case(token).then_some(*source);
        if let Some(source) = KEYWORDS.iter().find_map(keyword) {
            return source;
        }
        if let Some(quoted) = token.strip_prefix('\'') {
            return quoted.strip_suffix('\'').map_or(Self::Unknown, Self::nonce_or_hash);
        }
        Self::address(token)
    }

    fn nonce_or_hash(quoted: &'a str) -> Self {
        let after = |prefix: &str| {
            let (head, value) = quoted.split_at_checked(prefix.len())?;
            (head.eq_ignore_ascii_case(prefix) && is_base64(value)).then_some(value)
        };
        if let Some(value) = after("nonce-") {
            return Self::Nonce(value);
        }
        let hashes = ["sha256-", "sha384-", "sha512-"];
        if hashes.iter().any(|prefix| after(prefix).is_some()) { Self::Hash } else { Self::Unknown }
    }

    /// What is not quoted. Anything that is no scheme counts as a host, also where the grammar has no such host: a
    /// browser that is more generous must not find more than we do.
    fn address(token: &str) -> Self {
        let (scheme, rest) = match token.split_once(':') {
            Some((scheme, "")) if is_scheme(scheme) => {
                let made_up =
                    ["data", "blob", "filesystem"].iter().any(|known| known.eq_ignore_ascii_case(scheme));
                return if made_up { Self::MadeUp } else { Self::Any };
            }
            Some((scheme, rest)) if is_scheme(scheme) && rest.starts_with("//") => {
                (Some(scheme), rest.trim_start_matches('/'))
            }
            _ => (None, token),
        };
        let host = rest.split([':', '/']).next().unwrap_or_default();
        match host.strip_prefix('*') {
            Some("") => Self::Any,
            Some(_) => Self::Wildcard,
            // A host without scheme is over https on an https page.
            None => Self::Host {
                secure: scheme.is_none_or(|s| !["http", "ws"].iter().any(|p| p.eq_ignore_ascii_case(s))),
            },
        }
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// `base64-value`: letters of either alphabet, and at most two `=` at the end.
fn is_base64(text: &str) -> bool {
    let bare = text.strip_suffix('=').map_or(text, |text| text.strip_suffix('=').unwrap_or(text));
    !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/-_".contains(&b))
}

/// A source list.
#[derive(Debug)]
pub(super) struct List<'a>(Vec<Source<'a>>);

impl List<'_> {
    pub(super) fn any(&self, is: impl Fn(&Source<'_>) -> bool) -> bool {
        self.0.iter().any(is)
    }

    fn has(&self, source: Source<'_>) -> bool {
        self.0.contains(&source)
    }

    fn has_nonce_or_hash(&self) -> bool {
        self.any(|source| matches!(source, Source::Nonce(_) | Source::Hash))
    }

    /// Whether it matches nothing: empty, `'none'`, or only what a browser ignores.
    pub(super) fn is_nothing(&self) -> bool {
        !self.any(|source| !matches!(source, Source::None | Source::Harmless | Source::Unknown))
    }

    /// Whether every inline script is allowed (section 6.7.3.2 for scripts).
    pub(super) fn allows_inline_scripts(&self) -> bool {
        self.allows_inline_styles() && !self.has(Source::StrictDynamic)
    }

    /// Whether every inline style is allowed (section 6.7.3.2 for styles, where `'strict-dynamic'` means nothing).
    pub(super) fn allows_inline_styles(&self) -> bool {
        self.has(Source::UnsafeInline) && !self.has_nonce_or_hash()
    }

    pub(super) fn allows_eval(&self) -> bool {
        self.has(Source::UnsafeEval)
    }

    /// Whether hashes hold for event handlers too.
    pub(super) fn allows_hashed_handlers(&self) -> bool {
        self.has(Source::UnsafeHashes) && self.has(Source::Hash)
    }

    /// Whether scripts in the page's markup may come from an address that satisfies `is`; with `'strict-dynamic'` no
    /// address counts (section 6.7.1.1).
    pub(super) fn loads_scripts_from(&self, is: impl Fn(&Source<'_>) -> bool) -> bool {
        !self.has(Source::StrictDynamic) && self.any(is)
    }

    pub(super) fn has_short_nonce(&self) -> bool {
        self.any(
            |source| matches!(source, Source::Nonce(value) if value.trim_end_matches('=').len() < NONCE_MIN),
        )
    }

    /// Whether it names nothing, the own origin, or hosts one by one over https.
    pub(super) fn is_exact(&self) -> bool {
        !self.any(|source| {
            matches!(source, Source::Any | Source::Wildcard | Source::MadeUp | Source::Host { secure: false })
        })
    }
}
