//! The tower-http peer: `ServeDir` on hyper, one thread, as its documentation has it.

use std::net::SocketAddr;
use std::path::Path;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower_http::services::ServeDir;

pub(crate) fn serve(root: &Path, address: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        let service = TowerToHyperService::new(ServeDir::new(root));
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let connection =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
            // A client that goes away is none of our business.
            tokio::spawn(async move { drop(connection.await) });
        }
    })
}
