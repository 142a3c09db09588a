//! An application under measurement, and the one for tower services.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;

use axum::body::{Body, to_bytes};
use axum::response::Response;
use http::{Request, header};
use tokio::runtime::Runtime;
use tower::Service;

pub type Answering<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A request to be made.
#[derive(Clone, Debug)]
pub struct Spec {
    pub method: &'static str,
    pub path: &'static str,
    /// The whole `Cookie` field.
    pub cookie: Option<String>,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// `name=value` of each cookie that was set.
    pub cookies: Vec<String>,
    pub body: String,
}

/// The fields beside `Cookie` that every request has: a browser's, shortened.
pub const FIELDS: [(&str, &str); 4] = [
    ("host", "app.example"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-GB,en;q=0.7,cs;q=0.3"),
];

/// An application, called without a socket.
pub trait App {
    /// Makes one request and looks at the answer.
    fn ask(&mut self, spec: &Spec) -> Answering<'_, Answer>;

    /// Makes the requests now, and answers them when the future is polled: only that is measured. Returns how many
    /// answers had another status than expected.
    fn run(&mut self, specs: &[Spec], expected: Option<u16>) -> Answering<'_, usize>;
}

/// Something that keeps sessions, in one way or another.
pub struct Variant {
    pub name: &'static str,
    /// The framework alone: has no sessions.
    pub bare: bool,
    pub build: fn(&Runtime) -> Box<dyn App>,
}

/// The name and value of a `Set-Cookie` field.
pub fn pair(set_cookie: &str) -> String {
    set_cookie.split(';').next().unwrap_or_default().to_owned()
}

/// A tower service as an application.
pub struct Tower<S>(pub S);

impl<S> Tower<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + 'static,
{
    /// Puts it behind the common interface.
    pub fn boxed(service: S) -> Box<dyn App> {
        Box::new(Self(service))
    }
}

fn request(spec: &Spec) -> Request<Body> {
    let mut request = Request::builder().method(spec.method).uri(spec.path);
    for (name, value) in FIELDS {
        request = request.header(name, value);
    }
    if let Some(cookie) = &spec.cookie {
        request = request.header(header::COOKIE, cookie);
    }
    request.body(Body::empty()).expect("a request of constants")
}

async fn call<S>(service: &mut S, request: Request<Body>) -> Response
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
{
    let Ok(()) = std::future::poll_fn(|cx| service.poll_ready(cx)).await;
    let Ok(response) = service.call(request).await;
    response
}

impl<S> App for Tower<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
{
    fn ask(&mut self, spec: &Spec) -> Answering<'_, Answer> {
        let request = request(spec);
        Box::pin(async move {
            let response = call(&mut self.0, request).await;
            let (head, body) = response.into_parts();
            let fields = head.headers.get_all(header::SET_COOKIE).iter();
            let cookies = fields.filter_map(|field| field.to_str().ok()).map(pair).collect();
            let body = to_bytes(body, 65_536).await.expect("a short body");
            Answer {
                status: head.status.as_u16(),
                cookies,
                body: String::from_utf8_lossy(&body).into_owned(),
            }
        })
    }

    fn run(&mut self, specs: &[Spec], expected: Option<u16>) -> Answering<'_, usize> {
        let requests = specs.iter().map(request).collect::<Vec<_>>();
        Box::pin(async move {
            let mut wrong = 0;
            for request in requests {
                let response = call(&mut self.0, request).await;
                wrong += usize::from(expected.is_some_and(|expected| response.status() != expected));
            }
            wrong
        })
    }
}
