//! A small HTTP/1.1 server: one answer for each connection, made by a closure.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// What was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// Names in small letters.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|one| one.0 == name).map(|one| one.1.as_str())
    }

    /// The first byte that is wanted.
    pub(crate) fn range(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The connection breaks after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// Nothing more comes after the body's cut part, and the connection stays, until the server is dropped.
    pub(crate) stall: bool,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, headers: Vec::new(), body: body.into(), cut: None, stall: false }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn cut(mut self, at: usize) -> Answer {
        self.cut = Some(at);
        self
    }

    /// A blob, as far as the request wants it.
    pub(crate) fn part(of: &[u8], request: &Request) -> Answer {
        match request.range() {
            Some(from) if from >= of.len() => Answer::new(416, ""),
            Some(from) => Answer::new(206, &of[from..])
                .with("Content-Range", format!("bytes {from}-{}/{}", of.len() - 1, of.len())),
            None => Answer::new(200, of),
        }
    }
}

type Handler = dyn Fn(&Request, usize) -> Answer + Send + Sync;

/// The server; it ends when dropped.
pub(crate) struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    log: Arc<Mutex<Vec<Request>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `handler` is given the request, and how often its path was asked for before.
    pub(crate) fn new(handler: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let log: Arc<Mutex<Vec<Request>>> = Arc::default();
        let handler: Arc<Handler> = Arc::new(handler);
        let (stopped, logged) = (stop.clone(), log.clone());
        let thread = thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                if stopped.load(SeqCst) {
                    break;
                }
                let (handler, logged, stopped) = (handler.clone(), logged.clone(), stopped.clone());
                open.push(thread::spawn(move || serve(&stream.unwrap(), &*handler, &logged, &stopped)));
            }
            open.into_iter().for_each(|one| one.join().unwrap());
        });
        Server { address, stop, log, thread: Some(thread) }
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// Those whose path contains `part`.
    pub(crate) fn asked(&self, part: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.path.contains(part)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(stream: &TcpStream, handler: &Handler, log: &Mutex<Vec<Request>>, stop: &AtomicBool) {
    let Some(request) = read(stream) else { return };
    let before = {
        let mut log = log.lock().unwrap();
        let before = log.iter().filter(|one| one.path == request.path).count();
        log.push(request.clone());
        before
    };
    let answer = handler(&request, before);
    let mut head = format!(
        "HTTP/1.1 {} x\r\nConnection: close\r\nContent-Length: {}\r\n",
        answer.status,
        answer.body.len()
    );
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let end = answer.cut.unwrap_or(answer.body.len()).min(answer.body.len());
    let mut stream = stream;
    // The client may have gone: that is its affair.
    drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&answer.body[..end])));
    while answer.stall && !stop.load(SeqCst) {
        thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|got| *got > 0)?;
    let mut words = line.split(' ');
    let mut request =
        Request { method: words.next()?.to_owned(), path: words.next()?.to_owned(), ..Request::default() };
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    std::io::Read::read_exact(&mut reader, &mut body).ok()?;
    request.body = String::from_utf8_lossy(&body).into_owned();
    Some(request)
}
