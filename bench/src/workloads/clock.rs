//! The precision of timeouts: a short one alone, and many beside busy sockets.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::measure::{Plan, Table, interleave};
use crate::sys;

const SHORT: Duration = Duration::from_micros(50);
const SHORT_TIMEOUTS: usize = 400;
const TIMERS: usize = 10_000;
/// Timeouts are random, uniform up to this.
const MAX_TIMEOUT: Duration = Duration::from_millis(1000);
const CONNECTIONS: usize = 8;

type MeasureShort = fn() -> io::Result<Vec<Duration>>;
type ServeLoaded = fn(Vec<UnixStream>, Instant, &mut Lateness) -> io::Result<()>;

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    let libraries: [(&str, MeasureShort); 6] = [
        ("epoll_pwait2", short_timeout::raw),
        ("kodiak", short_timeout::kodiak),
        ("mio", short_timeout::mio),
        ("polling", short_timeout::polling),
        ("calloop", short_timeout::calloop),
        ("tokio", short_timeout::tokio),
    ];
    let (names, measures): (Vec<&str>, Vec<MeasureShort>) =
        libraries.into_iter().filter(|(name, _)| plan.includes(name)).unzip();
    let mut table = Table::new("A timeout of 50 µs: when it fires", "µs", &names);
    for (slack, text) in [(None, "default slack"), (Some(Duration::from_nanos(1)), "slack of 1 ns")]
    {
        let measured =
            interleave(plan.rounds, &names, |index| on_a_thread(slack, measures[index]))?;
        for (part, percent) in [(0, "p50"), (1, "p99")] {
            table.absolute_row(format!("{text}, {percent}"), &column(&measured, part));
        }
    }
    table.print();

    let libraries: [(&str, ServeLoaded); 2] =
        [("kodiak", loaded_loop::kodiak), ("tokio", loaded_loop::tokio)];
    let (names, measures): (Vec<&str>, Vec<ServeLoaded>) =
        libraries.into_iter().filter(|(name, _)| plan.includes(name)).unzip();
    let title = format!(
        "How late {TIMERS} timeouts of up to {} ms fire beside an echo",
        MAX_TIMEOUT.as_millis()
    );
    let mut table = Table::new(title, "µs", &names);
    for (slack, text) in [(None, "default slack"), (Some(Duration::from_nanos(1)), "slack of 1 ns")]
    {
        let measured = interleave(plan.rounds, &names, |index| {
            lateness(slack, measures[index], plan.window * 5)
        })?;
        for (part, what) in
            [(0, "p50"), (1, "p99"), (2, "the latest"), (3, "echoes a second beside it")]
        {
            table.absolute_row(format!("{text}, {what}"), &column(&measured, part));
        }
    }
    table.print();
    Ok(())
}

fn column<const N: usize>(measured: &[Vec<[f64; N]>], index: usize) -> Vec<Vec<f64>> {
    measured.iter().map(|rounds| rounds.iter().map(|values| values[index]).collect()).collect()
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100].as_nanos() as f64 / 1000.0
}

/// Measures on a thread of its own, because timer slack belongs to a thread.
fn on_a_thread(slack: Option<Duration>, measure: MeasureShort) -> io::Result<[f64; 2]> {
    thread::scope(|scope| {
        let thread = scope.spawn(move || {
            sys::pin(sys::SERVER_CORE);
            slack.map_or(Ok(()), kodiak_sys::set_timer_slack)?;
            measure()
        });
        let mut took = thread.join().expect("the measurement ended well")?;
        took.sort();
        Ok([percentile(&took, 50), percentile(&took, 99)])
    })
}

/// Measures timeouts one after the other.
fn each(mut one: impl FnMut() -> io::Result<()>) -> io::Result<Vec<Duration>> {
    let took = (0..SHORT_TIMEOUTS).map(|_| {
        let begun = Instant::now();
        one()?;
        Ok(begun.elapsed())
    });
    took.collect()
}

/// A timeout of [`SHORT`] in each library.
mod short_timeout {
    use super::*;

    pub(super) fn raw() -> io::Result<Vec<Duration>> {
        let mut epoll = sys::Epoll::new(1)?;
        each(|| epoll.sleep(SHORT))
    }

