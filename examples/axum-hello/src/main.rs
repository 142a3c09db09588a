//! Runs the smallest application: `cargo run -p axum-hello`, then <http://127.0.0.1:3000>.

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, axum_hello::app()?).await?;
    Ok(())
}
