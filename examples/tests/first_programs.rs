//! The small programs, run as a user runs them: their exact output and how they end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;

/// Runs a program, which must succeed and print nothing to standard error.
fn run(program: &str, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = Command::new(program).args(arguments).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(status.success() && stderr.is_empty(), "{status}: {stderr}");
    String::from_utf8(stdout).unwrap()
}

#[test]
fn hello() {
    assert_eq!(run(env!("CARGO_BIN_EXE_hello"), &[]), "\"Hello\"\n");
}

#[test]
fn counter() {
    let expected = "Message: 0, Total: 0\n\
                    Message: 1, Total: 1\n\
                    Message: 2, Total: 3\n\
                    Message: 3, Total: 6\n\
                    Message: 4, Total: 10\n";
    assert_eq!(run(env!("CARGO_BIN_EXE_counter"), &[]), expected);
}

#[test]
fn udp_game() {
    let mut expected = "Increment by: 0, Total: 0\n\
                        Increment by: 1, Total: 1\n\
                        Increment by: 2, Total: 3\n\
                        Increment by: 3, Total: 6\n\
                        Increment by: 4, Total: 10\n"
        .to_owned();
    for total in (0..10).rev() {
        expected += &format!("Timeout\nDecremented, Total: {total}\n");
    }
    // Two at a time: their ports must not collide.
    let other = thread::spawn(|| run(env!("CARGO_BIN_EXE_udp_game"), &["--period", "20"]));
    assert_eq!(run(env!("CARGO_BIN_EXE_udp_game"), &["--period", "25ms"]), expected);
    assert_eq!(other.join().unwrap(), expected);
}

#[test]
fn udp_game_refuses_an_invalid_period() {
    for period in ["0", "soon", "5 weeks", "-3"] {
        let output = Command::new(env!("CARGO_BIN_EXE_udp_game"))
            .arg(format!("--period={period}"))
            .output()
            .unwrap();
        assert!(!output.status.success());
        assert!(
            String::from_utf8(output.stderr).unwrap().contains("--period"),
            "the error names the flag"
        );
    }
}

/// A running `echo`; killed if the test fails half-way.
struct Echo {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Echo {
    fn start(arguments: &[&str]) -> Echo {
        Echo::spawn(Command::new(env!("CARGO_BIN_EXE_echo")).args(arguments))
    }

    fn spawn(command: &mut Command) -> Echo {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Echo { child, stdout }
    }

    /// The address on the next line, which must be of this kind.
    fn address(&mut self, kind: &str) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end()
            .strip_prefix(&format!("{kind} "))
            .unwrap_or_else(|| panic!("{kind}: {line:?}"))
            .to_owned()
    }

    /// Waits until it uses (nearly) no processor time while another program runs for a quarter of a
    /// second.
    fn assert_falls_asleep(&self) {
        if !cfg!(target_os = "linux") {
            return;
        }
        let calm = (0..10).any(|_| {
            let before = self.processor_ticks();
            run(env!("CARGO_BIN_EXE_udp_game"), &["--period", "25ms"]);
            self.processor_ticks() - before <= 2
        });
        assert!(calm, "the server is busy with a client that does not read");
    }

    /// User and system time so far, in hundredths of a second, from Linux's `/proc`.
    fn processor_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // "pid (name) state ...": counted from after the name, they are the twelfth and thirteenth.
        let after_name = stat.rsplit(") ").next().unwrap();
        after_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// Ends it with a signal and returns its standard error.
    fn stop(mut self, signal: &str) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {errors}");
        errors
    }
}

/// Sends a payload from another thread while reading it back, then closes the writing half and
/// expects the rest and the end.
fn exchange<S: Read + Write + Send + 'static>(
    mut reader: S,
    mut writer: S,
    finish: impl FnOnce(&S) + Send + 'static,
) {
    let payload: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let sent = payload.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        finish(&writer);
    });
    let mut received = Vec::new();
    reader.read_to_end(&mut received).unwrap();
    assert!(received == payload, "{} bytes came back of {}", received.len(), payload.len());
    writing.join().unwrap();
}

fn exchange_tcp(address: &str) {
    let stream = TcpStream::connect(address).unwrap();
    exchange(stream.try_clone().unwrap(), stream, |stream| {
        stream.shutdown(Shutdown::Write).unwrap()
    });
}

fn exchange_unix(path: &Path) {
    let stream = UnixStream::connect(path).unwrap();
    exchange(stream.try_clone().unwrap(), stream, |stream| {
        stream.shutdown(Shutdown::Write).unwrap()
    });
}

fn exchange_udp(address: &str) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    for size in [0, 1, 1400, 60_000] {
        let payload: Vec<u8> = (0..size).map(|index| index as u8).collect();
        socket.send(&payload).unwrap();
        let mut buffer = vec![0; 65_536];
        let count = socket.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..count], payload);
    }
}

