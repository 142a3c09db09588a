//! actix, and `actix-session` with the whole session in an encrypted cookie.

use std::hint::black_box;

use actix_http::Request;
use actix_session::storage::CookieSessionStore;
use actix_session::{Session, SessionMiddleware};
use actix_web::body::{MessageBody, to_bytes};
use actix_web::cookie::Key;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::{StatusCode, header};
use actix_web::test::{TestRequest, init_service};
use actix_web::{App as ActixApp, Error, HttpResponse, web};
use tokio::runtime::Runtime;

use crate::app::{Answer, Answering, App, FIELDS, Spec, Variant, pair};
use crate::payload::{TS, csrf, next, next_user, roles};

/// actix without sessions.
pub const BARE: Variant = Variant { name: "actix", bare: true, build: bare };

/// actix-session, with the session in an encrypted cookie.
pub const ACTIX_SESSION: Variant = Variant { name: "actix-session", bare: false, build: with_sessions };

fn bare(runtime: &Runtime) -> Box<dyn App> {
    async fn ok() -> HttpResponse {
        HttpResponse::new(StatusCode::OK)
    }
    let app = ActixApp::new()
        .route("/plain", web::get().to(ok))
        .service(web::resource("/one").route(web::get().to(ok)).route(web::post().to(ok)))
        .route("/four", web::get().to(ok))
        .route("/ts", web::get().to(ok))
        .route("/new", web::post().to(ok))
        .route("/login", web::post().to(ok));
    Box::new(Actix(runtime.block_on(init_service(app))))
}

type Outcome = Result<HttpResponse, Error>;

fn answer(found: bool) -> Outcome {
    Ok(HttpResponse::new(if found { StatusCode::OK } else { StatusCode::NO_CONTENT }))
}

async fn plain() -> Outcome {
    answer(true)
}

async fn read_one(session: Session) -> Outcome {
    answer(black_box(session.get::<u64>("user_id")?).is_some())
}

async fn read_four(session: Session) -> Outcome {
    let found = (
        session.get::<u64>("user_id")?,
        session.get::<String>("csrf")?,
        session.get::<Vec<String>>("roles")?,
        session.get::<u64>("ts")?,
    );
    answer(matches!(black_box(found), (Some(_), Some(_), Some(_), Some(_))))
}

async fn read_ts(session: Session) -> Outcome {
    Ok(HttpResponse::Ok().body(session.get::<u64>("ts")?.unwrap_or_default().to_string()))
}

async fn write_one(session: Session) -> Outcome {
    session.insert("ts", next())?;
    answer(true)
}

fn fill(session: &Session, user_id: u64) -> Outcome {
    session.insert("user_id", user_id)?;
    session.insert("csrf", csrf())?;
    session.insert("roles", roles())?;
    session.insert("ts", TS)?;
    answer(true)
}

async fn new(session: Session) -> Outcome {
    fill(&session, next())
}

async fn log_in(session: Session) -> Outcome {
    session.renew();
    fill(&session, next_user().0)
}

fn with_sessions(runtime: &Runtime) -> Box<dyn App> {
    let app = ActixApp::new()
        .route("/plain", web::get().to(plain))
        .service(web::resource("/one").route(web::get().to(read_one)).route(web::post().to(write_one)))
        .route("/four", web::get().to(read_four))
        .route("/ts", web::get().to(read_ts))
        .route("/new", web::post().to(new))
        .route("/login", web::post().to(log_in))
        .wrap(SessionMiddleware::new(CookieSessionStore::default(), Key::generate()));
    Box::new(Actix(runtime.block_on(init_service(app))))
}

struct Actix<S>(S);

fn request(spec: &Spec) -> Request {
    let method = spec.method.parse().expect("a method");
    let mut request = TestRequest::default().method(method).uri(spec.path);
    for field in FIELDS {
        request = request.insert_header(field);
    }
    if let Some(cookie) = &spec.cookie {
        request = request.insert_header((header::COOKIE, cookie.as_str()));
    }
    request.to_request()
}

impl<S, B> App for Actix<S>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    fn ask(&mut self, spec: &Spec) -> Answering<'_, Answer> {
        let request = request(spec);
        Box::pin(async move {
            let response = self.0.call(request).await.expect("an answer").map_into_boxed_body();
            let fields = response.headers().get_all(header::SET_COOKIE);
            let cookies = fields.filter_map(|field| field.to_str().ok()).map(pair).collect();
            let status = response.status().as_u16();
            let body = to_bytes(response.into_body()).await.expect("a short body");
            Answer { status, cookies, body: String::from_utf8_lossy(&body).into_owned() }
        })
    }

    fn run(&mut self, specs: &[Spec], expected: Option<u16>) -> Answering<'_, usize> {
        let requests = specs.iter().map(request).collect::<Vec<_>>();
        Box::pin(async move {
            let mut wrong = 0;
            for request in requests {
                let response = self.0.call(request).await.expect("an answer");
                wrong += usize::from(expected.is_some_and(|expected| response.status().as_u16() != expected));
            }
            wrong
        })
    }
}
