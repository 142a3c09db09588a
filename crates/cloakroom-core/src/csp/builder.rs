//! Making a policy: strict unless told otherwise, and never a bypassable one by accident.

use std::collections::BTreeMap;

use super::assess::{Weakness, open};
use super::nonce::Nonce;
use super::policy::{Csp, PLACEHOLDER, REPORT_GROUP, STRICT};
use super::source::{DIRECTIVES, Source};
use crate::origin::Origin;
use crate::policy::{ConfigErrors, Problem};

/// What a page loads besides scripts, and where its forms go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resource {
    /// `img-src`.
    Image,
    /// `style-src`.
    Style,
    /// `font-src`.
    Font,
    /// `media-src`: sound and video.
    Media,
    /// `connect-src`: what scripts fetch, and WebSockets.
    Connect,
    /// `frame-src`: what the page puts into frames.
    Frame,
    /// `worker-src`.
    Worker,
    /// `manifest-src`.
    Manifest,
    /// `form-action`: where forms go.
    Form,
}

impl Resource {
    const fn directive(self) -> &'static str {
        match self {
            Self::Image => "img-src",
            Self::Style => "style-src",
            Self::Font => "font-src",
            Self::Media => "media-src",
            Self::Connect => "connect-src",
            Self::Frame => "frame-src",
            Self::Worker => "worker-src",
            Self::Manifest => "manifest-src",
            Self::Form => "form-action",
        }
    }

    /// Whether made-up content of a scheme does no harm as this.
    fn takes(self, scheme: &str) -> bool {
        match scheme {
            "data:" => matches!(self, Self::Image | Self::Font | Self::Media),
            "blob:" => matches!(self, Self::Image | Self::Media | Self::Worker | Self::Connect),
            _ => false,
        }
    }
}

/// How a policy is made.
///
/// The default is
///
/// ```text
/// default-src 'self'; script-src 'nonce-…' 'strict-dynamic'; style-src 'self' 'nonce-…'; object-src 'none'; base-uri 'none';
/// form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'
/// ```
///
/// What is weaker has a name that says so and wants a reason; what a browser of CSP3 treats as bypassable is refused.
#[derive(Clone, Debug)]
pub struct CspOptions {
    directives: BTreeMap<String, Vec<String>>,
    accepted: Vec<(Weakness, String)>,
    problems: Vec<Problem>,
    endpoint: Option<String>,
}

impl Default for CspOptions {
    fn default() -> Self {
        let directives =
            STRICT.map(|(name, value)| (name.to_owned(), value.split(' ').map(str::to_owned).collect()));
        Self {
            directives: directives.into_iter().collect(),
            accepted: Vec::new(),
            problems: Vec::new(),
            endpoint: None,
        }
    }
}

impl CspOptions {
    /// Starts from a whole policy of your own, in which `'nonce'` stands for the response's nonce. It is held to the
    /// same rules.
    pub fn of(policy: &str) -> Self {
        let mut options = Self { directives: BTreeMap::new(), ..Self::default() };
        for directive in policy.split(';') {
            let mut tokens = directive.split_ascii_whitespace();
            let Some(name) = tokens.next() else { continue };
            let name = name.to_ascii_lowercase();
            if options.directives.contains_key(&name) {
                options.problem(&name, directive.trim(), "the directive once: browsers ignore the second");
            }
            options.directives.insert(name, tokens.map(str::to_owned).collect());
        }
        options
    }

    /// Replaces a directive's value, in which `'nonce'` stands for the response's nonce. It is held to the same rules.
    #[must_use = "this returns the changed options"]
    pub fn directive(mut self, name: &str, value: &str) -> Self {
        *self.sources(&name.to_ascii_lowercase()) =
            value.split_ascii_whitespace().map(str::to_owned).collect();
        self
    }

