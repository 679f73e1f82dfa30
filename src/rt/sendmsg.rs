//! What sends have in common, whether the kernel copies or not.

use std::io::IoSlice;

/// A full socket and a closed one are errors, nothing else.
pub(super) const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// The header of a message of these slices; only for as long as they live.
pub(super) fn message(slices: &[IoSlice<'_>]) -> libc::msghdr {
    // SAFETY: a zeroed message header is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // IoSlice is ABI-compatible with iovec.
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len();
    message
}
