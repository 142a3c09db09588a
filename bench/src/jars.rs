//! The whole session in a signed or an encrypted cookie, through `axum-extra`.

use std::hint::black_box;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum_extra::extract::cookie::{Cookie, Key, SameSite};
use axum_extra::extract::{PrivateCookieJar, SignedCookieJar};

use crate::app::{Tower, Variant};
use crate::payload::{Payload, next, next_user};

/// A signed cookie: its client can read it.
pub const SIGNED: Variant =
    Variant { name: "signed-cookie", bare: false, build: |_| Tower::boxed(signed::routes()) };

/// An encrypted cookie.
pub const PRIVATE: Variant =
    Variant { name: "private-cookie", bare: false, build: |_| Tower::boxed(private::routes()) };

fn cookie(payload: &Payload) -> Cookie<'static> {
    let text = serde_json::to_string(payload).expect("a payload has a JSON form");
    let cookie = Cookie::build(("sid", text)).path("/").secure(true).http_only(true);
    cookie.same_site(SameSite::Lax).build()
}

fn payload(cookie: Option<Cookie<'static>>) -> Option<Payload> {
    serde_json::from_str(cookie?.value()).ok()
}

fn answer(found: bool) -> StatusCode {
    if found { StatusCode::OK } else { StatusCode::NO_CONTENT }
}

async fn plain() -> StatusCode {
    StatusCode::OK
}

macro_rules! jar {
    ($module:ident, $jar:ident) => {
        mod $module {
            use super::*;

            async fn read(jar: $jar) -> StatusCode {
                answer(black_box(payload(jar.get("sid"))).is_some())
            }
            async fn read_ts(jar: $jar) -> String {
                payload(jar.get("sid")).map_or(0, |payload| payload.ts).to_string()
            }
            async fn write_one(jar: $jar) -> ($jar, StatusCode) {
                let Some(mut payload) = payload(jar.get("sid")) else { return (jar, StatusCode::NO_CONTENT) };
                payload.ts = next();
                (jar.add(cookie(&payload)), StatusCode::OK)
            }
            async fn new(jar: $jar) -> ($jar, StatusCode) {
                (jar.add(cookie(&Payload::of(next()))), StatusCode::OK)
            }
            async fn log_in(jar: $jar) -> ($jar, StatusCode) {
                (jar.add(cookie(&Payload::of(next_user().0))), StatusCode::OK)
            }
            pub(super) fn routes() -> Router {
                Router::new()
                    .route("/plain", get(plain))
                    .route("/one", get(read).post(write_one))
                    .route("/four", get(read))
                    .route("/ts", get(read_ts))
                    .route("/new", post(new))
                    .route("/login", post(log_in))
                    .with_state(Key::generate())
            }
        }
    };
}

jar!(signed, SignedCookieJar);
jar!(private, PrivateCookieJar);
