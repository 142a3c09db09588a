//! A small browser for tests: one connection a request, and a cookie jar that keeps what a real one would.
#![allow(clippy::expect_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// Serves an axum application on a free loopback port until the test's runtime ends.
///
/// # Panics
///
/// If no port can be had.
pub async fn serve(app: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
    let address = listener.local_addr().expect("a bound listener has an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Cookies by name, for one host. Keeps and refuses what a browser does on loopback (RFC 6265bis section 5.7).
#[derive(Clone, Debug, Default)]
pub struct CookieJar(BTreeMap<String, String>);

impl CookieJar {
    /// Takes a `Set-Cookie` field; returns whether a browser would have accepted it.
    pub fn take(&mut self, set_cookie: &str) -> bool {
        let mut parts = set_cookie.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { return false };
        let attributes =
            parts.map(|attribute| attribute.split_once('=').unwrap_or((attribute, ""))).collect::<Vec<_>>();
        let attribute = |wanted: &str| {
            attributes.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|&(_, value)| value)
        };
        let lower = name.to_ascii_lowercase();
        let secure = attribute("Secure").is_some();
        let host = secure && attribute("Path") == Some("/") && attribute("Domain").is_none();
        let http = secure && attribute("HttpOnly").is_some();
        let too_large = name.len() + value.len() > 4096;
        let refused = too_large
            || (lower.starts_with("__host-") && !host)
            || (lower.starts_with("__host-http-") && !http)
            || (lower.starts_with("__http-") && !http)
            || (lower.starts_with("__secure-") && !secure);
        if refused {
            return false;
        }
        if attribute("Max-Age") == Some("0") {
            self.0.remove(name);
        } else {
            self.0.insert(name.to_owned(), value.to_owned());
        }
        true
    }

    /// The `Cookie` field to send; `None` if there is nothing to send.
    pub fn field(&self) -> Option<String> {
        let pairs = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// The value of a cookie.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Puts a cookie in, as a thief would.
    pub fn plant(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Page {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, as text.
    pub body: String,
}

impl Page {
    /// The first field of a name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A browser on one server. Follows no redirects by itself; see [`Browser::follow`].
#[derive(Clone, Debug)]
pub struct Browser {
    server: SocketAddr,
    /// Its cookies.
    pub jar: CookieJar,
    /// Its `User-Agent`.
    pub user_agent: String,
}

impl Browser {
    /// Opens a browser with an empty jar.
    pub fn new(server: SocketAddr) -> Self {
        Self {
            server,
            jar: CookieJar::default(),
            user_agent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".to_owned(),
        }
    }

    /// Gets a page.
    pub async fn get(&mut self, path: &str) -> Page {
        self.send(Method::GET, path, "").await
    }

    /// Submits a form.
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let body = fields.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value)));
        self.send(Method::POST, path, &body.collect::<Vec<_>>().join("&")).await
    }

    /// Gets the page that a redirect leads to; the page itself if it is none.
    pub async fn follow(&mut self, page: Page) -> Page {
        match page.header("location").map(str::to_owned) {
            Some(path) => self.get(&path).await,
            None => page,
        }
    }

    async fn send(&mut self, method: Method, path: &str, body: &str) -> Page {
        let mut request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(header::HOST, self.server.to_string())
            .header(header::USER_AGENT, &self.user_agent)
            .header("sec-fetch-site", "same-origin");
        if method == Method::POST {
            request = request
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .header(header::ORIGIN, format!("http://{}", self.server));
        }
        if let Some(field) = self.jar.field() {
            request = request.header(header::COOKIE, field);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a well-formed request");
        let stream = TcpStream::connect(self.server).await.expect("the server accepts connections");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("an HTTP/1.1 server");
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await.expect("a response");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        drop(sender);
        connection.abort();
        for field in head.headers.get_all(header::SET_COOKIE) {
            let field = field.to_str().expect("a readable cookie");
            assert!(self.jar.take(field), "a browser drops {field}");
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        Page { status: head.status, headers: head.headers, body }
    }
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
