//! Rich text is made harmless.
#![cfg(feature = "sanitise")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use cloakroom::{RICH_TEXT_MAX, RichText, RichTextError};
use proptest::prelude::*;

#[test]
fn rich_text_keeps_formatting_and_nothing_that_acts() {
    for (text, kept) in [
        ("<p>tea &amp; <em>cake</em></p>", "<p>tea &amp; <em>cake</em></p>"),
        ("<script>alert(1)</script>tea", "tea"),
        ("<b onmouseover=alert(1) style=color:red class=x id=y>tea</b>", "<b>tea</b>"),
        ("<img src=x onerror=alert(1)>", ""),
        ("<svg onload=alert(1)><style>*{}</style></svg>", ""),
        ("<a href=\"javascript:alert(1)\">x</a>", "<a rel=\"noopener noreferrer nofollow\">x</a>"),
        ("<a href=\" jAvA\tscript:alert(1)\">x</a>", "<a rel=\"noopener noreferrer nofollow\">x</a>"),
        ("<a href=\"data:text/html,x\">x</a>", "<a rel=\"noopener noreferrer nofollow\">x</a>"),
        ("<a href=\"/logout\">x</a>", "<a rel=\"noopener noreferrer nofollow\">x</a>"),
        (
            "<a href=\"https://a.test/\">x</a>",
            "<a href=\"https://a.test/\" rel=\"noopener noreferrer nofollow\">x</a>",
        ),
        ("<iframe src=x></iframe><form action=x><input name=password></form><base href=//evil.test>", ""),
        ("<math><mi//xlink:href=\"data:x,<script>alert(1)</script>\">", ""),
        ("<!--><img src=x onerror=alert(1)>-->", "--&gt;"),
    ] {
        let once = RichText::sanitise(text).unwrap();
        assert_eq!(once.as_html(), kept, "{text}");
        assert_eq!(RichText::sanitise(kept).unwrap().as_html(), kept, "a second time changes nothing");
        let json = serde_json::to_string(text).unwrap();
        assert_eq!(serde_json::from_str::<RichText>(&json).unwrap(), once, "reading it sanitises too");
    }
    assert!(RichText::sanitise(&"x".repeat(RICH_TEXT_MAX + 1)).is_err());
    assert!(RichText::sanitise(" \n").unwrap().is_empty());
}

/// What one small text would become without bounds.
fn bombs() -> Vec<(&'static str, String)> {
    let distinct =
        |tag: &str, count: usize| (0..count).map(|n| format!("<{tag} x{n:x}>")).collect::<String>();
    let attributes = |count: usize| (0..count).map(|n| format!(" a{n:x}")).collect::<String>();
    vec![
        ("formatting in each paragraph", format!("<p>{}{}", distinct("b", 1500), "<p>x".repeat(4000))),
        ("within the depth", format!("<p>{}{}", distinct("i", 200), "<p>x".repeat(8000))),
        ("one with many attributes", format!("<p><b{}>{}", attributes(4000), "<p>x".repeat(8000))),
        ("a long link", format!("<p><a href=https://a.test/{}>{}", "x".repeat(30_000), "<p>x".repeat(8000))),
        ("the adoption agency", format!("<p>{}{}", distinct("font", 1500), "<b><p></b>".repeat(4000))),
        ("only depth", "<div>".repeat(13_000)),
        ("foreign depth", format!("<svg>{}", "<g>".repeat(20_000))),
        ("templates", "<template>".repeat(6_500)),
        ("tables", "<table><td>".repeat(5_900)),
    ]
}

#[test]
fn a_small_text_that_would_become_a_large_tree_is_refused_before_there_is_one() {
    for (name, bomb) in bombs() {
        assert!(bomb.len() <= RICH_TEXT_MAX, "{name}");
        assert_eq!(RichText::sanitise(&bomb), Err(RichTextError::TooIntricate), "{name}");
    }
}

#[test]
fn what_people_write_is_nowhere_near_the_bounds() {
    let row = format!("<tr>{}</tr>", "<td class=\"cell\">12</td>".repeat(8));
    for (name, text) in [
        ("a long article", "<p>Tea is <b>hot</b>, <i>sometimes</i>.</p>".repeat(1500)),
        ("a large table", format!("<table>{}</table>", row.repeat(250))),
        ("a thread of quotes", format!("{}x{}", "<blockquote>".repeat(100), "</blockquote>".repeat(100))),
        ("bold that nobody closed", format!("<b><i>{}", "<p>tea".repeat(5000))),
    ] {
        assert!(text.len() <= RICH_TEXT_MAX, "{name}: {}", text.len());
        let kept = RichText::sanitise(&text).map(|text| text.as_html().len());
        assert!(kept.as_ref().is_ok_and(|len| *len > text.len() / 4), "{name}: {kept:?}");
    }
}

#[test]
fn a_text_that_grows_beyond_what_would_be_taken_again_is_refused_at_once() {
    for (name, text, taken) in [
        ("ampersands", "&".repeat(RICH_TEXT_MAX / 5), true),
        ("one more", "&".repeat(RICH_TEXT_MAX / 5 + 1), false),
        ("links", "<a>x</a>".repeat(RICH_TEXT_MAX / 8), false),
    ] {
        match RichText::sanitise(&text) {
            Ok(once) => assert!(taken && RichText::sanitise(once.as_html()) == Ok(once.clone()), "{name}"),
            Err(error) => assert!(!taken && error == RichTextError::TooLong, "{name}: {error}"),
        }
    }
}

/// Pieces that HTML's rules do the most with.
fn piece() -> impl Strategy<Value = String> {
    let tag = prop::sample::select(vec![
        "p",
        "b",
        "i",
        "a",
        "nobr",
        "font",
        "div",
        "table",
        "tr",
        "td",
        "caption",
        "ul",
        "li",
        "dd",
        "h1",
        "h2",
        "svg",
        "math",
        "mi",
        "annotation-xml",
        "foreignObject",
        "desc",
        "title",
        "style",
        "script",
        "textarea",
        "select",
        "option",
        "template",
        "button",
        "form",
        "br",
        "hr",
        "pre",
        "noscript",
        "plaintext",
        "ruby",
        "rt",
        "details",
        "summary",
        "marquee",
    ]);
    let texts = vec![
        "x",
        " ",
        "\n",
        "&amp;",
        "&lt;",
        "&",
        "<",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "\0",
        "\"",
        "<?",
        "</",
    ];
    prop_oneof![
        4 => tag.clone().prop_map(|tag| format!("<{tag}>")),
        2 => tag.clone().prop_map(|tag| format!("<{tag} href=https://a.test/ title='\"<b>' x>")),
        4 => tag.prop_map(|tag| format!("</{tag}>")),
        2 => prop::sample::select(texts).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ]
}

proptest! {
    #[test]
    fn what_was_sanitised_is_always_taken_again_and_stays_as_it_is(
        pieces in prop::collection::vec(piece(), 0..60),
    ) {
        let text = pieces.concat();
        if let Ok(once) = RichText::sanitise(&text) {
            let again = RichText::sanitise(once.as_html());
            prop_assert_eq!(again.as_ref().map(RichText::as_html), Ok(once.as_html()));
            prop_assert!(!once.as_html().contains("<script") && !once.as_html().contains("<style"));
        } else {
            prop_assert!(text.len() > 200, "so small a text is taken: {:?}", text);
        }
    }
}
