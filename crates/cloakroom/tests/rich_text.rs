//! Rich text is made harmless.
#![cfg(feature = "sanitise")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use cloakroom::{RICH_TEXT_MAX, RichText};

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
