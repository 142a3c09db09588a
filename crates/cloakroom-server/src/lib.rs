//! The gateway: sessions in front of an application in any language.
//!
//! A request's way: [`edge`] judges its head (where it comes from: [`border`]), the session layer puts its session beside it, [`desk`] looks for a form token where
//! one is needed ([`csrf`]), tells the application and passes it on ([`upstream`]), and [`obey`] carries out what the response
//! commands. [`protection`] puts the security headers on whatever leaves.

pub mod body;
pub mod border;
pub mod bound;
pub mod commands;
pub mod config;
mod connection;
pub mod csrf;
mod date;
pub mod desk;
pub mod edge;
mod errand;
pub mod form;
pub mod forwarded;
pub mod frames;
pub mod headers;
pub mod health;
pub mod held;
pub mod hosts;
mod inspect;
pub mod language;
mod linger;
pub mod listen;
pub mod login;
pub mod login_flow;
pub mod obey;
pub mod open;
pub mod pace;
pub mod pages;
pub mod path;
mod pool;
pub mod problem;
pub mod protection;
pub mod protocol;
mod relay;
pub mod routes;
mod seldom;
pub mod serve;
pub mod signals;
pub mod tls;
pub mod tunnel;
pub mod upstream;
mod wire;
