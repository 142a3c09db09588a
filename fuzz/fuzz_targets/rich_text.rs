//! A text becomes bounded, and what comes of it is always taken again and stays as it is. `scripts/fuzz` limits the memory.
#![no_main]

use cloakroom::{RICH_TEXT_MAX, RichText};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    if let Ok(once) = RichText::sanitise(&text) {
        assert!(once.as_html().len() <= RICH_TEXT_MAX);
        assert_eq!(RichText::sanitise(once.as_html()).as_ref(), Ok(&once), "{text:?}");
    }
});
