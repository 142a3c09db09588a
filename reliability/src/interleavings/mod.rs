//! Every order of the store steps of two or three things that happen to one session at once.
//!
//! A browser is logged in. Two (or three) actors come at the same moment, each through a gateway of its own: requests that carry the
//! browser's cookie as it was before any of them was answered, an administrator's "end all sessions", a sweep, the passing of
//! the limit. Each step, an actor's arrival or one of its store calls, waits at a [`Gate`](crate::gate::Gate) until the
//! scheduler lets it go; it is then carried out to its end before the next. The scheduler goes through **all** orders, depth first,
//! each from a fresh start. No order depends on luck or load. A step is never divided: that a store's operation is atomic is
//! what the store suite's parallel checks and the recorded [`histories`](crate::histories) show, for memory in particular that
//! each operation holds one lock from beginning to end.
//!
//! # The rule
//!
//! What comes of an order must be what comes of **some sequential order** of the same actors ("one after the other, each
//! complete before the next arrives"). These are carried out, not imagined, and the [`Outcome`]s are compared: what became of each
//! session and why, the data, the status and cookie of each response, what each token in the client's hands opens afterwards.
//! How many secrets there are, which session belongs to whom and whether activity was noted is part of it. Only these
//! differences are allowed, and each leaves the client in a state that a sequential order allows too:
//!
//! 1. **A successor may be missing.** A response that would have carried the successor of a *scheduled* rotation may carry no
//!    cookie: it was overtaken, and housekeeping is dropped rather than repeated. The secret in hand stays good, and the next request
//!    receives the successor. Never may two *different* successors be handed out.
//! 2. **A dead cookie may be missing.** A cookie that opens nothing any more may be withheld.
//! 3. **A login that a revoke-all overtakes is refused** (409, no cookie) as if it had come just before and had been ended by it. It
//!    has ended the session that the browser presented, or the revoke-all has.
//! 4. **A login that arrives while a revoke-all is under way** may be admitted, as if it had come after it, and yet have been the one that
//!    ended the session that the browser presented: a login is two steps, that one and the insert.
//! 5. **A request that is too late is anonymous.** If the limit passes between a request's look-up and its verdict, the request is served
//!    as anonymous, what it stores is thrown away and its response leaves the cookie alone, also where another request has
//!    noted activity in between. It then counts as not having come.
//!
//! 6. **A change in a session that ends beneath its request** is dropped with an event after the application was told of success. Just
//!    after the end it would have been refused (409), and nothing else differs.
//!
//! Besides, whatever the sequential orders say:
//!
//! - **Nobody is signed out by accident**: the cookie that the browser ends up with opens a session, unless a logout, a revoke-all or
//!   the limit was among the actors or a login was refused. Responses are taken to arrive in the order of their last store calls.
//! - **One live secret at the end**: once that cookie has been used and the grace has passed, exactly one of all
//!   secrets that were ever handed out opens the session.
//! - **No stray sessions**: a session that lives is one that a client was told of.
//! - **A login that succeeds has ended** the session that the browser had, and none that began before a revoke-all survives it.
//! - **Seen to have expired, gone for good**: a session that a later request did not get for its age does not live in the end,
//!   unless a write was under way to the store already when the limit passed.
//! - **Another device's session** of the same user goes on, unless all are revoked.

mod actor;
mod explore;
mod outcome;
mod stage;

pub use actor::Actor;
pub use explore::{Found, Variant, alone, explore};
pub use outcome::{Cookie, Fate, Outcome};
