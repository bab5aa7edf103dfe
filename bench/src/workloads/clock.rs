//! The loop's own clock: how long a short timeout really takes, and how late many timeouts are while sockets keep the loop busy.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::measure::{Plan, Table, alternate};
use crate::sys;

const SHORT: Duration = Duration::from_micros(50);
const SHORT_ONES: usize = 400;
const TIMERS: usize = 10_000;
/// Timeouts are spread over this, evenly and at random.
const LONGEST: Duration = Duration::from_millis(1000);
const CONNECTIONS: usize = 8;

type Short = fn() -> io::Result<Vec<Duration>>;
type Loaded = fn(Vec<UnixStream>, Instant, &mut Lateness) -> io::Result<()>;

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    let peers: [(&str, Short); 6] = [
        ("epoll_pwait2", short::raw),
        ("kodiak", short::kodiak),
        ("mio", short::mio),
        ("polling", short::polling),
        ("calloop", short::calloop),
        ("tokio", short::tokio),
    ];
    let (names, peers): (Vec<&str>, Vec<Short>) = peers.into_iter().filter(|(name, _)| plan.wants(name)).unzip();
    let mut table = Table::new("A timeout of 50 µs: when it fires", "µs", &names);
    for (slack, text) in [(None, "default slack"), (Some(Duration::from_nanos(1)), "slack of 1 ns")] {
        let measured = alternate(plan.rounds, &names, |index| on_a_thread(slack, peers[index]))?;
        for (part, percent) in [(0, "p50"), (1, "p99")] {
            table.plain_row(format!("{text}, {percent}"), &column(&measured, part));
        }
    }
    table.print();

    let peers: [(&str, Loaded); 2] = [("kodiak", loaded::kodiak), ("tokio", loaded::tokio)];
    let (names, peers): (Vec<&str>, Vec<Loaded>) = peers.into_iter().filter(|(name, _)| plan.wants(name)).unzip();
    let title = format!("How late {TIMERS} timeouts of up to {} ms fire beside an echo", LONGEST.as_millis());
    let mut table = Table::new(title, "µs", &names);
    for (slack, text) in [(None, "default slack"), (Some(Duration::from_nanos(1)), "slack of 1 ns")] {
        let measured = alternate(plan.rounds, &names, |index| lateness(slack, peers[index], plan.slice * 5))?;
        for (part, what) in [(0, "p50"), (1, "p99"), (2, "the latest"), (3, "echoes a second beside it")] {
            table.plain_row(format!("{text}, {what}"), &column(&measured, part));
        }
    }
    table.print();
    Ok(())
}

fn column<const PARTS: usize>(measured: &[Vec<[f64; PARTS]>], part: usize) -> Vec<Vec<f64>> {
    measured.iter().map(|rounds| rounds.iter().map(|parts| parts[part]).collect()).collect()
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100].as_nanos() as f64 / 1000.0
}