    /// Lets a page load something from elsewhere: an exact origin as `https://cdn.example` (for connections also
    /// `wss://…`), or `data:` and `blob:` where they do no harm. Scripts are not among it: those are named by nonce.
    ///
    /// # Security
    ///
    /// Whatever that origin sends is shown, and it learns who looks. Styles can read parts of the page.
    #[must_use = "this returns the changed options"]
    pub fn allow(mut self, what: Resource, source: &str) -> Self {
        let name = what.directive();
        let origin = match source.strip_prefix("wss://") {
            Some(rest) if what == Resource::Connect => format!("https://{rest}"),
            _ => source.to_owned(),
        };
        let exact = Origin::parse(&origin).is_ok_and(|origin| origin.is_https() || is_loopback(&origin));
        if !exact && !what.takes(source) {
            let expected =
                "an exact origin over https, as https://cdn.example, or data: or blob: where they do no harm";
            self.problem(name, source, expected);
            return self;
        }
        let sources = self.sources(name);
        sources.retain(|held| held != "'none'");
        if sources.is_empty() {
            sources.push("'self'".to_owned());
        }
        sources.push(source.to_owned());
        self
    }

    /// Lets the site itself put its pages into frames, and the given origins over https. Without it nobody may.
    ///
    /// # Security
    ///
    /// A site that frames a page can trick its user into clicking there.
    #[must_use = "this returns the changed options"]
    pub fn framed_by(mut self, origins: &[&str]) -> Self {
        let name = "frame-ancestors";
        for origin in origins {
            if !Origin::parse(origin).is_ok_and(|origin| origin.is_https()) {
                self.problem(name, origin, "an exact origin over https, as https://partner.example");
            }
        }
        let origins = origins.iter().map(|origin| (*origin).to_owned());
        *self.sources(name) = std::iter::once("'self'".to_owned()).chain(origins).collect();
        self
    }

    /// Names the Trusted Types policies that scripts may make. The default is none.
    ///
    /// # Security
    ///
    /// Each is trusted to make dangerous text harmless, above all one called `default`.
    #[must_use = "this returns the changed options"]
    pub fn trusted_types(mut self, names: &[&str]) -> Self {
        let good = |name: &&str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-#=_/@.%".contains(&b))
        };
        for name in names.iter().filter(|name| !good(name)) {
            self.problem("trusted-types", name, "a name of letters, digits and -#=_/@.%");
        }
        *self.sources("trusted-types") = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// Has browsers report what they refuse to a path of the site, or to an address over https: by `report-to` and, for
    /// those that do not know it, `report-uri` (R-088).
    #[must_use = "this returns the changed options"]
    pub fn report_to(mut self, endpoint: &str) -> Self {
        let good = (endpoint.starts_with("https://")
            || (endpoint.starts_with('/') && !endpoint.starts_with("//")))
            && endpoint.bytes().all(|b| b.is_ascii_graphic() && !b";,\"\\'<>".contains(&b));
        if good {
            *self.sources("report-uri") = vec![endpoint.to_owned()];
            *self.sources("report-to") = vec![REPORT_GROUP.to_owned()];
            self.endpoint = Some(endpoint.to_owned());
        } else {
            self.problem(
                "report-uri",
                endpoint,
                "a path that begins with one slash, or an address over https",
            );
        }
        self
    }

    /// Lets scripts turn text into code.
    ///
    /// # Security
    ///
    /// Every text that reaches `eval`, `Function` or a timer is code then (R-086).
    #[must_use = "this returns the changed options"]
    pub fn insecure_eval(mut self, reason: impl Into<String>) -> Self {
        self.sources("script-src").push("'unsafe-eval'".to_owned());
        self.insecure_accept(Weakness::UnsafeEval, reason)
    }

    /// Lets style elements and attributes stand in the page without a nonce, as many component libraries need.
    ///
    /// # Security
    ///
    /// Injected styles can read parts of the page by selectors, and cover it with something else.
    #[must_use = "this returns the changed options"]
    pub fn insecure_inline_styles(mut self, reason: impl Into<String>) -> Self {
        let sources = self.sources("style-src");
        sources.retain(|source| source != PLACEHOLDER);
        sources.push("'unsafe-inline'".to_owned());
        self.insecure_accept(Weakness::InlineStyles, reason)
    }

