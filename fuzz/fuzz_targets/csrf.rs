//! Reading a form token or a visitor's cookie never panics, and nobody makes one without the key.
#![no_main]

use cloakroom_core::clock::Timestamp;
use cloakroom_core::cookie::Cookie;
use cloakroom_core::csrf::{CSRF_TOKEN_LEN, VisitorCookie, VisitorKeys};
use cloakroom_core::entropy::{Entropy, EntropyError};
use cloakroom_core::seal::{Pepper, Peppers};
use libfuzzer_sys::fuzz_target;

struct Fixed;

impl Entropy for Fixed {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        bytes.fill(7);
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let (field, text) = data.split_at(data.len() / 2);
    let cookie = VisitorCookie::beside(&Cookie::default());
    let value = [cookie.cookie().name().as_bytes(), b"=", field].concat();
    let now = Timestamp::from_secs(1_800_000_000);
    let keys = VisitorKeys::of(&Peppers::new(Pepper::new(&[7; 32]).expect("a pepper"))).expect("keys");
    for fields in [vec![field], vec![&value], vec![&value, field]] {
        let Some(visitor) = cookie.find(fields.iter().copied()) else { continue };
        // What is read back is what was sent: a value has one spelling.
        let set = cookie.set(&visitor);
        let pair = set.expose().split(';').next().expect("a pair").to_owned();
        assert_eq!(cookie.find([pair.as_bytes()]), Some(visitor.clone()));
        assert!(!keys.verify(&visitor, text, now), "a made-up token was accepted");
        let token = keys.issue(&visitor, now, &Fixed).expect("a token");
        assert_eq!(token.expose().len(), CSRF_TOKEN_LEN);
        assert!(keys.verify(&visitor, token.expose().as_bytes(), now));
    }
});
