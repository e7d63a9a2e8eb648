//! Calls about the caller itself: ids, capabilities, umask, the host's name.

use rustix::io::Errno;

use crate::sandbox::emulate::call::{Answered, Call, Reply};
use crate::sandbox::emulate::credentials::{Credentials, Ids, cap};

/// As many groups as the kernel allows.
const MAX_GROUPS: usize = 65_536;
const VERSION_1: u32 = 0x1998_0330;
const VERSION_2: u32 = 0x2007_1026;
const VERSION_3: u32 = 0x2008_0522;
const FIELD: usize = 65;

/// A call that returns an id.
pub(super) fn id(call: &Call<'_>, look: impl FnOnce(&Credentials) -> u32) -> Reply {
    Reply::Value(i64::from(look(&call.process.credentials())))
}

/// `getresuid`, `getresgid`.
pub(super) fn three(call: &Call<'_>, look: impl FnOnce(&Credentials) -> Ids) -> Answered {
    let ids = look(&call.process.credentials());
    for (index, id) in [ids.real, ids.effective, ids.saved].into_iter().enumerate() {
        call.write_ids(call.word(index), &[id])?;
    }
    Ok(Reply::DONE)
}

/// A call that makes the caller somebody else.
pub(super) fn change(
    call: &Call<'_>,
    change: impl FnOnce(&mut Credentials) -> Result<(), Errno>,
) -> Answered {
    call.process.change(change)?;
    Ok(Reply::DONE)
}

/// `setfsuid`, `setfsgid`: they return what it was.
pub(super) fn change_for_files(
    call: &Call<'_>,
    change: impl FnOnce(&mut Credentials) -> u32,
) -> Answered {
    call.process.change(|who| Ok(Reply::Value(i64::from(change(who)))))
}

/// `getgroups(size, list)`.
pub(super) fn groups(call: &Call<'_>) -> Answered {
    let who = call.process.credentials();
    let size = usize::try_from(call.int(0)).map_err(|_| Errno::INVAL)?;
    let count = who.supplementary.len();
    if size != 0 {
        if size < count {
            return Err(Errno::INVAL);
        }
        call.write_ids(call.word(1), &who.supplementary)?;
    }
    Ok(Reply::Value(i64::try_from(count).map_err(|_| Errno::INVAL)?))
}

/// `setgroups(size, list)`.
pub(super) fn set_groups(call: &Call<'_>) -> Answered {
    let size = usize::try_from(call.int(0)).map_err(|_| Errno::INVAL)?;
    if size > MAX_GROUPS {
        return Err(Errno::INVAL);
    }
    let bytes = call.bytes(call.word(1), size * size_of::<u32>())?;
    let ids = bytes.chunks_exact(4).map(|id| u32::from_ne_bytes([id[0], id[1], id[2], id[3]]));
    let ids = ids.collect();
    change(call, |who| who.set_supplementary(ids))
}

/// The header of `capget` and `capset`: how many sets of 32 there are, and whose.
fn header(call: &Call<'_>) -> Result<Option<(usize, i32)>, Errno> {
    let bytes = call.bytes(call.word(0), 8)?;
    let number =
        |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    match number(0) {
        VERSION_1 => Ok(Some((1, number(4).cast_signed()))),
        VERSION_2 | VERSION_3 => Ok(Some((2, number(4).cast_signed()))),
        _ => {
            call.write_ids(call.word(0), &[VERSION_3])?;
            Ok(None)
        }
    }
}

/// `capget(header, data)`.
pub(super) fn capabilities(call: &Call<'_>) -> Answered {
    let Some((count, pid)) = header(call)? else {
        return if call.word(1) == 0 { Ok(Reply::DONE) } else { Err(Errno::INVAL) };
    };
    let process = match rustix::process::Pid::from_raw(pid.max(0)) {
        None => std::sync::Arc::clone(&call.process),
        Some(pid) => call.world.processes.of(pid).ok_or(Errno::SRCH)?,
    };
    let sets = process.credentials().capabilities;
    let sets = [sets.effective, sets.permitted, sets.inheritable];
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is meant")]
    let halves = |shift: u32| sets.map(|set| (set >> shift) as u32);
    let all = [halves(0), halves(32)];
    call.write_ids(call.word(1), &all[..count].concat())?;
    Ok(Reply::DONE)
}

