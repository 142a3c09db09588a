//! What browsers report, reduced to what may be counted and logged.

use std::fmt;

use serde::Deserialize;

use super::source::DIRECTIVES;
use crate::origin::Origin;

/// Reports in one message that are looked at; a browser sends few at a time.
pub const REPORTS_MAX: usize = 32;
/// Characters of a document's path that are kept.
const PATH_MAX: usize = 256;
/// Characters of a reported value that are looked at.
const TEXT_MAX: usize = 4096;

/// One refusal that a browser reports (CSP3 section 5), without anything of a URL that may be secret: no query, no
/// fragment, no user information; of another site not even the path.
///
/// # Security
///
/// Anybody can send a report, with anything in it. A count of them says that somebody says so; who counts by
/// [`Blocked`] must limit how many different ones are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The directive that was violated, or `other` if it is none that we know.
    pub directive: &'static str,
    /// What was refused.
    pub blocked: Blocked,
    /// The path of the page; `None` if it has none or is not printable ASCII. Paths can name people and things: know
    /// your own.
    pub path: Option<String>,
    /// Whether it was in fact refused.
    pub disposition: Disposition,
}

/// Whether a policy was enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// It was: the browser refused.
    #[default]
    Enforced,
    /// It was not: the browser would have refused.
    ReportOnly,
}

/// What a browser refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Blocked {
    /// Script or style in the page itself.
    Inline,
    /// Text that was to become code.
    Eval,
    /// WebAssembly that was to be compiled.
    WasmEval,
    /// Plain text in a dangerous function.
    TrustedTypesSink,
    /// The making of a Trusted Types policy.
    TrustedTypesPolicy,
    /// Something of the site itself.
    Own,
    /// Made-up content: `data:`, `blob:`, `filesystem:`, `about:` or `javascript:`.
    MadeUp,
    /// Something that an extension of the browser put into the page, which is mostly noise.
    Extension,
    /// Something of an origin; `ws` and `wss` count as `http` and `https`.
    Origin(Origin),
    /// Anything else.
    Other,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline => f.write_str("inline"),
            Self::Eval => f.write_str("eval"),
            Self::WasmEval => f.write_str("wasm-eval"),
            Self::TrustedTypesSink => f.write_str("trusted-types-sink"),
            Self::TrustedTypesPolicy => f.write_str("trusted-types-policy"),
            Self::Own => f.write_str("self"),
            Self::MadeUp => f.write_str("made-up"),
            Self::Extension => f.write_str("extension"),
            Self::Origin(origin) => origin.fmt(f),
            Self::Other => f.write_str("other"),
        }
    }
}

impl Blocked {
    fn read(text: &str) -> Self {
        const KEYWORDS: [(&str, Blocked); 9] = [
            // Browsers of before CSP3 leave it empty.
            ("", Blocked::Inline),
            ("inline", Blocked::Inline),
            ("eval", Blocked::Eval),
            ("wasm-eval", Blocked::WasmEval),
            ("trusted-types-sink", Blocked::TrustedTypesSink),
            ("trusted-types-policy", Blocked::TrustedTypesPolicy),
            ("self", Blocked::Own),
            ("data", Blocked::MadeUp),
            ("blob", Blocked::MadeUp),
        ];
        if let Some((_, known)) = KEYWORDS.iter().find(|(keyword, _)| *keyword == text) {
            return known.clone();
        }
        let Some((scheme, rest)) = text.split_once(':') else {
            return if text == "about" { Self::MadeUp } else { Self::Other };
        };
        let secure = match scheme {
            "https" | "wss" => true,
            "http" | "ws" => false,
            "data" | "blob" | "filesystem" | "about" | "javascript" => return Self::MadeUp,
            scheme if scheme.ends_with("extension") => return Self::Extension,
            _ => return Self::Other,
        };
        let Some(authority) = rest.strip_prefix("//").and_then(|rest| rest.split(['/', '?', '#']).next())
        else {
            return Self::Other;
        };
        let origin = format!("{}://{authority}", if secure { "https" } else { "http" });
        Origin::parse(&origin).map_or(Self::Other, Self::Origin)
    }
}