    /// Drops Trusted Types, for scripts that hand plain text to `innerHTML` and the like.
    ///
    /// # Security
    ///
    /// Script injection that happens in the page itself is no longer stopped (R-089).
    #[must_use = "this returns the changed options"]
    pub fn insecure_without_trusted_types(mut self, reason: impl Into<String>) -> Self {
        self.directives.retain(|name, _| !name.contains("trusted-types"));
        self.insecure_accept(Weakness::TrustedTypes, reason)
    }

    /// Accepts a weakness that the policy has.
    ///
    /// # Security
    ///
    /// [`Weakness`] says what it opens.
    #[must_use = "this returns the changed options"]
    pub fn insecure_accept(mut self, weakness: Weakness, reason: impl Into<String>) -> Self {
        self.accepted.push((weakness, reason.into()));
        self
    }

    /// Checks the policy.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with every problem at once: what a browser ignores or does not know, and every [`Weakness`]
    /// that is not accepted.
    pub fn build(self) -> Result<Csp, ConfigErrors> {
        let mut problems = self.problems.clone();
        for (weakness, reason) in &self.accepted {
            if reason.trim().is_empty() {
                problems.push(Problem::new(&format!("csp.insecure.{weakness}"), "", "a reason, in words"));
            }
        }
        for (name, sources) in &self.directives {
            check(name, sources, &mut problems);
        }
        let mut csp = Csp {
            directives: self
                .directives
                .into_iter()
                .map(|(name, sources)| (name, sources.join(" ")))
                .collect(),
            endpoint: self.endpoint,
            open: Vec::new(),
        };
        csp.open = open(&[&csp.header(&Nonce::sample())]);
        for weakness in csp.weaknesses() {
            let accepted = self.accepted.iter().any(|(accepted, _)| *accepted == weakness);
            if !accepted {
                let name = weakness.directive();
                let value = csp.directive(name).unwrap_or_default();
                problems.push(Problem::new(&format!("csp.{name}"), value, weakness.expected()));
            }
        }
        ConfigErrors::unless_empty(problems)?;
        Ok(csp)
    }

    fn problem(&mut self, name: &str, value: &str, expected: &str) {
        self.problems.push(Problem::new(&format!("csp.{name}"), value, expected));
    }

    /// A directive's value, made if it is not there.
    fn sources(&mut self, name: &str) -> &mut Vec<String> {
        self.directives.entry(name.to_owned()).or_default()
    }
}

fn is_loopback(origin: &Origin) -> bool {
    matches!(origin.host(), "localhost" | "127.0.0.1" | "[::1]")
}

/// Notes what a browser would not know or would ignore.
fn check(name: &str, sources: &[String], problems: &mut Vec<Problem>) {
    let mut problem = |value: &str, expected: &str| {
        problems.push(Problem::new(&format!("csp.{name}"), value, expected));
    };
    if !DIRECTIVES.contains(&name) {
        problem("", "a directive that browsers know");
        return;
    }
    let clean = |text: &&String| text.bytes().all(|b| b.is_ascii_graphic() && b != b',' && b != b';');
    for token in sources.iter().filter(|token| !clean(token)) {
        problem(token, "printable ASCII without commas and semicolons");
    }
    let lists = name.contains("-src") || matches!(name, "base-uri" | "form-action" | "frame-ancestors");
    if !lists {
        return;
    }
    let dynamic = sources.iter().any(|source| Source::parse(source) == Source::StrictDynamic);
    for token in sources.iter().filter(|token| *token != PLACEHOLDER) {
        match Source::parse(token) {
            Source::Unknown => problem(token, "a keyword, nonce or hash that browsers know"),
            Source::None if sources.len() > 1 => {
                problem(token, "nothing beside it: browsers ignore it there");
            }
            Source::Nonce(_) => problem(token, "'nonce', which stands for a new one in each response"),
            Source::Own | Source::Any | Source::Wildcard | Source::MadeUp | Source::Host { .. }
                if dynamic =>
            {
                problem(
                    token,
                    "no address beside 'strict-dynamic': browsers ignore it, so it protects nothing",
                );
            }
            Source::Host { .. } if is_unquoted(token) => {
                problem(token, "quotes around it, or it is a host's name");
            }
            _ => {}
        }
    }
}

