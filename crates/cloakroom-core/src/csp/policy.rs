//! A policy that was made: its text for a response, and what it adds beside another one.

use super::assess::{Weakness, assess, open};
use super::nonce::Nonce;

/// The name of the endpoint in `Reporting-Endpoints` that policies report to.
pub const REPORT_GROUP: &str = "cloakroom-csp";

/// What stands in a policy's text for the nonce of the response: a browser never sees it.
pub(super) const PLACEHOLDER: &str = "'nonce'";

/// The strict policy (CSP3 section 8.2). There is no `https: 'unsafe-inline'` for browsers of before 2022: those know
/// nonces too, and run the page's own scripts; what they do not run is what these load in turn.
pub(super) const STRICT: [(&str, &str); 9] = [
    ("default-src", "'self'"),
    ("script-src", "'nonce' 'strict-dynamic'"),
    ("style-src", "'self' 'nonce'"),
    ("object-src", "'none'"),
    ("base-uri", "'none'"),
    ("form-action", "'self'"),
    ("frame-ancestors", "'none'"),
    ("require-trusted-types-for", "'script'"),
    ("trusted-types", "'none'"),
];

/// A policy that was checked: what differs from response to response is the nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Csp {
    /// In the order of their names; values hold the placeholder.
    pub(super) directives: Vec<(String, String)>,
    pub(super) endpoint: Option<String>,
    /// What it leaves open, with what follows from that.
    pub(super) open: Vec<Weakness>,
}

impl Default for Csp {
    /// The strict policy of [`CspOptions::default`](super::CspOptions).
    fn default() -> Self {
        let mut directives = STRICT.map(|(name, value)| (name.to_owned(), value.to_owned()));
        directives.sort();
        Self { directives: directives.into(), endpoint: None, open: Vec::new() }
    }
}

impl Csp {
    /// The field value for one response.
    pub fn header(&self, nonce: &Nonce) -> String {
        write(self.directives.iter().map(|(name, value)| (name.as_str(), value.as_str())), nonce)
    }

    /// The value of a directive, with `'nonce'` in the place of the nonce.
    pub fn directive(&self, name: &str) -> Option<&str> {
        self.directives.iter().find(|(held, _)| held == name).map(|(_, value)| value.as_str())
    }

    /// Where browsers report to.
    pub fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    /// The value of `Reporting-Endpoints` that goes with it (Reporting API section 3.2).
    pub fn reporting_endpoints(&self) -> Option<String> {
        self.endpoint.as_ref().map(|endpoint| format!("{REPORT_GROUP}=\"{endpoint}\""))
    }

    /// What it leaves open, all of which was accepted with a reason.
    pub fn weaknesses(&self) -> Vec<Weakness> {
        assess(&[&self.header(&Nonce::sample())])
    }

    /// The same policy for responses that have no nonce, because caches may keep them: what the nonce lets run
    /// does not run, hashes go on to count.
    #[must_use = "this returns the other policy"]
    pub fn without_nonce(&self) -> Self {
        let nonceless = |value: &str| {
            // Beside a nonce 'unsafe-inline' means nothing; it must not begin to.
            let gone =
                |source: &&str| *source != PLACEHOLDER && !source.eq_ignore_ascii_case("'unsafe-inline'");
            let left = value.split_ascii_whitespace().filter(gone).collect::<Vec<_>>().join(" ");
            if matches!(left.as_str(), "" | "'strict-dynamic'") { "'none'".to_owned() } else { left }
        };
        let directives = self.directives.iter().map(|(name, value)| {
            let named = value.split_ascii_whitespace().any(|source| source == PLACEHOLDER);
            (name.clone(), if named { nonceless(value) } else { value.clone() })
        });
        let mut csp =
            Self { directives: directives.collect(), endpoint: self.endpoint.clone(), open: Vec::new() };
        csp.open = open(&[&csp.header(&Nonce::sample())]);
        csp
    }

    /// The same policy for plain http. A browser that knows `report-to` ignores `report-uri` beside it, and takes
    /// `Reporting-Endpoints` over https only (Reporting API section 3.3), so that nothing would be reported.
    pub(crate) fn over_http(&self) -> Self {
        let directives = self.directives.iter().filter(|(name, _)| name != "report-to").cloned();
        Self { directives: directives.collect(), endpoint: self.endpoint.clone(), open: self.open.clone() }
    }

    /// What to send beside the policies that a response already has, so that together they are no weaker than this one;
    /// `None` if they are already.
    ///
    /// Browsers enforce every policy of a response. So nothing of the others is taken away, not even of a weak one: it
    /// may confine something that this one does not, such as uploaded content by `sandbox`. Only those directives are
    /// added that close what the others leave open and this one does not; the page goes on to load its images from
    /// where its own policy says.
    ///
    /// Scripts of a page whose own script policy is too weak run only with this `nonce`.
    pub fn mend(&self, policies: &[&str], nonce: &Nonce) -> Option<String> {
        let lacking = |policies: &[&str]| {
            open(policies).into_iter().filter(|weakness| !self.open.contains(weakness)).collect::<Vec<_>>()
        };
        let found = lacking(policies);
        if found.is_empty() {
            return None;
        }
        if found == lacking(&[]) {
            return Some(self.header(nonce));
        }
        let wanted = |name: &str| {
            let closes = |weakness: &Weakness| {
                weakness.directive() == name
                    || (*weakness == Weakness::TrustedTypes && name == "trusted-types")
                    || (weakness.directive() == "script-src" && name.starts_with("script-src-"))
                    || (weakness.directive() == "style-src" && name.starts_with("style-src-"))
            };
            name.starts_with("report-") || found.iter().any(closes)
        };
        let some = self.directives.iter().filter(|(name, _)| wanted(name));
        let some = write(some.map(|(name, value)| (name.as_str(), value.as_str())), nonce);
        // A policy of your own may close a way by another directive, such as sandbox or default-src: then all of it.
        let enough = lacking(&[policies, &[&some]].concat()).is_empty();
        Some(if enough { some } else { self.header(nonce) })
    }
}

