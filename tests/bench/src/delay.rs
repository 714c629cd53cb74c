//! Distance: a proxy before each host that holds every byte back for a while, on its way there and back.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::Result;

/// Pieces on their way in one direction, at most.
const PIECES_MAX: usize = 1024;
/// Bytes of a piece, at most.
const PIECE_BYTES: usize = 16 * 1024;

/// The proxies; they end with it.
pub(crate) struct Delay {
    /// Where each of them listens.
    pub(crate) port: u16,
    _runtime: tokio::runtime::Runtime,
}

impl Delay {
    /// One for each of these addresses, to `port` there.
    pub(crate) fn start(addresses: Vec<IpAddr>, port: u16, one_way: Duration) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mut at = 0;
        for address in addresses {
            let listener = runtime.block_on(TcpListener::bind((address, at)))?;
            at = listener.local_addr()?.port();
            runtime.spawn(async move {
                while let Ok((near, _)) = listener.accept().await {
                    tokio::spawn(carry(near, SocketAddr::new(address, port), one_way));
                }
            });
        }
        Ok(Self { port: at, _runtime: runtime })
    }
}

async fn carry(near: TcpStream, to: SocketAddr, one_way: Duration) {
    // Whoever connected sees a connection that ends.
    let Ok(far) = TcpStream::connect(to).await else { return };
    if near.set_nodelay(true).is_err() || far.set_nodelay(true).is_err() {
        return;
    }
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    tokio::join!(one_direction(near_read, far_write, one_way), one_direction(far_read, near_write, one_way));
}

async fn one_direction(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    one_way: Duration,
) {
    let (send, mut receive) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let read = async move {
        let mut buffer = vec![0; PIECE_BYTES];
        while let Ok(n) = from.read(&mut buffer).await {
            if n == 0 || send.send((Instant::now() + one_way, buffer[..n].to_vec())).await.is_err() {
                break;
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = receive.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // The other end has gone, or goes now.
        drop(to.shutdown().await);
    };
    tokio::join!(read, write);
}
