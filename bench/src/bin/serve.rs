//! Serves one variant to the load generator.

use anyhow::{Context as _, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let variant = arguments.next().context("usage: serve VARIANT [PLACE]")?;
    cloakroom_bench::serve::main(&variant, &arguments.next().unwrap_or_default()).await
}
