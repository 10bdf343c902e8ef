//! A TCP relay that breaks each connection after so many bytes have come back through it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, JoinHandle};

pub(crate) struct Proxy {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// To the server at `to`.
    pub(crate) fn new(to: String, bytes: usize) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (stop.clone(), connections.clone());
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(SeqCst) {
                    return;
                }
                count.fetch_add(1, SeqCst);
                let (client, server) = (stream.unwrap(), TcpStream::connect(&to).unwrap());
                thread::spawn(move || relay(&client, &server, bytes));
            }
        });
        Proxy { address, stop, connections, thread: Some(thread) }
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// How many there were.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn relay(client: &TcpStream, server: &TcpStream, bytes: usize) {
    let (mut asks, mut asked) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let up = thread::spawn(move || drop(std::io::copy(&mut asks, &mut asked)));
    let (mut answers, mut to) = (server, client);
    let mut left = bytes;
    let mut buffer = [0; 4096];
    while left > 0 {
        let want = left.min(buffer.len());
        match answers.read(&mut buffer[..want]) {
            Ok(got) if got > 0 && to.write_all(&buffer[..got]).is_ok() => left -= got,
            _ => break,
        }
    }
    drop(client.shutdown(Shutdown::Both));
    drop(server.shutdown(Shutdown::Both));
    drop(up.join());
}