fn write<'a>(directives: impl Iterator<Item = (&'a str, &'a str)>, nonce: &Nonce) -> String {
    let nonce = format!("'nonce-{}'", nonce.as_str());
    let mut text = String::new();
    for (name, value) in directives {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(name);
        for source in value.split_ascii_whitespace() {
            text.push(' ');
            text.push_str(if source == PLACEHOLDER { &nonce } else { source });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::CspOptions;
    use super::*;
    use crate::testing::Counting;

    #[test]
    fn r086_two_responses_differ_in_the_nonce_only() {
        let (csp, entropy) = (Csp::default(), Counting::default());
        let [one, other] = [0; 2].map(|_| Nonce::draw(&entropy).unwrap());
        let texts = [&one, &other].map(|nonce| csp.header(nonce));
        assert_ne!(texts[0], texts[1]);
        assert_eq!(texts[0].replace(one.as_str(), ""), texts[1].replace(other.as_str(), ""));
        assert_eq!(texts[0].matches(one.as_str()).count(), 2);
    }

    #[test]
    fn r086_for_caches_there_is_a_policy_without_nonce_that_opens_nothing_more() {
        let text = |options: CspOptions| options.build().unwrap().without_nonce().header(&Nonce::sample());
        assert_eq!(
            text(CspOptions::default()),
            "base-uri 'none'; default-src 'self'; form-action 'self'; frame-ancestors 'none'; object-src 'none'; \
             require-trusted-types-for 'script'; script-src 'none'; style-src 'self'; trusted-types 'none'"
        );
        assert_eq!(Csp::default().without_nonce().weaknesses(), []);
        let hash = "'sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='";
        let kept = [
            (format!("'nonce' 'strict-dynamic' {hash}"), format!("script-src 'strict-dynamic' {hash};")),
            ("'nonce' 'strict-dynamic' 'unsafe-inline'".to_owned(), "script-src 'none';".to_owned()),
            ("'none'".to_owned(), "script-src 'none';".to_owned()),
        ];
        for (value, expected) in kept {
            let text = text(CspOptions::default().directive("script-src", &value));
            assert!(text.contains(&expected) && !text.contains("unsafe-inline"), "{text}");
        }
        let styled = text(CspOptions::default().insecure_inline_styles("a test"));
        assert!(styled.contains("style-src 'self' 'unsafe-inline';"), "{styled}");
    }

    #[test]
    fn r086_a_weak_policy_is_mended_without_taking_anything_away() {
        let (csp, nonce) = (Csp::default(), Nonce::sample());
        let strict = csp.header(&nonce);
        let cases = [
            (vec![], Some(strict.as_str())),
            (vec!["img-src https://cdn.example"], Some(strict.as_str())),
            (vec![strict.as_str()], None),
            // Stricter in parts, silent in others.
            (
                vec!["default-src 'none'; img-src https://cdn.example; frame-ancestors 'self'"],
                Some("base-uri 'none'; form-action 'self'"),
            ),
            (
                vec![
                    "script-src 'nonce-abcdefghijklmnopqrstuv' 'strict-dynamic'; object-src 'none'; base-uri 'none'",
                ],
                Some(
                    "form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                     style-src 'self' 'nonce-AAAAAAAAAAAAAAAAAAAAAA'; trusted-types 'none'",
                ),
            ),
            // An upload that its application confines: nothing of ours replaces the sandbox.
            (
                vec!["sandbox"],
                Some(
                    "base-uri 'none'; frame-ancestors 'none'; style-src 'self' 'nonce-AAAAAAAAAAAAAAAAAAAAAA'",
                ),
            ),
        ];
        for (theirs, expected) in cases {
            let mended = csp.mend(&theirs, &nonce);
            assert_eq!(mended.as_deref(), expected, "{theirs:?}");
            let both: Vec<_> = theirs.iter().copied().chain(mended.as_deref()).collect();
            assert_eq!(assess(&both), [], "{both:?}");
            assert_eq!(csp.mend(&both, &nonce), None);
        }
        // What the site's own policy leaves open is not closed for others either.
        let loose = CspOptions::default().insecure_inline_styles("test").build().unwrap();
        let theirs =
            strict.replace("style-src 'self' 'nonce-AAAAAAAAAAAAAAAAAAAAAA'", "style-src 'unsafe-inline'");
        assert_eq!(loose.mend(&[&theirs], &nonce), None);
        assert_eq!(
            csp.mend(&[&theirs], &nonce).as_deref(),
            Some("style-src 'self' 'nonce-AAAAAAAAAAAAAAAAAAAAAA'")
        );
        // A policy of one's own that closes by another directive is added as a whole.
        let api = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
        let api = CspOptions::of(api).build().unwrap();
        assert_eq!(api.mend(&["script-src *; style-src a"], &nonce), Some(api.header(&nonce)));
    }
}
