//! A service that syncs send to: a server over TCP that keeps every request and answers as a test says.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its number, from 1.
    pub number: usize,
    pub method: String,
    pub path: String,
    /// By name in small letters.
    pub headers: BTreeMap<String, String>,
    pub body: String,
    pub at: Instant,
}

impl Request {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    pub fn key(&self) -> &str {
        &self.headers["idempotency-key"]
    }
}

/// What the service does with a request.
pub enum Reaction {
    Answer(u16, &'static str, String),
    /// Takes it and closes the connection.
    Drop,
    /// Answers after a while.
    Slow(Duration, u16),
}

pub fn ok() -> Reaction {
    Reaction::Answer(200, "", "{}".to_owned())
}

type Behaviour = Box<dyn Fn(&Request) -> Reaction + Send + Sync>;

struct Shared {
    requests: Mutex<Vec<Request>>,
    behaviour: Mutex<Behaviour>,
    running: AtomicUsize,
    most: AtomicUsize,
}

/// The service; it lives as long as the test binary.
pub struct Receiver {
    address: String,
    shared: Arc<Shared>,
}

impl Receiver {
    pub fn new(behaviour: impl Fn(&Request) -> Reaction + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            behaviour: Mutex::new(Box::new(behaviour)),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let all = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&all);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Forgets what came and behaves otherwise from now on.
    pub fn now(&self, behaviour: impl Fn(&Request) -> Reaction + Send + Sync + 'static) {
        *self.shared.behaviour.lock().unwrap() = Box::new(behaviour);
        self.shared.requests.lock().unwrap().clear();
    }

    /// Most requests that were answered at once.
    pub fn most_at_once(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        let Some(mut request) = read(&mut reader) else { return };
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        {
            let mut requests = self.requests.lock().unwrap();
            request.number = requests.len() + 1;
            requests.push(request.clone());
        }
        let reaction = (self.behaviour.lock().unwrap())(&request);
        let (status, headers, body) = match reaction {
            Reaction::Answer(status, headers, body) => (status, headers, body),
            Reaction::Slow(pause, status) => {
                std::thread::sleep(pause);
                (status, "", String::new())
            }
            Reaction::Drop => {
                self.running.fetch_sub(1, Ordering::SeqCst);
                return;
            }
        };
        self.running.fetch_sub(1, Ordering::SeqCst);
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}");
        let _ = reader.get_mut().write_all(answer.as_bytes());
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).unwrap();
    Some(Request { number: 0, method, path, headers, body, at: Instant::now() })
}
