//! Where to go after a form: a path of this site, or the front page.
//!
//! The target travels through the browser, so anybody can write one. A link to the login page that leads to another
//! site after a *real* login is a classic of phishing (CWE-601).

/// The longest target that is kept, in bytes.
const MAX: usize = 1024;

/// A path of this site, with its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReturnTarget(String);

impl ReturnTarget {
    /// Reads a target. `None` for whatever is not plainly a path of this site.
    ///
    /// An allow-list of characters, not a deny-list: no browser reads what passes as anything but a path. Colons are
    /// out (no scheme), and so are backslashes (some browsers take them for slashes), control characters (browsers
    /// drop some of them, and a line break would end the header), a fragment, and anything that is not ASCII.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (text, None),
        };
        let segments = path.strip_prefix('/')?;
        let plain = text.len() <= MAX
            && !path.contains("//")
            && segments.split('/').all(|segment| !matches!(segment, "." | ".."))
            // An encoded slash, backslash or dot can become a plain one further on.
            && escapes(path).is_some_and(|bytes| !bytes.iter().any(|byte| matches!(byte, b'/' | b'\\' | b'.')))
            && path.bytes().all(|byte| is_plain(byte) || byte == b'/')
            && query.is_none_or(|query| {
                escapes(query).is_some() && query.bytes().all(|byte| is_plain(byte) || matches!(byte, b'/' | b'?'))
            });
        plain.then(|| Self(text.to_owned()))
    }

    /// Reads the target of a login. Not the login page itself: it would only ask for the password once more.
    pub(crate) fn after_login(text: &str) -> Self {
        match Self::parse(text) {
            Some(target) if !matches!(target.path(), "/login" | "/logout" | "/.cloakroom/signed-out") => {
                target
            }
            _ => Self::home(),
        }
    }

    /// The front page.
    pub(crate) fn home() -> Self {
        Self("/".to_owned())
    }

    /// Path and query, as given.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The target as the value of a query parameter.
    pub(crate) fn as_parameter(&self) -> String {
        let mut value = String::with_capacity(self.0.len());
        for character in self.0.chars() {
            match character {
                '%' => value.push_str("%25"),
                '&' => value.push_str("%26"),
                '+' => value.push_str("%2B"),
                other => value.push(other),
            }
        }
        value
    }

    /// Whether this application answers there, not the gateway.
    pub(crate) fn is_ours(&self) -> bool {
        !self.path().starts_with("/.cloakroom/")
    }

    fn path(&self) -> &str {
        self.0.split_once('?').map_or(self.as_str(), |(path, _)| path)
    }
}

/// The characters that need no second look, and `%`, which [`escapes`] looks at.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%' | b'&' | b'=' | b'+' | b',' | b'!')
}

/// What the percent escapes stand for. `None` if one is malformed or stands for a control character.
fn escapes(text: &str) -> Option<Vec<u8>> {
    let mut found = Vec::new();
    for part in text.split('%').skip(1) {
        let byte = u8::from_str_radix(part.get(..2)?, 16).ok()?;
        // `from_str_radix` takes a sign.
        if part.starts_with('+') || byte.is_ascii_control() {
            return None;
        }
        found.push(byte);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::ReturnTarget;

    #[test]
    fn r121_only_a_plain_path_of_this_site_is_a_return_target() {
        for (name, text, kept) in [
            ("the front page", "/", true),
            ("a page", "/notes", true),
            ("a page with a query", "/notes?page=2&sort=new", true),
            ("a gateway's page", "/.cloakroom/sessions", true),
            ("a path in a query", "/search?from=/notes", true),
            ("escaped letters", "/%C3%A9t%C3%A9?q=%C3%A9+a%2Fb", true),
            ("nothing", "", false),
            ("a relative path", "notes", false),
            ("a host without a scheme", "//evil.example", false),
            ("three slashes", "///evil.example", false),
            ("two slashes later", "/notes//evil.example", false),
            ("another site", "https://evil.example", false),
            ("a scheme without slashes", "javascript:alert(1)", false),
            ("a scheme after the slash", "/javascript:alert(1)", false),
            ("a backslash", "/\\evil.example", false),
            ("two backslashes", "\\\\evil.example", false),
            ("an encoded backslash", "/%5cevil.example", false),
            ("an encoded backslash in capitals", "/%5Cevil.example", false),
            ("an encoded slash", "/%2fevil.example", false),
            ("dot segments", "/.cloakroom/../../evil", false),
            ("a dot segment at the end", "/notes/..", false),
            ("an encoded dot segment", "/.cloakroom/%2e%2e/evil", false),
            ("line breaks", "/notes\r\nSet-Cookie: a=b", false),
            ("encoded line breaks", "/notes%0d%0aSet-Cookie:%20a=b", false),
            ("encoded line breaks in the query", "/notes?a=%0d%0a", false),
            ("a tab, which browsers drop", "/\t/evil.example", false),
            ("a space in front", " /notes", false),
            ("an escape cut short", "/notes%2", false),
            ("an escape that is none", "/notes%zz", false),
            ("an escape with a sign", "/notes%+1", false),
            ("an escape across a letter of two bytes", "/notes%aé", false),
            ("a fragment", "/notes#top", false),
            ("a user and a host", "/@evil.example", false),
            ("not ASCII", "/noteś", false),
            ("markup", "/\"><b>", false),
        ] {
            assert_eq!(ReturnTarget::parse(text).is_some(), kept, "{name}: {text:?}");
        }
        assert!(ReturnTarget::parse(&format!("/{}", "a".repeat(1023))).is_some());
        assert!(ReturnTarget::parse(&format!("/{}", "a".repeat(1024))).is_none());
    }

    #[test]
    fn a_login_does_not_lead_back_to_the_login_page() {
        for (text, target) in [
            ("/notes", "/notes"),
            ("/login", "/"),
            ("/login?return=/notes", "/"),
            ("/logout", "/"),
            ("/.cloakroom/signed-out", "/"),
            ("/.cloakroom/sessions", "/.cloakroom/sessions"),
            ("//evil.example", "/"),
        ] {
            assert_eq!(ReturnTarget::after_login(text).as_str(), target, "{text}");
        }
    }

    #[test]
    fn a_target_survives_being_a_parameter() {
        let target = ReturnTarget::after_login("/notes?a=1&b=%C3%A9+c");
        assert_eq!(target.as_parameter(), "/notes?a=1%26b=%25C3%25A9%2Bc");
    }
}
