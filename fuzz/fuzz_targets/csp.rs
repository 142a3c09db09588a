//! Assessing policies never panics; another policy never weakens a response; and what is sent beside a weak one closes what it leaves open.
#![no_main]

use cloakroom_core::csp::{Blocked, Csp, CspOptions, Nonce, Violation, assess};
use cloakroom_core::entropy::{Entropy, EntropyError};
use libfuzzer_sys::fuzz_target;

struct Fixed;

impl Entropy for Fixed {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        bytes.fill(7);
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    // Newlines part the fields of one response.
    let fields: Vec<&str> = text.split('\n').collect();
    let (csp, nonce) = (Csp::default(), Nonce::draw(&Fixed).expect("there is randomness"));
    let weaknesses = assess(&fields);
    assert_eq!(assess(&[fields.as_slice(), &[&csp.header(&nonce)]].concat()), []);
    match csp.mend(&fields, &nonce) {
        None => assert_eq!(weaknesses, []),
        Some(more) => {
            assert_ne!(weaknesses, []);
            assert_eq!(assess(&[fields.as_slice(), &[&more]].concat()), [], "{more}");
        }
    }
    // What is built is one field of printable ASCII, and strict.
    if let Ok(own) = CspOptions::of(text).build() {
        let field = own.header(&nonce);
        assert!(field.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b','), "{field}");
        assert_eq!(assess(&[&field]), []);
    }
    let violation = Violation::read(text, text, text, text);
    assert!(
        violation.path.is_none_or(|path| path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?'))
    );
    if let Blocked::Origin(origin) = violation.blocked {
        assert!(!origin.to_string().contains('@'));
    }
});
