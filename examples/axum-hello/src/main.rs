//! Runs the smallest application: `cargo run -p axum-hello`, then <http://127.0.0.1:3000>.

use std::net::SocketAddr;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    // Tells the layer where clients come from.
    let app = axum_hello::app()?.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).await?;
    Ok(())
}
