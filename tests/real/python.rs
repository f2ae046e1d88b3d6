//! The server and the client of grpcio, as processes of a Python that has it.

use std::{
    env, fs,
    fs::File,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
};

const NEEDS: &str = "import grpc, grpc_health.v1.health, grpc_status.rpc_status, google.rpc";

/// `EVENKEEL_PYTHON`, else `python3`.
static PYTHON: LazyLock<String> =
    LazyLock::new(|| env::var("EVENKEEL_PYTHON").unwrap_or_else(|_| "python3".to_owned()));

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// # Panics
/// With one sentence, if this Python has no grpcio.
fn python() -> Command {
    let checked = Command::new(&*PYTHON)
        .args(["-c", NEEDS])
        .stderr(Stdio::null())
        .status();
    assert!(
        checked.is_ok_and(|status| status.success()),
        "`{}` has no grpcio: set EVENKEEL_PYTHON to a Python with grpcio, grpcio-health-checking and grpcio-status, \
         or run .ci/run, which prepares one",
        *PYTHON
    );
    Command::new(&*PYTHON)
}

/// A running server with a temporary directory of its own. It stops when dropped.
pub struct GrpcioServer {
    process: Child,
    port: u16,
    directory: PathBuf,
}

impl GrpcioServer {
    pub fn start() -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("evenkeel-real-{}-{number}", process::id()));
        let mut command = python();
        fs::create_dir_all(&directory).expect("a temporary directory");
        let log = File::create(directory.join("stderr")).expect("a file in it");
        let mut process = command
            .arg(script("server.py"))
            .current_dir(&directory)
            // Python ends when this pipe does, however the test ends.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("it just ran");
        let mut line = String::new();
        let told = process.stdout.take().expect("it is piped");
        let read = BufReader::new(told).read_line(&mut line);
        let port = read.ok().and_then(|_| line.trim().parse().ok());
        let port = port.unwrap_or_else(|| {
            let log = fs::read_to_string(directory.join("stderr"));
            panic!("the server did not start: {}", log.unwrap_or_default())
        });
        Self {
            process,
            port,
            directory,
        }
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Calls the server once by grpcio's own client with its own retries; the code that the call ended with.
    pub fn call_by_grpcio(&self, name: &str, steps: &str, max_attempts: u32) -> i32 {
        let output = Command::new(&*PYTHON)
            .arg(script("client.py"))
            .args([&self.port.to_string(), name, steps])
            .arg(max_attempts.to_string())
            .output()
            .expect("the server runs by it");
        let told = String::from_utf8_lossy(&output.stdout);
        told.trim()
            .parse()
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }
}

impl Drop for GrpcioServer {
    fn drop(&mut self) {
        // Nothing can be done about a failure here.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
