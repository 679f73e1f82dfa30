//! Children that the kernel refuses something: system calls by seccomp, and what limits and namespaces take away.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A system call, or those uses of it whose argument has one of these bits.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub name: &'static str,
    pub number: i64,
    pub with: Option<(usize, u32)>,
}

impl Call {
    pub const fn all(name: &'static str, number: i64) -> Self {
        Self { name, number, with: None }
    }

    pub const fn with(name: &'static str, number: i64, argument: usize, bits: u32) -> Self {
        Self { name, number, with: Some((argument, bits)) }
    }
}

/// Refuses `calls` to the child with `errno`, from its first instruction on, the loader's included.
pub fn deny<'a>(command: &'a mut Command, calls: &[Call], errno: i32) -> &'a mut Command {
    let program = program(calls, errno);
    // SAFETY: two system calls between fork and exec, on memory that the closure owns; nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
            let mode = libc::SECCOMP_MODE_FILTER;
            match libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter, 0, 0) == 0
            {
                true => Ok(()),
                false => Err(io::Error::last_os_error()),
            }
        })
    }
}

/// `seccomp_data`: the number, the architecture, the instruction pointer, six arguments.
fn program(calls: &[Call], errno: i32) -> Vec<libc::sock_filter> {
    const NUMBER: u32 = 0;
    const ARGUMENTS: u32 = 16;
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |at: u32| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at);
    let give = |verdict: u32| step(libc::BPF_RET | libc::BPF_K, 0, 0, verdict);
    let refuse = give(libc::SECCOMP_RET_ERRNO | errno as u32);
    let is = |k: u32, past: u8| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, past, k);
    let has = |k: u32, past: u8| step(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, past, k);
    let mut program = Vec::new();
    for call in calls {
        program.push(load(NUMBER));
        match call.with {
            None => program.extend([is(call.number as u32, 1), refuse]),
            Some((argument, bits)) => program.extend([
                is(call.number as u32, 3),
                load(ARGUMENTS + 8 * argument as u32),
                has(bits, 1),
                refuse,
            ]),
        }
    }
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program
}

/// Sets a limit of the child's, soft and hard.
pub fn limit(command: &mut Command, resource: libc::__rlimit_resource_t, to: u64) -> &mut Command {
    let limit = libc::rlimit { rlim_cur: to, rlim_max: to };
    // SAFETY: one system call between fork and exec, on a struct that the closure owns.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(resource, &raw const limit) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        })
    }
}

/// The child sees an empty directory in the place of this one. Needs root.
pub fn hide<'a>(command: &'a mut Command, path: &'static std::ffi::CStr) -> &'a mut Command {
    let private = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: system calls between fork and exec, on static strings; they concern the child's own namespace.
    unsafe {
        command.pre_exec(move || {
            let null = std::ptr::null();
            let hidden = libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(null, c"/".as_ptr(), null, private, std::ptr::null()) == 0
                && libc::mount(c"none".as_ptr(), path.as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null()) == 0;
            if hidden { Ok(()) } else { Err(io::Error::last_os_error()) }
        })
    }
}

/// Whether this process may take things away from others at all.
pub fn is_root() -> bool {
    // SAFETY: a plain system call without arguments.
    unsafe { libc::geteuid() == 0 }
}
