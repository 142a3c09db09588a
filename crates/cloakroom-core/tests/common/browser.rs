//! Browsers, and what goes to and fro between them and the desk.

use std::net::IpAddr;
use std::sync::Arc;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use cloakroom_core::client::Client;
use cloakroom_core::cookie::Cookie;
use cloakroom_core::data::Changes;
use cloakroom_core::engine::{Activity, CookieAction, Resumed};
use cloakroom_core::record::Subject;
use cloakroom_core::token::{Handle, Token};

use super::{CAFE, CHROME, FIREFOX, HOME};

/// A browser: it keeps the cookies it is given, and looks like one client on one network.
#[derive(Clone, Debug)]
pub struct Browser {
    /// The session cookie's value.
    pub jar: Option<String>,
    /// More copies of the cookie, as a hostile neighbour may plant; sent after the jar's.
    pub planted: Vec<String>,
    pub client: Client,
    pub activity: Activity,
}

impl Browser {
    pub fn new(agent: &str, address: &str) -> Self {
        let client = Client::recognise(agent.as_bytes(), address.parse::<IpAddr>().ok());
        Self { jar: None, planted: Vec::new(), client, activity: Activity::User }
    }

    /// Firefox at home.
    pub fn firefox() -> Self {
        Self::new(FIREFOX, HOME)
    }

    /// Chrome in a café: nothing like [`Browser::firefox`].
    pub fn stranger() -> Self {
        Self::new(CHROME, CAFE)
    }

    /// The same machine with another copy of the jar: a backup, a tab that lags, or a thief next to it.
    pub fn with(&self, token: &str) -> Self {
        Self { jar: Some(token.to_owned()), ..self.clone() }
    }

    /// This jar in the hands of another client.
    pub fn stolen_by(&self, thief: &Self) -> Self {
        Self { jar: self.jar.clone(), planted: Vec::new(), ..thief.clone() }
    }

    pub fn passive(mut self) -> Self {
        self.activity = Activity::Passive;
        self
    }

    pub fn token(&self) -> String {
        self.jar.clone().expect("the browser has a session cookie")
    }

    pub fn handle(&self) -> Handle {
        handle_of(&self.token())
    }

    /// Takes the cookie of a response.
    pub fn receive(&mut self, reply: &Reply) {
        match &reply.cookie {
            Some(CookieAction::Set(token)) => self.jar = Some(text(token)),
            Some(CookieAction::Remove) => self.jar = None,
            None => {}
        }
    }

    pub fn fields(&self, cookie: &Cookie) -> Vec<Vec<u8>> {
        let values = self.jar.iter().chain(&self.planted);
        vec![values.map(|v| format!("{}={v}", cookie.name())).collect::<Vec<_>>().join("; ").into_bytes()]
    }
}

pub fn text(token: &Token) -> String {
    token.expose().as_str().to_owned()
}

pub fn handle_of(token: &str) -> Handle {
    Token::parse(token.as_bytes()).expect("a token").handle()
}

/// The 48 bytes of a token.
pub fn bytes(token: &str) -> Vec<u8> {
    Base64UrlUnpadded::decode_vec(token).unwrap()
}

pub fn base64(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

/// A request between its halves.
#[derive(Debug)]
pub struct Request {
    pub resumed: Resumed,
    pub changes: Changes,
}

impl Request {
    pub fn subject(&self) -> Option<&str> {
        self.resumed.subject().map(Subject::as_str)
    }

    pub fn set(mut self, key: &str, json: &str) -> Self {
        self.changes.set(key.to_owned(), json.as_bytes().to_vec());
        self
    }

    /// Adds one to a number.
    pub fn count(mut self, key: &str) -> Self {
        let add = |stored: Option<&[u8]>| {
            let text = str::from_utf8(stored.unwrap_or(b"0")).map_err(|e| e.to_string())?;
            Ok((text.parse::<u64>().map_err(|e| e.to_string())? + 1).to_string().into_bytes())
        };
        self.changes.update(key.to_owned(), Arc::new(add));
        self
    }
}

/// A response.
#[derive(Clone, Debug)]
pub struct Reply {
    pub cookie: Option<CookieAction>,
    /// Who the request was served as.
    pub subject: Option<String>,
    /// Whether what the request stored was thrown away.
    pub discarded: bool,
}

impl Reply {
    /// The token that was handed out.
    pub fn handed(&self) -> Option<String> {
        match &self.cookie {
            Some(CookieAction::Set(token)) => Some(text(token)),
            _ => None,
        }
    }
}
