//! Rich text of users, made harmless.

mod measure;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::LazyLock;

use ammonia::{Builder, UrlRelative};
use serde::{Deserialize, Deserializer, Serialize, de};

/// The longest text that is taken, in bytes, and the longest that comes of it.
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
/// # Ok::<(), cloakroom::RichTextError>(())
/// ```
///
/// # Security
///
/// Only between tags, as the content of an element of HTML: not in an attribute, a script, a style or a comment. The content security
/// policy is the second line, for what a sanitiser misses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct RichText(String);

/// A text cannot be taken. The fault is its author's, and trying again does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RichTextError {
    /// It is longer than [`RICH_TEXT_MAX`], or became so: special characters and links grow.
    #[error("a rich text has at most 65536 bytes")]
    TooLong,
    /// It becomes more than 32,768 elements and attributes, or is nested more than some 250 levels deep. No text that
    /// people write comes near.
    #[error("a rich text has fewer elements, and is not nested as deeply")]
    TooIntricate,
}

/// How often a text is sanitised at most until that changes nothing any more. Twice is the rule.
const ROUNDS_MAX: usize = 4;

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
    /// Sanitises a text. What comes of it is always taken again, and stays as it is.
    ///
    /// # Errors
    ///
    /// [`RichTextError`] for a text that is too long, or that would become too large a tree.
    pub fn sanitise(text: &str) -> Result<Self, RichTextError> {
        let mut text = Cow::Borrowed(text);
        for _ in 0..ROUNDS_MAX {
            if text.len() > RICH_TEXT_MAX {
                return Err(RichTextError::TooLong);
            }
            if !measure::is_bounded(&text) {
                return Err(RichTextError::TooIntricate);
            }
            let clean = SANITISER.clean(&text).to_string();
            if clean == text {
                return Ok(Self(clean));
            }
            text = Cow::Owned(clean);
        }
        Err(RichTextError::TooIntricate)
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