/// `capset(header, data)`.
pub(super) fn set_capabilities(call: &Call<'_>) -> Answered {
    let (count, pid) = header(call)?.ok_or(Errno::INVAL)?;
    if pid != 0 && pid != call.process.pid.as_raw_pid() && pid != call.thread().as_raw_pid() {
        return Err(Errno::PERM);
    }
    let bytes = call.bytes(call.word(1), count * 12)?;
    let mut sets = [0_u64; 3];
    for (index, word) in bytes.chunks_exact(4).enumerate() {
        let word = u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        sets[index % 3] |= word << (32 * (index / 3));
    }
    change(call, |who| who.set_capabilities(sets))
}

/// `prctl`, for the options that the filter asks about.
pub(super) fn setting(call: &Call<'_>) -> Answered {
    let value = call.word(1);
    let who = call.process.credentials();
    let sets = who.capabilities;
    let bit = |number: u64| u32::try_from(number).ok().and_then(|number| 1_u64.checked_shl(number));
    let flag = |is_set: bool| Ok(Reply::Value(i64::from(is_set)));
    match call.bits(0).cast_signed() {
        libc::PR_GET_KEEPCAPS => flag(who.keeps_capabilities),
        libc::PR_SET_KEEPCAPS if value <= 1 => change(call, |who| {
            who.keeps_capabilities = value == 1;
            Ok(())
        }),
        libc::PR_CAPBSET_READ if value < 41 => {
            flag(bit(value).is_some_and(|bit| sets.bounding & bit != 0))
        }
        libc::PR_CAPBSET_DROP if value < 41 => {
            if !who.can(cap::SETPCAP) {
                return Err(Errno::PERM);
            }
            change(call, |who| {
                who.capabilities.bounding &= !bit(value).unwrap_or(0);
                Ok(())
            })
        }
        libc::PR_GET_SECUREBITS => Ok(Reply::DONE),
        // Only what they are already: none.
        libc::PR_SET_SECUREBITS => {
            if value == 0 {
                Ok(Reply::DONE)
            } else {
                Err(Errno::PERM)
            }
        }
        libc::PR_SET_NO_NEW_PRIVS if value == 1 => change(call, |who| {
            who.no_new_privileges = true;
            Ok(())
        }),
        libc::PR_GET_NO_NEW_PRIVS => flag(who.no_new_privileges),
        libc::PR_CAP_AMBIENT => ambient(call, bit(call.word(2)).unwrap_or(0)),
        _ => Err(Errno::INVAL),
    }
}

fn ambient(call: &Call<'_>, bit: u64) -> Answered {
    let sets = call.process.credentials().capabilities;
    match i32::try_from(call.word(1)).map_err(|_| Errno::INVAL)? {
        libc::PR_CAP_AMBIENT_IS_SET => Ok(Reply::Value(i64::from(sets.ambient & bit != 0))),
        libc::PR_CAP_AMBIENT_RAISE if sets.permitted & sets.inheritable & bit == 0 => {
            Err(Errno::PERM)
        }
        libc::PR_CAP_AMBIENT_RAISE => change(call, |who| {
            who.capabilities.ambient |= bit;
            Ok(())
        }),
        libc::PR_CAP_AMBIENT_LOWER => change(call, |who| {
            who.capabilities.ambient &= !bit;
            Ok(())
        }),
        libc::PR_CAP_AMBIENT_CLEAR_ALL => change(call, |who| {
            who.capabilities.ambient = 0;
            Ok(())
        }),
        _ => Err(Errno::INVAL),
    }
}

/// `umask`: returns the old one.
pub(super) fn umask(call: &Call<'_>) -> Reply {
    let new = call.bits(0) & 0o777;
    let old = call.process.with(|state| std::mem::replace(&mut state.umask, new));
    Reply::Value(i64::from(old))
}

/// `uname`, with the step's own host name.
pub(super) fn uname(call: &Call<'_>) -> Answered {
    let real = rustix::system::uname();
    let fields = [
        real.sysname().to_bytes(),
        call.world.hostname.as_bytes(),
        real.release().to_bytes(),
        real.version().to_bytes(),
        real.machine().to_bytes(),
        b"(none)",
    ];
    let mut bytes = Vec::with_capacity(FIELD * fields.len());
    for field in fields {
        let mut text = field[..field.len().min(FIELD - 1)].to_vec();
        text.resize(FIELD, 0);
        bytes.extend(text);
    }
    call.write(call.word(0), &bytes)?;
    Ok(Reply::DONE)
}
