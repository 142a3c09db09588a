//! The kinds of request that are measured.

/// What a request presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// No cookie at all.
    None,
    /// The cookie of a live session, alone.
    Own,
    /// The same, among three others, as in a browser that has been here for a while.
    Among,
    /// A genuine cookie of another deployment: well-formed, and unknown here.
    Foreign,
    /// Something that cannot be a token.
    Malformed,
}

/// One kind of request.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub name: &'static str,
    pub method: &'static str,
    pub path: &'static str,
    pub credential: Credential,
    /// What a variant with sessions must answer.
    pub status: u16,
}

const fn case(
    name: &'static str,
    method: &'static str,
    path: &'static str,
    credential: Credential,
    status: u16,
) -> Case {
    Case { name, method, path, credential, status }
}

/// All cases, in the order in which they run. Those that add sessions come last.
pub const CASES: &[Case] = &[
    case("no-cookie", "GET", "/plain", Credential::None, 200),
    case("untouched", "GET", "/plain", Credential::Own, 200),
    case("untouched-among-4", "GET", "/plain", Credential::Among, 200),
    case("malformed-untouched", "GET", "/plain", Credential::Malformed, 200),
    case("read-no-cookie", "GET", "/one", Credential::None, 204),
    case("read-one", "GET", "/one", Credential::Own, 200),
    case("read-one-among-4", "GET", "/one", Credential::Among, 200),
    case("read-four", "GET", "/four", Credential::Own, 200),
    case("malformed", "GET", "/one", Credential::Malformed, 204),
    case("unknown", "GET", "/one", Credential::Foreign, 204),
    case("write-one", "POST", "/one", Credential::Own, 200),
    case("new", "POST", "/new", Credential::None, 200),
    case("login", "POST", "/login", Credential::None, 200),
];

/// Finds a case by its name.
pub fn find(name: &str) -> Option<Case> {
    CASES.iter().copied().find(|case| case.name == name)
}
