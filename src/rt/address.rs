//! A socket's address as system calls take it.

use std::net::SocketAddr;

/// Where to connect.
pub(super) struct Address {
    storage: libc::sockaddr_in6,
    length: libc::socklen_t,
}

impl Address {
    pub fn of(address: SocketAddr) -> Self {
        // SAFETY: a zeroed address is valid.
        let mut storage: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
        let length = match address {
            SocketAddr::V4(v4) => {
                let short = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
                    sin_zero: [0; 8],
                };
                // SAFETY: the longer of the two has room for the shorter, at the stricter alignment.
                unsafe { std::ptr::from_mut(&mut storage).cast::<libc::sockaddr_in>().write(short) };
                size_of::<libc::sockaddr_in>()
            }
            SocketAddr::V6(v6) => {
                storage.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                storage.sin6_port = v6.port().to_be();
                storage.sin6_addr.s6_addr = v6.ip().octets();
                storage.sin6_flowinfo = v6.flowinfo();
                storage.sin6_scope_id = v6.scope_id();
                size_of::<libc::sockaddr_in6>()
            }
        };
        Self { storage, length: length as libc::socklen_t }
    }

    /// As a system call takes them; valid for as long as this stays where it is.
    pub fn parts(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        (std::ptr::from_ref(&self.storage).cast(), self.length)
    }
}