impl Violation {
    /// Reduces a report's values. `directive` may be a whole directive, as older browsers send it; its name counts.
    pub fn read(directive: &str, blocked: &str, document: &str, disposition: &str) -> Self {
        let name = directive.split_ascii_whitespace().next().unwrap_or_default();
        let known = DIRECTIVES.into_iter().find(|known| *known == name);
        Self {
            directive: known.unwrap_or("other"),
            blocked: Blocked::read(limited(blocked)),
            path: path(limited(document)),
            disposition: match disposition {
                "report" => Disposition::ReportOnly,
                _ => Disposition::Enforced,
            },
        }
    }
}

/// The beginning of a text; a cut one names no secret more than a whole one.
fn limited(text: &str) -> &str {
    text.get(..TEXT_MAX).unwrap_or(if text.len() > TEXT_MAX { "?" } else { text })
}

fn path(document: &str) -> Option<String> {
    let (scheme, rest) = document.split_once("://")?;
    let rest = rest.split(['?', '#']).next()?;
    let path = rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or("/");
    let printable = path.bytes().all(|b| b.is_ascii_graphic());
    (matches!(scheme, "http" | "https") && printable).then(|| path.get(..PATH_MAX).unwrap_or(path).to_owned())
}

/// The message of `report-uri`: one report, of media type `application/csp-report`. Read it with a JSON parser, from a
/// body of limited size.
#[derive(Clone, Deserialize)]
pub struct LegacyReport {
    #[serde(rename = "csp-report")]
    report: LegacyBody,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct LegacyBody {
    effective_directive: Option<String>,
    violated_directive: Option<String>,
    blocked_uri: Option<String>,
    document_uri: Option<String>,
    disposition: Option<String>,
}

impl LegacyReport {
    /// What is kept of it.
    pub fn violation(&self) -> Violation {
        let report = &self.report;
        let directive = report.effective_directive.as_deref().filter(|name| !name.is_empty());
        Violation::read(
            directive.or(report.violated_directive.as_deref()).unwrap_or_default(),
            report.blocked_uri.as_deref().unwrap_or_default(),
            report.document_uri.as_deref().unwrap_or_default(),
            report.disposition.as_deref().unwrap_or_default(),
        )
    }
}

impl fmt::Debug for LegacyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.violation().fmt(f)
    }
}

/// One report of the Reporting API. The message, of media type `application/reports+json`, is an array of them: read it
/// with a JSON parser, from a body of limited size, and look at no more than [`REPORTS_MAX`].
#[derive(Clone, Deserialize)]
pub struct ApiReport {
    #[serde(rename = "type")]
    kind: String,
    body: Option<ApiBody>,
}

#[derive(Clone, Default, Deserialize)]
struct ApiBody {
    #[serde(rename = "effectiveDirective")]
    effective_directive: Option<String>,
    #[serde(rename = "blockedURL")]
    blocked_url: Option<String>,
    #[serde(rename = "documentURL")]
    document_url: Option<String>,
    disposition: Option<String>,
}

impl ApiReport {
    /// What is kept of it; `None` if it is a report of something else.
    pub fn violation(&self) -> Option<Violation> {
        let body = self.body.as_ref().filter(|_| self.kind == "csp-violation")?;
        Some(Violation::read(
            body.effective_directive.as_deref().unwrap_or_default(),
            body.blocked_url.as_deref().unwrap_or_default(),
            body.document_url.as_deref().unwrap_or_default(),
            body.disposition.as_deref().unwrap_or_default(),
        ))
    }
}