    pub(super) fn kodiak() -> io::Result<Vec<Duration>> {
        use kodiak_reactor::{EventLoop, Handler};

        struct Repeat {
            begun: Instant,
            took: Vec<Duration>,
        }
        impl Handler<(), ()> for Repeat {
            fn timeout(&mut self, event_loop: &mut EventLoop<(), ()>, (): ()) {
                self.took.push(self.begun.elapsed());
                if self.took.len() == SHORT_TIMEOUTS {
                    return event_loop.shutdown();
                }
                self.begun = Instant::now();
                event_loop.timeout((), SHORT).expect("a timeout can be set");
            }
        }
        let mut event_loop = EventLoop::new()?;
        let mut repeat = Repeat { begun: Instant::now(), took: Vec::new() };
        event_loop.timeout((), SHORT).map_err(io::Error::other)?;
        event_loop.run(&mut repeat)?;
        Ok(repeat.took)
    }

    pub(super) fn mio() -> io::Result<Vec<Duration>> {
        let (mut poll, mut events) = (mio::Poll::new()?, mio::Events::with_capacity(1));
        each(|| poll.poll(&mut events, Some(SHORT)))
    }

    pub(super) fn polling() -> io::Result<Vec<Duration>> {
        let (poller, mut events) = (polling::Poller::new()?, polling::Events::new());
        each(|| poller.wait(&mut events, Some(SHORT)).map(drop))
    }

    pub(super) fn calloop() -> io::Result<Vec<Duration>> {
        use calloop::timer::{TimeoutAction, Timer};

        let mut event_loop: calloop::EventLoop<'_, bool> =
            calloop::EventLoop::try_new().map_err(io::Error::other)?;
        let handle = event_loop.handle();
        each(|| {
            let fired = |_: Instant, (): &mut (), fired: &mut bool| {
                *fired = true;
                TimeoutAction::Drop
            };
            handle
                .insert_source(Timer::from_duration(SHORT), fired)
                .map_err(|_| io::ErrorKind::Other)?;
            let mut has_fired = false;
            while !has_fired {
                event_loop.dispatch(None, &mut has_fired).map_err(io::Error::other)?;
            }
            Ok(())
        })
    }

    pub(super) fn tokio() -> io::Result<Vec<Duration>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut took = Vec::new();
            for _ in 0..SHORT_TIMEOUTS {
                let begun = Instant::now();
                tokio::time::sleep(SHORT).await;
                took.push(begun.elapsed());
            }
            Ok(took)
        })
    }
}

/// Random deadlines, and how late their timeouts fired.
struct Lateness {
    random: u64,
    measured: Vec<Duration>,
}

impl Lateness {
    fn deadline(&mut self) -> Instant {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        Instant::now() + Duration::from_nanos(self.random % MAX_TIMEOUT.as_nanos() as u64)
    }

    fn record(&mut self, deadline: Instant) {
        let late = Instant::now().checked_duration_since(deadline).expect("no timeout is early");
        self.measured.push(late);
    }
}

/// Runs a loop with timeouts and connections, and a load that writes 64 bytes to each connection,
/// waits for all answers, and begins again.
fn lateness(slack: Option<Duration>, serve: ServeLoaded, window: Duration) -> io::Result<[f64; 4]> {
    let mut pairs = Vec::new();
    for _ in 0..CONNECTIONS {
        pairs.push(UnixStream::pair()?);
    }
    let (clients, served): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let (mut late, echoes) = thread::scope(|scope| {
        let load = scope.spawn(move || echoes(clients));
        let server = scope.spawn(move || {
            sys::pin(sys::SERVER_CORE);
            slack.map_or(Ok(()), kodiak_sys::set_timer_slack)?;
            let mut lateness =
                Lateness { random: 0x9E37_79B9_7F4A_7C15, measured: Vec::with_capacity(1 << 20) };
            serve(served, Instant::now() + window, &mut lateness)?;
            Ok::<_, io::Error>(lateness.measured)
        });
        let late = server.join().expect("the server has not panicked")?;
        Ok::<_, io::Error>((late, load.join().expect("the load has not panicked")))
    })?;
    late.sort();
    let latest = percentile(&late, 100);
    Ok([percentile(&late, 50), percentile(&late, 99), latest, echoes as f64 / window.as_secs_f64()])
}

