//! Rich text of users, made harmless.

use std::collections::HashSet;
use std::fmt;
use std::sync::LazyLock;

use ammonia::{Builder, UrlRelative};
use serde::{Deserialize, Deserializer, Serialize, de};

/// The longest text that is taken, in bytes.
pub const RICH_TEXT_MAX: usize = 64 * 1024;

/// HTML that a user wrote, and that went through a sanitiser: formatting, lists, tables and links to other sites stay; scripts, styles,
/// event handlers, images, frames, forms, ids and classes do not.
///
/// There is no other way to make one: reading it from a form, JSON or a session (`Deserialize`) sanitises too. Show it without
/// escaping, for instance by askama's `safe` filter; a text that was meant to be plain is escaped instead, which is the default.
///
/// ```
/// use cloakroom::RichText;
///
/// let text = RichText::sanitise("<b onclick=alert(1)>tea</b><script>alert(1)</script>")?;
/// assert_eq!(text.as_html(), "<b>tea</b>");
/// # Ok::<(), cloakroom::TooLong>(())
/// ```
///
/// # Security
///
/// Only between tags, as the content of an element of HTML: not in an attribute, a script, a style or a comment. The content security
/// policy is the second line, for what a sanitiser misses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct RichText(String);

/// A text is longer than [`RICH_TEXT_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rich text has at most 65536 bytes")]
pub struct TooLong;

static SANITISER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut builder = Builder::default();
    builder
        // Images tell their host who looks, and the page's policy would refuse them.
        .rm_tags(["area", "img", "map"])
        .url_schemes(HashSet::from(["http", "https", "mailto"]))
        // Links into the application look like the application's own.
        .url_relative(UrlRelative::Deny)
        .link_rel(Some("noopener noreferrer nofollow"));
    builder
});

impl RichText {
    /// Sanitises a text.
    ///
    /// # Errors
    ///
    /// [`TooLong`] for more than [`RICH_TEXT_MAX`] bytes.
    pub fn sanitise(text: &str) -> Result<Self, TooLong> {
        if text.len() > RICH_TEXT_MAX {
            return Err(TooLong);
        }
        Ok(Self(SANITISER.clean(text).to_string()))
    }

    /// The HTML, for the content of an element.
    pub fn as_html(&self) -> &str {
        &self.0
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.trim().is_empty()
    }
}

impl fmt::Display for RichText {
    /// The HTML. Templates that escape show it as text, which is safe, if ugly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RichText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::sanitise(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