impl fmt::Debug for ApiReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.violation().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_report_say_the_same() {
        let legacy: LegacyReport = serde_json::from_str(
            r#"{"csp-report": {"document-uri": "https://example.org/account/7?reset=s3cret#frag", "referrer": "https://x/",
                "violated-directive": "script-src-elem", "effective-directive": "script-src-elem",
                "original-policy": "script-src 'nonce-abc'", "disposition": "enforce", "status-code": 200,
                "blocked-uri": "https://evil.test/steal.js?c=s3cret", "script-sample": ""}}"#,
        )
        .unwrap();
        let api: Vec<ApiReport> = serde_json::from_str(
            r#"[{"age": 1, "type": "csp-violation", "url": "https://example.org/account/7?reset=s3cret", "user_agent": "x",
                "body": {"blockedURL": "https://evil.test/steal.js?c=s3cret", "disposition": "enforce", "sample": "x",
                "documentURL": "https://example.org/account/7?reset=s3cret", "effectiveDirective": "script-src-elem",
                "lineNumber": 3, "statusCode": 200}},
               {"age": 1, "type": "deprecation", "url": "https://example.org/", "body": {"id": "x"}},
               {"age": 1, "type": "csp-violation", "url": "https://example.org/", "body": null}]"#,
        )
        .unwrap();
        let violation = Violation {
            directive: "script-src-elem",
            blocked: Blocked::Origin(Origin::parse("https://evil.test").unwrap()),
            path: Some("/account/7".to_owned()),
            disposition: Disposition::Enforced,
        };
        assert_eq!(legacy.violation(), violation);
        let violations: Vec<_> = api.iter().map(ApiReport::violation).collect();
        assert_eq!(violations, [Some(violation), None, None]);
        assert!(!format!("{legacy:?} {api:?}").contains("s3cret"));
    }

    #[test]
    fn of_what_was_refused_the_origin_or_the_kind_is_kept() {
        let table = [
            ("", "inline"),
            ("inline", "inline"),
            ("eval", "eval"),
            ("wasm-eval", "wasm-eval"),
            ("trusted-types-sink", "trusted-types-sink"),
            ("trusted-types-policy", "trusted-types-policy"),
            ("self", "self"),
            ("data", "made-up"),
            ("data:text/html,s3cret", "made-up"),
            ("blob:https://example.org/5b", "made-up"),
            ("about", "made-up"),
            ("about:blank", "made-up"),
            ("javascript:s3cret", "made-up"),
            ("chrome-extension://abc/x.js", "extension"),
            ("moz-extension", "other"),
            ("safari-web-extension://abc", "extension"),
            ("https://evil.test", "https://evil.test"),
            ("https://evil.test:8443/a/b?c#d", "https://evil.test:8443"),
            ("https://evil.test?s3cret", "https://evil.test"),
            ("https://evil.test#s3cret", "https://evil.test"),
            ("wss://evil.test/live", "https://evil.test"),
            ("ws://evil.test", "http://evil.test"),
            ("https://user:s3cret@evil.test/", "other"),
            ("https:s3cret", "other"),
            ("https://s3cret s3cret/", "other"),
            ("https://", "other"),
            ("s3cret", "other"),
            ("ftp://evil.test/", "other"),
            ("\u{1b}[31m", "other"),
        ];
        for (text, expected) in table {
            assert_eq!(Blocked::read(text).to_string(), expected, "{text:?}");
        }
        let long = format!("https://evil.test/{}", "\u{e9}".repeat(5000));
        assert!(matches!(
            Violation::read("img-src", &long, &long, "").blocked,
            Blocked::Other | Blocked::Origin(_)
        ));
    }

    #[test]
    fn a_report_may_say_anything_and_little_of_it_is_kept() {
        let kept = |directive, document| {
            let violation = Violation::read(directive, "inline", document, "report");
            (violation.directive, violation.path, violation.disposition)
        };
        let path = |path: &str| (Some(path.to_owned()), Disposition::ReportOnly);
        let with = |directive, (path, disposition)| (directive, path, disposition);
        assert_eq!(kept("img-src 'self' https://a", "https://example.org"), with("img-src", path("/")));
        assert_eq!(kept("s3cret", "http://example.org/a%20b"), with("other", path("/a%20b")));
        for hostile in [
            "",
            "x",
            "data:text/html,x",
            "about:srcdoc",
            "https://a/\nlog line",
            "https://a/\u{fc}",
            "ftp://a/b",
        ] {
            assert_eq!(kept("IMG-SRC", hostile), ("other", None, Disposition::ReportOnly), "{hostile:?}");
        }
        let long = kept("img-src", &format!("https://a/{}", "b".repeat(3000))).1.unwrap();
        assert_eq!(long.len(), PATH_MAX);
    }
}