/// Counts the answers until the server closes.
fn echoes(mut clients: Vec<UnixStream>) -> u64 {
    sys::pin(sys::LOAD_CORE);
    let mut message = [7; 64];
    let mut count = 0;
    loop {
        if clients.iter_mut().any(|client| client.write_all(&message).is_err()) {
            return count;
        }
        for client in &mut clients {
            if client.read_exact(&mut message).is_err() {
                return count;
            }
            count += 1;
        }
    }
}

/// Loops with timeouts and connections.
mod loaded_loop {
    use super::*;

    pub(super) fn kodiak(
        served: Vec<UnixStream>,
        until: Instant,
        lateness: &mut Lateness,
    ) -> io::Result<()> {
        use kodiak_reactor::{EventLoop, Handler, Io, ReadHint};

        struct LoadedHandler<'a> {
            streams: Vec<Io<UnixStream>>,
            deadlines: Vec<Instant>,
            until: Instant,
            lateness: &'a mut Lateness,
        }
        impl Handler<usize, ()> for LoadedHandler<'_> {
            fn readable(&mut self, _: &mut EventLoop<usize, ()>, token: usize, _: ReadHint) {
                let mut stream = self.streams[token].get_ref();
                let mut buffer = [0; 64];
                if let Ok(count) = stream.read(&mut buffer) {
                    stream.write_all(&buffer[..count]).expect("a short answer fits");
                }
            }

            fn timeout(&mut self, event_loop: &mut EventLoop<usize, ()>, token: usize) {
                self.lateness.record(self.deadlines[token]);
                self.deadlines[token] = self.lateness.deadline();
                event_loop.timeout_at(token, self.deadlines[token]).expect("a timeout can be set");
            }

            fn turn_end(&mut self, event_loop: &mut EventLoop<usize, ()>) {
                if event_loop.now() >= self.until {
                    event_loop.shutdown();
                }
            }
        }
        let mut event_loop = EventLoop::new()?;
        let streams: Vec<Io<UnixStream>> = served.into_iter().map(Io::new).collect();
        for (token, stream) in streams.iter().enumerate() {
            stream.get_ref().set_nonblocking(true)?;
            event_loop.register(stream, token).map_err(io::Error::other)?;
        }
        let deadlines: Vec<Instant> = (0..TIMERS).map(|_| lateness.deadline()).collect();
        for (token, &deadline) in deadlines.iter().enumerate() {
            event_loop.timeout_at(token, deadline).map_err(io::Error::other)?;
        }
        Ok(event_loop.run(&mut LoadedHandler { streams, deadlines, until, lateness })?)
    }

    pub(super) fn tokio(
        served: Vec<UnixStream>,
        until: Instant,
        lateness: &mut Lateness,
    ) -> io::Result<()> {
        use std::cell::RefCell;
        use std::rc::Rc;

        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tasks = tokio::task::LocalSet::new();
        let shared = Rc::new(RefCell::new(Lateness {
            random: lateness.random,
            measured: Vec::with_capacity(1 << 20),
        }));
        tasks.block_on(&runtime, async {
            for stream in served {
                stream.set_nonblocking(true)?;
                let mut stream = tokio::net::UnixStream::from_std(stream)?;
                tokio::task::spawn_local(async move {
                    let mut buffer = [0; 64];
                    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                        if stream.write_all(&buffer[..count]).await.is_err() {
                            return;
                        }
                    }
                });
            }
            for _ in 0..TIMERS {
                let shared = Rc::clone(&shared);
                tokio::task::spawn_local(async move {
                    loop {
                        let deadline = shared.borrow_mut().deadline();
                        tokio::time::sleep_until(deadline.into()).await;
                        shared.borrow_mut().record(deadline);
                    }
                });
            }
            tokio::time::sleep_until(until.into()).await;
            Ok::<_, io::Error>(())
        })?;
        drop(tasks);
        lateness.measured.append(&mut shared.borrow_mut().measured);
        Ok(())
    }
}
