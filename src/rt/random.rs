//! Randomness from the kernel.

/// 128 bits that nobody can guess.
pub fn random() -> u128 {
    let mut bytes = [0_u8; 16];
    // SAFETY: the buffer is valid for its length. So few bytes are never cut short once the pool is initialised.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    assert_eq!(got, bytes.len() as isize, "getrandom: {}", std::io::Error::last_os_error());
    u128::from_ne_bytes(bytes)
}
