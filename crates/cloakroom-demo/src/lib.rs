//! The demo application behind the gateway.
