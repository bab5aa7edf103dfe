//! Socket addresses, between the standard library's types and the kernel's.

use std::io;
use std::mem::offset_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr as UnixSocketAddr;
use std::path::Path;

/// An address of any kind that these calls use.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union Address {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
    unix: libc::sockaddr_un,
    any: libc::sockaddr_storage,
}

/// An IP address and port, for calls that take no others: a fifth of [`Address`]'s size to clear.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union InetAddress {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl InetAddress {
    /// The number of bytes that the kernel may write.
    pub(super) const CAPACITY: libc::socklen_t = size_of::<InetAddress>() as libc::socklen_t;

    #[inline]
    pub(super) fn zeroed() -> InetAddress {
        // SAFETY: both variants consist of integers, for which zero is a value.
        unsafe { std::mem::zeroed() }
    }

    /// The address, and the number of its bytes that count.
    #[inline]
    pub(super) fn new(address: SocketAddr) -> (InetAddress, libc::socklen_t) {
        match address {
            SocketAddr::V4(address) => (
                InetAddress { v4: encode_v4(address) },
                size_of::<libc::sockaddr_in>() as libc::socklen_t,
            ),
            SocketAddr::V6(address) => (
                InetAddress { v6: encode_v6(address) },
                size_of::<libc::sockaddr_in6>() as libc::socklen_t,
            ),
        }
    }

    /// `None` if it is an address of another kind.
    #[inline]
    pub(super) fn to_inet(self) -> Option<SocketAddr> {
        // SAFETY: integers, all initialised: any variant may be read. The family has the same
        // offset in both.
        match libc::c_int::from(unsafe { self.v4.sin_family }) {
            libc::AF_INET => {
                // SAFETY: as above.
                Some(decode_v4(unsafe { self.v4 }))
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                Some(decode_v6(unsafe { self.v6 }))
            }
            _ => None,
        }
    }
}

/// An address, and the number of its bytes that count.
pub(super) type AddressAndLen = (Address, libc::socklen_t);

impl Address {
    /// The number of bytes that the kernel may write.
    pub(super) const CAPACITY: libc::socklen_t = size_of::<Address>() as libc::socklen_t;

    pub(super) fn zeroed() -> Address {
        // SAFETY: all variants consist of integers, for which zero is a value.
        unsafe { std::mem::zeroed() }
    }

    pub(super) fn inet(address: SocketAddr) -> AddressAndLen {
        let (address, len) = match address {
            SocketAddr::V4(address) => {
                (Address { v4: encode_v4(address) }, size_of::<libc::sockaddr_in>())
            }
            SocketAddr::V6(address) => {
                (Address { v6: encode_v6(address) }, size_of::<libc::sockaddr_in6>())
            }
        };
        (address, len as libc::socklen_t)
    }

    /// A path, or one of Linux's abstract names.
    pub(super) fn unix(address: &UnixSocketAddr) -> io::Result<AddressAndLen> {
        if let Some(path) = address.as_pathname() {
            return Address::unix_path(path);
        }
        let Some(name) = abstract_name(address) else {
            let text = "an unnamed Unix socket has no address to connect or send to";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        // A zero byte, the name, and nothing after it: every byte counts.
        let (unix, len) = encode_unix(std::iter::once(0).chain(name.iter().copied()));
        Ok((Address { unix }, len))
    }

    pub(super) fn unix_path(path: &Path) -> io::Result<AddressAndLen> {
        let bytes = path.as_os_str().as_bytes();
        let max = size_of::<libc::sockaddr_un>() - PATH_OFFSET - 1; // less the zero byte at the end
        if bytes.is_empty() || bytes.len() > max || bytes.contains(&0) {
            let text = format!(
                "a Unix socket's path has 1 to {max} bytes, none of them zero; this one has {}",
                bytes.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let (unix, len) = encode_unix(bytes.iter().copied().chain([0]));
        Ok((Address { unix }, len))
    }

    pub(super) fn family(&self) -> libc::c_int {
        // SAFETY: integers, all initialised: any variant may be read. The family has the same
        // offset in all of them.
        libc::c_int::from(unsafe { self.any.ss_family })
    }

    /// The IP address and port, if it is one.
    pub(super) fn to_inet(self) -> Option<SocketAddr> {
        match self.family() {
            libc::AF_INET => {
                // SAFETY: integers, all initialised, and the family says that this is the variant
                // that was written.
                Some(decode_v4(unsafe { self.v4 }))
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                Some(decode_v6(unsafe { self.v6 }))
            }
            _ => None,
        }
    }
}

/// The offset of the path in a Unix address.
const PATH_OFFSET: usize = offset_of!(libc::sockaddr_un, sun_path);

#[inline]
fn decode_v4(v4: libc::sockaddr_in) -> SocketAddr {
    let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
    SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into()
}

#[inline]
fn decode_v6(v6: libc::sockaddr_in6) -> SocketAddr {
    let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
    SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id).into()
}

// The structs of the BSDs have a length member, which their kernels fill in.

#[inline]
fn encode_v4(address: SocketAddrV4) -> libc::sockaddr_in {
    // SAFETY: integers, for which zero is a value.
    let mut v4: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    v4.sin_family = libc::AF_INET as libc::sa_family_t;
    v4.sin_port = address.port().to_be();
    v4.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
    v4
}

#[inline]
fn encode_v6(address: SocketAddrV6) -> libc::sockaddr_in6 {
    // SAFETY: integers, for which zero is a value.
    let mut v6: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
    v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
    v6.sin6_port = address.port().to_be();
    v6.sin6_addr.s6_addr = address.ip().octets();
    v6.sin6_flowinfo = address.flowinfo();
    v6.sin6_scope_id = address.scope_id();
    v6
}

/// The caller must ensure that `path` fits. An abstract name always does.
fn encode_unix(path: impl Iterator<Item = u8>) -> (libc::sockaddr_un, libc::socklen_t) {
    // SAFETY: integers, for which zero is a value.
    let mut unix: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    unix.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let mut len = PATH_OFFSET;
    for (slot, byte) in unix.sun_path.iter_mut().zip(path) {
        *slot = byte as libc::c_char;
        len += 1;
    }
    (unix, len as libc::socklen_t)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn abstract_name(address: &UnixSocketAddr) -> Option<&[u8]> {
    #[cfg(target_os = "android")]
    use std::os::android::net::SocketAddrExt;
    #[cfg(target_os = "linux")]
    use std::os::linux::net::SocketAddrExt;
    address.as_abstract_name()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn abstract_name(_: &UnixSocketAddr) -> Option<&[u8]> {
    None
}