#[test]
fn echo_serves_all_three_at_once_until_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("echo");
    let mut echo = Echo::start(&[
        "--tcp",
        "127.0.0.1:0",
        "--tcp",
        "127.0.0.1:0",
        "--udp",
        "127.0.0.1:0",
        "--unix",
        path.to_str().unwrap(),
    ]);
    let (first, second) = (echo.address("tcp"), echo.address("tcp"));
    assert_eq!(echo.address("unix"), path.to_str().unwrap());
    let udp = echo.address("udp");
    thread::scope(|scope| {
        scope.spawn(|| exchange_tcp(&first));
        scope.spawn(|| exchange_tcp(&second));
        scope.spawn(|| exchange_unix(&path));
        scope.spawn(|| exchange_udp(&udp));
    });
    assert_eq!(echo.stop("-INT"), "");
    assert!(!path.exists(), "it removes its Unix socket");
}

#[test]
fn echo_ends_with_sigterm_while_clients_are_connected() {
    let mut echo = Echo::start(&["--tcp", "127.0.0.1:0"]);
    let mut client = TcpStream::connect(echo.address("tcp")).unwrap();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    assert_eq!(echo.stop("-TERM"), "");
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

/// One client floods and never reads, others reset: the rest are still served.
#[test]
fn echo_shields_its_clients_from_each_other() {
    let mut echo = Echo::start(&["--tcp", "127.0.0.1:0"]);
    let address = echo.address("tcp");
    let mut never_reads = TcpStream::connect(&address).unwrap();
    never_reads.set_nonblocking(true).unwrap();
    // The kernel's buffers and the server's own are bounded, so this ends, unless the server's
    // grows.
    let mut accepted = 0;
    let full = loop {
        match never_reads.write(&[0; 65_536]) {
            Ok(count) => accepted += count,
            Err(error) => break error,
        }
        assert!(accepted < 1 << 30, "the server holds a gigabyte for a client that does not read");
    };
    assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock);
    echo.assert_falls_asleep();
    for _ in 0..20 {
        let mut resets = TcpStream::connect(&address).unwrap();
        resets.write_all(b"never mind").unwrap();
        // Closing with unread bytes (the echo) or with none: a reset in the one case, an end in the
        // other.
        drop(resets);
    }
    exchange_tcp(&address);
    drop(never_reads);
    exchange_tcp(&address);
    assert_eq!(echo.stop("-INT"), "");
}

#[test]
fn echo_hangs_up_on_clients_beyond_its_limit() {
    let mut echo = Echo::start(&["--tcp", "127.0.0.1:0", "--max-clients", "2"]);
    let address = echo.address("tcp");
    let connect = || {
        let mut client = TcpStream::connect(&address).unwrap();
        let _ = client.write_all(b"x");
        let served = matches!(client.read(&mut [0]), Ok(1));
        (client, served)
    };
    let (first, second, third) = (connect(), connect(), connect());
    assert!(first.1 && second.1 && !third.1);
    assert_eq!(
        echo.stop("-INT"),
        "echo: hung up on 1 clients: 2 are here already (--max-clients)\n"
    );
}

#[test]
fn echo_survives_a_shortage_of_descriptors() {
    let program = env!("CARGO_BIN_EXE_echo");
    let mut echo = Echo::spawn(Command::new("sh").args([
        "-c",
        "ulimit -n 24 && exec \"$0\" \"$@\"",
        program,
        "--tcp",
        "127.0.0.1:0",
    ]));
    let address = echo.address("tcp");
    let mut served = Vec::new();
    let mut refused_count = 0;
    for _ in 0..40 {
        let mut client = TcpStream::connect(&address).unwrap();
        let _ = client.write_all(b"x");
        match client.read(&mut [0]) {
            Ok(1) => served.push(client),
            _ => refused_count += 1,
        }
    }
    assert!(!served.is_empty() && refused_count > 0);
    // The clients it has are still served.
    for client in &mut served {
        client.write_all(b"y").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    assert!(echo.stop("-INT").contains("no descriptor is free (ulimit -n)"));
}

#[test]
fn echo_replaces_an_abandoned_socket_and_no_other_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("echo");
    let flags = ["--unix", path.to_str().unwrap()];
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mut echo = Echo::start(&flags);
    echo.address("unix");

    let refused = Command::new(env!("CARGO_BIN_EXE_echo")).args(flags).output().unwrap();
    assert!(!refused.status.success(), "another process listens there");
    assert!(String::from_utf8(refused.stderr).unwrap().contains(path.to_str().unwrap()));
    exchange_unix(&path);
    assert_eq!(echo.stop("-INT"), "");

    std::fs::write(&path, "precious").unwrap();
    assert!(!Command::new(env!("CARGO_BIN_EXE_echo")).args(flags).status().unwrap().success());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}