/// Whether a host's name is more likely a keyword whose quotes were forgotten.
fn is_unquoted(token: &str) -> bool {
    let quoted = format!("'{token}'");
    quoted.eq_ignore_ascii_case(PLACEHOLDER)
        || !matches!(Source::parse(&quoted), Source::Unknown)
        || token.get(..6).is_some_and(|head| head.eq_ignore_ascii_case("nonce-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(options: CspOptions) -> Vec<String> {
        let errors = options.build().expect_err("refused");
        errors.problems().iter().map(|problem| format!("{} {}", problem.key, problem.value)).collect()
    }

    fn built(options: CspOptions) -> String {
        options.build().unwrap().header(&Nonce::sample())
    }

    #[test]
    fn r086_the_default_policy_is_strict() {
        let csp = CspOptions::default().build().unwrap();
        assert_eq!(csp, Csp::default());
        assert_eq!(
            csp.header(&Nonce::sample()),
            "base-uri 'none'; default-src 'self'; form-action 'self'; frame-ancestors 'none'; object-src 'none'; \
             require-trusted-types-for 'script'; script-src 'nonce-AAAAAAAAAAAAAAAAAAAAAA' 'strict-dynamic'; \
             style-src 'self' 'nonce-AAAAAAAAAAAAAAAAAAAAAA'; trusted-types 'none'"
        );
        assert_eq!(csp.weaknesses(), []);
    }

    #[test]
    fn r086_a_bypassable_policy_is_not_built() {
        let script = |value: &str| CspOptions::default().directive("script-src", value);
        let cases: [(CspOptions, &[&str]); 24] = [
            (
                script("'unsafe-inline'"),
                &["csp.script-src 'unsafe-inline'", "csp.script-src 'unsafe-inline'"],
            ),
            (script("'nonce' 'unsafe-eval'"), &["csp.script-src 'nonce' 'unsafe-eval'"]),
            (script("'nonce' 'strict-dynamic' https://cdn.example"), &["csp.script-src https://cdn.example"]),
            (script("'nonce' 'strict-dynamic' https:"), &["csp.script-src https:"]),
            (script("'nonce' https://cdn.example"), &["csp.script-src 'nonce' https://cdn.example"]),
            (script("'nonce' *"), &["csp.script-src 'nonce' *"]),
            (script("'nonce' https:"), &["csp.script-src 'nonce' https:"]),
            (script("'nonce' data:"), &["csp.script-src 'nonce' data:"]),
            (script("'self'"), &["csp.script-src 'self'"]),
            (script("nonce-abc"), &["csp.script-src nonce-abc", "csp.script-src nonce-abc"]),
            (script("'nonce-AAAAAAAAAAAAAAAAAAAAAA'"), &["csp.script-src 'nonce-AAAAAAAAAAAAAAAAAAAAAA'"]),
            (script("'nonce' 'unsafe-everything'"), &["csp.script-src 'unsafe-everything'"]),
            (script("'nonce' 'none'"), &["csp.script-src 'none'"]),
            (
                CspOptions::default().directive("script-src-attr", "'unsafe-inline'"),
                &["csp.script-src 'nonce' 'strict-dynamic'"],
            ),
            (CspOptions::default().directive("object-src", "'self'"), &["csp.object-src 'self'"]),
            (CspOptions::default().directive("base-uri", "'self'"), &["csp.base-uri 'self'"]),
            (CspOptions::default().directive("form-action", "*"), &["csp.form-action *"]),
            (CspOptions::default().directive("frame-ancestors", "https:"), &["csp.frame-ancestors https:"]),
            (
                CspOptions::default().directive("style-src", "'unsafe-inline'"),
                &["csp.style-src 'unsafe-inline'"],
            ),
            (CspOptions::default().directive("trusted-types", "*"), &["csp.trusted-types *"]),
            (CspOptions::default().directive("script-scr", "'none'"), &["csp.script-scr "]),
            (CspOptions::default().directive("img-src", "a,b"), &["csp.img-src a,b"]),
            (CspOptions::default().directive("img-src", "a;script-src"), &["csp.img-src a;script-src"]),
            (
                CspOptions::default().directive("img-src", "b\u{fc}cher.example"),
                &["csp.img-src b\u{fc}cher.example"],
            ),
        ];
        for (options, problems) in cases {
            assert_eq!(refused(options), problems);
        }
    }

    #[test]
    fn r086_everything_that_a_policy_lacks_is_named_at_once() {
        assert_eq!(
            refused(CspOptions::of("img-src *; img-src a")),
            [
                "csp.img-src img-src a",
                "csp.script-src ",
                "csp.script-src ",
                "csp.script-src ",
                "csp.object-src ",
                "csp.base-uri ",
                "csp.form-action ",
                "csp.frame-ancestors ",
                "csp.style-src ",
                "csp.style-src ",
                "csp.require-trusted-types-for ",
            ]
        );
        let whole = "script-src 'nonce'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'; \
                     style-src 'self'; require-trusted-types-for 'script'; trusted-types app";
        assert_eq!(CspOptions::of(whole).build().unwrap().weaknesses(), []);
        // What the browser treats as neutralised is not refused.
        let old = CspOptions::default().directive("script-src", "'nonce' 'strict-dynamic' 'unsafe-inline'");
        assert!(old.build().is_ok());
    }

    #[test]
    fn a_policy_is_opened_in_typed_ways_one_by_one() {
        let options = CspOptions::default()
            .allow(Resource::Image, "https://cdn.example")
            .allow(Resource::Image, "data:")
            .allow(Resource::Connect, "wss://live.example:8443")
            .allow(Resource::Form, "https://pay.example")
            .allow(Resource::Style, "https://cdn.example")
            .framed_by(&["https://partner.example"])
            .trusted_types(&["app", "dompurify"])
            .report_to("/.cloakroom/reports");
        let text = built(options.clone());
        for part in [
            "img-src 'self' https://cdn.example data:;",
            "connect-src 'self' wss://live.example:8443;",
            "form-action 'self' https://pay.example;",
            "frame-ancestors 'self' https://partner.example;",
            "style-src 'self' 'nonce-AAAAAAAAAAAAAAAAAAAAAA' https://cdn.example;",
            "trusted-types app dompurify",
            "report-to cloakroom-csp;",
            "report-uri /.cloakroom/reports;",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let csp = options.build().unwrap();
        assert_eq!(csp.reporting_endpoints().as_deref(), Some("cloakroom-csp=\"/.cloakroom/reports\""));
        assert_eq!(csp.endpoint(), Some("/.cloakroom/reports"));
    }

    #[test]
    fn what_opens_too_much_is_refused_where_it_is_said() {
        let options = CspOptions::default()
            .allow(Resource::Image, "*")
            .allow(Resource::Image, "http://cdn.example")
            .allow(Resource::Image, "https://*.cdn.example")
            .allow(Resource::Image, "https://cdn.example/x; script-src *")
            .allow(Resource::Style, "data:")
            .allow(Resource::Frame, "data:")
            .allow(Resource::Image, "wss://cdn.example")
            .framed_by(&["http://partner.example", "*"])
            .trusted_types(&["*", "a b"])
            .report_to("//evil.test")
            .report_to("http://example.org/")
            .report_to("/a;b");
        assert_eq!(refused(options).len(), 17);
        assert!(CspOptions::default().allow(Resource::Connect, "http://localhost:3000").build().is_ok());
    }

    #[test]
    fn what_is_insecure_wants_a_reason_and_then_is_built() {
        let opened = |reason: &str| {
            CspOptions::default()
                .insecure_eval(reason)
                .insecure_inline_styles(reason)
                .insecure_without_trusted_types(reason)
                .directive("base-uri", "'self'")
                .insecure_accept(Weakness::BaseUri, reason)
        };
        let csp = opened("an old component library").build().unwrap();
        let accepted =
            [Weakness::UnsafeEval, Weakness::BaseUri, Weakness::InlineStyles, Weakness::TrustedTypes];
        assert_eq!(csp.weaknesses(), accepted);
        assert_eq!(refused(opened(" ")).len(), 4);
    }
}