/// The slack belongs to a thread, so each measurement has one.
fn on_a_thread(slack: Option<Duration>, measure: Short) -> io::Result<[f64; 2]> {
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

/// What one timeout after the other takes.
fn each(mut one: impl FnMut() -> io::Result<()>) -> io::Result<Vec<Duration>> {
    let took = (0..SHORT_ONES).map(|_| {
        let begun = Instant::now();
        one()?;
        Ok(begun.elapsed())
    });
    took.collect()
}

/// A timeout of [`SHORT`], by each peer's own means.
mod short {
    use super::*;

    pub(super) fn raw() -> io::Result<Vec<Duration>> {
        let mut epoll = sys::Epoll::new(1)?;
        each(|| epoll.sleep(SHORT))
    }

    pub(super) fn kodiak() -> io::Result<Vec<Duration>> {
        use kodiak_reactor::{EventLoop, Handler};

        struct Chain {
            begun: Instant,
            took: Vec<Duration>,
        }
        impl Handler<(), ()> for Chain {
            fn timeout(&mut self, event_loop: &mut EventLoop<(), ()>, (): ()) {
                self.took.push(self.begun.elapsed());
                if self.took.len() == SHORT_ONES {
                    return event_loop.shutdown();
                }
                self.begun = Instant::now();
                event_loop.timeout((), SHORT).expect("a timeout can be set");
            }
        }
        let mut event_loop = EventLoop::new()?;
        let mut chain = Chain { begun: Instant::now(), took: Vec::new() };
        event_loop.timeout((), SHORT).map_err(io::Error::other)?;
        event_loop.run(&mut chain)?;
        Ok(chain.took)
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

        let mut event_loop: calloop::EventLoop<'_, bool> = calloop::EventLoop::try_new().map_err(io::Error::other)?;
        let handle = event_loop.handle();
        each(|| {
            let fired = |_: Instant, (): &mut (), fired: &mut bool| {
                *fired = true;
                TimeoutAction::Drop
            };
            handle.insert_source(Timer::from_duration(SHORT), fired).map_err(|_| io::ErrorKind::Other)?;
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
            for _ in 0..SHORT_ONES {
                let begun = Instant::now();
                tokio::time::sleep(SHORT).await;
                took.push(begun.elapsed());
            }
            Ok(took)
        })
    }
}

/// Deadlines to come, from a seed, and how late those that have passed were seen.
struct Lateness {
    random: u64,
    late: Vec<Duration>,
}

impl Lateness {
    fn deadline(&mut self) -> Instant {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        Instant::now() + Duration::from_nanos(self.random % LONGEST.as_nanos() as u64)
    }

    fn note(&mut self, deadline: Instant) {
        let late = Instant::now().checked_duration_since(deadline).expect("no timeout is early");
        self.late.push(late);
    }
}

/// Runs a loop with timeouts and connections, and at the other end of these somebody who writes 64 bytes to each, waits for them
/// all to come back, and begins again.
fn lateness(slack: Option<Duration>, serve: Loaded, slice: Duration) -> io::Result<[f64; 4]> {
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
            let mut lateness = Lateness { random: 0x9E37_79B9_7F4A_7C15, late: Vec::with_capacity(1 << 20) };
            serve(served, Instant::now() + slice, &mut lateness)?;
            Ok::<_, io::Error>(lateness.late)
        });
        let late = server.join().expect("the server ended well")?;
        Ok::<_, io::Error>((late, load.join().expect("the load ended well")))
    })?;
    late.sort();
    let latest = percentile(&late, 100);
    Ok([percentile(&late, 50), percentile(&late, 99), latest, echoes as f64 / slice.as_secs_f64()])
}

/// Until the server hangs up.
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

/// The loops with both.
mod loaded {
    use super::*;

    pub(super) fn kodiak(served: Vec<UnixStream>, until: Instant, lateness: &mut Lateness) -> io::Result<()> {
        use kodiak_reactor::{EventLoop, Handler, Io, ReadHint};

        struct Both<'a> {
            streams: Vec<Io<UnixStream>>,
            deadlines: Vec<Instant>,
            until: Instant,
            lateness: &'a mut Lateness,
        }
        impl Handler<usize, ()> for Both<'_> {
            fn readable(&mut self, _: &mut EventLoop<usize, ()>, token: usize, _: ReadHint) {
                let mut stream = self.streams[token].get_ref();
                let mut buffer = [0; 64];
                if let Ok(count) = stream.read(&mut buffer) {
                    stream.write_all(&buffer[..count]).expect("a short answer fits");
                }
            }

            fn timeout(&mut self, event_loop: &mut EventLoop<usize, ()>, token: usize) {
                self.lateness.note(self.deadlines[token]);
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
        Ok(event_loop.run(&mut Both { streams, deadlines, until, lateness })?)
    }

    pub(super) fn tokio(served: Vec<UnixStream>, until: Instant, lateness: &mut Lateness) -> io::Result<()> {
        use std::cell::RefCell;
        use std::rc::Rc;

        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tasks = tokio::task::LocalSet::new();
        let shared = Rc::new(RefCell::new(Lateness { random: lateness.random, late: Vec::with_capacity(1 << 20) }));
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
                        shared.borrow_mut().note(deadline);
                    }
                });
            }
            tokio::time::sleep_until(until.into()).await;
            Ok::<_, io::Error>(())
        })?;
        drop(tasks);
        lateness.late.append(&mut shared.borrow_mut().late);
        Ok(())
    }
}
