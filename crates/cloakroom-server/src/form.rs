//! A field of a request's form: found in the beginning of the body, which then goes on its way byte for byte.

use std::time::Duration;

use bytes::BytesMut;
use cloakroom::core::csrf_form::{Search, TokenField};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;

use crate::body::Stream;

/// Looks for a field in a form.
#[derive(Debug)]
pub struct Form(TokenField);

/// A body in which a field was looked for.
#[derive(Debug)]
pub struct Sought {
    /// How it came out.
    pub search: Search,
    /// The field's value; empty where there is none.
    pub value: Vec<u8>,
    /// The body, from its first byte.
    pub body: Stream,
}

impl Form {
    /// Prepares for a request's body, of which at most `max` bytes are read; `None` if its one `Content-Type` is none of a form.
    pub fn of(headers: &HeaderMap, field: &str, max: usize) -> Option<Self> {
        let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
        let kind = kinds.next().map(HeaderValue::as_bytes)?;
        if kinds.next().is_some() {
            return None;
        }
        TokenField::of(kind, field, max).map(Self)
    }

    /// Reads until the field is there, the body ends, or enough was read.
    ///
    /// # Errors
    ///
    /// The status for the client: 400 if the body breaks off, 408 if nothing more comes for as long as `patience`.
    pub async fn seek(mut self, mut body: Stream, patience: Duration) -> Result<Sought, StatusCode> {
        let mut read = BytesMut::new();
        let mut search = Search::More;
        while search == Search::More {
            let frame = tokio::time::timeout(patience, body.frame()).await;
            search = match frame.map_err(|_| StatusCode::REQUEST_TIMEOUT)? {
                None => self.0.end(),
                Some(Err(error)) if error.is_slow() => return Err(StatusCode::REQUEST_TIMEOUT),
                Some(Err(_)) => return Err(StatusCode::BAD_REQUEST),
                Some(Ok(frame)) => match frame.data_ref() {
                    None => Search::More,
                    Some(data) => {
                        read.extend_from_slice(data);
                        self.0.push(data)
                    }
                },
            };
        }
        Ok(Sought { search, value: self.0.value().to_vec(), body: body.after(read.freeze()) })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Channel;

    use super::*;

    fn form(content_type: &'static str, max: usize) -> Option<Form> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Form::of(&headers, "cloakroom_csrf", max)
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_body_that_was_looked_into_is_the_same_as_before() {
        let text = format!("note={}&cloakroom_csrf=abc&more={}", "x".repeat(500), "y".repeat(500));
        for max in [1, 500, 505, 520, 525, 1000, 5000] {
            let form = form("application/x-www-form-urlencoded", max).unwrap();
            let sought = form.seek(Stream::from(text.clone()), MINUTE).await.unwrap();
            let found = max > 520;
            assert_eq!(sought.search == Search::Found, found, "{max} {:?}", sought.search);
            assert_eq!(sought.value, if found { &b"abc"[..] } else { b"" }, "{max}");
            assert_eq!(sought.body.collect().await.unwrap().to_bytes(), text.as_bytes(), "{max}");
        }
        let none =
            form("application/x-www-form-urlencoded", 10).unwrap().seek(Stream::default(), MINUTE).await;
        assert_eq!(none.unwrap().search, Search::Absent);
        assert!(form("application/json", 10).is_none() && form("text/plain", 10).is_none());
        let mut two = HeaderMap::new();
        for _ in 0..2 {
            two.append(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        }
        assert!(Form::of(&two, "cloakroom_csrf", 10).is_none());
    }

    #[tokio::test]
    async fn no_more_is_read_than_is_needed() {
        let (mut client, body) = Channel::<Bytes, std::io::Error>::new(1);
        client.send_data(Bytes::from_static(b"cloakroom_csrf=abc&file=")).await.unwrap();
        let form = form("application/x-www-form-urlencoded", 1000).unwrap();
        // The rest never comes while the field is looked for.
        let sought = form.seek(Stream::through(body), MINUTE).await.unwrap();
        assert_eq!(sought.value, b"abc");
        let rest = tokio::spawn(sought.body.collect());
        client.send_data(Bytes::from_static(b"rest")).await.unwrap();
        drop(client);
        assert_eq!(rest.await.unwrap().unwrap().to_bytes(), "cloakroom_csrf=abc&file=rest");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_breaks_off_or_stalls_is_the_clients_doing() {
        let seek = async |body| {
            let form = form("application/x-www-form-urlencoded", 10).unwrap();
            form.seek(Stream::through(body), MINUTE).await.err()
        };
        let (client, body) = Channel::<Bytes, std::io::Error>::new(1);
        assert_eq!(seek(body).await, Some(StatusCode::REQUEST_TIMEOUT));
        drop(client);
        let (client, body) = Channel::<Bytes, std::io::Error>::new(1);
        client.abort(std::io::Error::other("gone"));
        assert_eq!(seek(body).await, Some(StatusCode::BAD_REQUEST));
    }
}
