//! Addresses as an operator gives them: `HOST:PORT`, where the host is a name or a number.
//!
//! The text is kept, and resolved each time it is used: a name has another address after its
//! container or machine was replaced. A node does the same with the names of its peers.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    str::FromStr,
};

use kodiak_raft::types::ADDRESS_BYTES_MAX;

/// Where a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address(String);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        match port_of(text)? {
            0 => Err("port 0 cannot be reached: give the port on which the other side listens"
                .to_owned()),
            _ => Ok(Address(text.to_owned())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Address {
    /// Whether it is `0.0.0.0` or `[::]`, which stand for every address of a machine.
    pub(crate) fn is_unspecified(&self) -> bool {
        self.0.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_unspecified())
    }

    /// Another port of the same host.
    pub(crate) fn with_port(&self, port: u16) -> Address {
        let host = self.0.rsplit_once(':').map_or(&*self.0, |(host, _)| host);
        Address(format!("{host}:{port}"))
    }

    /// Resolves the name, to at least one address. Blocks.
    pub(crate) fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        look_up(&self.0)
    }
}

/// Where to listen. Port 0 lets the system choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenAddress(String);

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<ListenAddress, String> {
        port_of(text).map(|_| ListenAddress(text.to_owned()))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ListenAddress {
    /// Resolves the name to an address of this machine, the first one that can be bound:
    /// `localhost`, say, to that of the enabled IP version. If none can, it is the first address;
    /// binding it gives the reason.
    pub(crate) fn resolve(&self) -> io::Result<SocketAddr> {
        let found = look_up(&self.0)?;
        let is_ours = |address: &&SocketAddr| TcpListener::bind((address.ip(), 0)).is_ok();
        Ok(*if found.len() == 1 {
            &found[0]
        } else {
            found.iter().find(is_ours).unwrap_or(&found[0])
        })
    }

    /// The name by which others may call it, with this port, if a name was given. `None` for a
    /// numeric address.
    pub(crate) fn name(&self, port: u16) -> Option<Address> {
        let (host, _) = self.0.rsplit_once(':')?;
        let is_number = self.0.parse::<SocketAddr>().is_ok();
        (!is_number && port != 0).then(|| Address(format!("{host}:{port}")))
    }

    /// The port that was given.
    pub(crate) fn port(&self) -> u16 {
        port_of(&self.0).unwrap_or(0)
    }
}

/// The port of `host:port`, or why the text is not an address.
fn port_of(text: &str) -> Result<u16, String> {
    const HINT: &str =
        "give it as HOST:PORT, like 127.0.0.1:7001, [::1]:7001 or node1.example:7001";
    if text.len() > ADDRESS_BYTES_MAX {
        return Err(format!(
            "an address may have {ADDRESS_BYTES_MAX} bytes, and this one has {}",
            text.len()
        ));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("there is no port: {HINT}"));
    };
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() {
        return Err(format!("there is no host before the port: {HINT}"));
    }
    if host.contains(':') && !is_bracketed {
        return Err(format!("an IPv6 address stands in brackets: {HINT}"));
    }
    if host.contains(|c: char| c.is_whitespace() || matches!(c, '/' | ',' | '=' | '@')) {
        return Err(format!("{host:?} is not a host's name: {HINT}"));
    }
    port.parse()
        .map_err(|_| format!("{port:?} is not a port, which is a number up to 65535: {HINT}"))
}

fn look_up(text: &str) -> io::Result<Vec<SocketAddr>> {
    let unknown = |why: &dyn fmt::Display| format!("cannot resolve {text:?}: {why}");
    // The system's message names the function that failed, which does not help an operator who
    // mistyped a name.
    let found = text.to_socket_addrs().map_err(|error| {
        let message = error.to_string();
        let why =
            message.strip_prefix("failed to lookup address information: ").unwrap_or(&message);
        io::Error::new(error.kind(), unknown(&why))
    })?;
    let found: Vec<SocketAddr> = found.collect();
    if found.is_empty() {
        Err(io::Error::other(unknown(&"the name has no address")))
    } else {
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numeric_addresses_are_accepted() {
        for text in ["127.0.0.1:7001", "[::1]:7001", "localhost:7001", "node-1.example.com:65535"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        assert!("localhost:0".parse::<ListenAddress>().is_ok());
    }

    #[test]
    fn a_malformed_address_is_refused_with_the_reason() {
        let long = format!("{}:1", "x".repeat(300));
        for (text, word) in [
            ("", "no port"),
            ("localhost", "no port"),
            (":7001", "no host"),
            ("::1:7001", "brackets"),
            ("host:", "\"\" is not a port"),
            ("host:seven", "\"seven\" is not a port"),
            ("host:65536", "65535"),
            ("http://host:1", "brackets"),
            ("a b:1", "not a host's name"),
            (&long, "255 bytes"),
            ("host:0", "port 0"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn unspecified_addresses_are_recognized() {
        for (text, is_unspecified) in
            [("0.0.0.0:1", true), ("[::]:1", true), ("127.0.0.1:1", false), ("host:1", false)]
        {
            assert_eq!(text.parse::<Address>().unwrap().is_unspecified(), is_unspecified, "{text}");
        }
    }

    #[test]
    fn a_name_is_resolved_when_used_and_advertised_as_it_is() {
        let localhost: ListenAddress = "localhost:0".parse().unwrap();
        assert!(localhost.resolve().unwrap().ip().is_loopback());
        assert_eq!(localhost.name(7001), Some("localhost:7001".parse().unwrap()));
        assert_eq!(localhost.name(0), None);
        assert_eq!("127.0.0.1:0".parse::<ListenAddress>().unwrap().name(7001), None);
        let error =
            "no-such-host.invalid:1".parse::<Address>().unwrap().resolve().unwrap_err().to_string();
        assert!(error.starts_with("cannot resolve \"no-such-host.invalid:1\": "), "{error}");
        assert!(!error.contains("failed to lookup"), "{error}");
    }
}
