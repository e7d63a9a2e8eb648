//! The tracer: hears of every new process before it runs, changes what `execve` is told, and ends them all.
//!
//! It runs on the thread that seized the first process; no other may trace.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::sandbox::emulate::call::{Call, HERE};
use crate::sandbox::emulate::calls;
use crate::sandbox::emulate::exec::stack::{Block, ON_STACK, introduce};
use crate::sandbox::emulate::exec::{self, Prepared};
use crate::sandbox::emulate::process::Process;
use crate::sandbox::emulate::resolve::PATH_MAX;
use crate::sandbox::emulate::world::World;
use crate::sandbox::protocol::Outcome;
use crate::sys::notify::Notification;
use crate::sys::ptrace::{self, Event, Registers};
use crate::sys::remote;

const EXECVE: u64 = libc::SYS_execve.cast_unsigned();
const EXECVEAT: u64 = libc::SYS_execveat.cast_unsigned();
const CLONE: u64 = libc::SYS_clone.cast_unsigned();
const MMAP: u64 = libc::SYS_mmap.cast_unsigned();
const CLONE_THREAD: u64 = 0x1_0000;
const READ_WRITE: u64 = 3;
/// The kernel's `-ERESTARTSYS` and `-ERESTARTNOINTR`, which no program sees.
const RESTART_IF_WANTED: u64 = (-512_i64).cast_unsigned();
const RESTART_ALWAYS: u64 = (-513_i64).cast_unsigned();
const PRIVATE_ANONYMOUS: u64 = 0x22;

/// What the tracer has begun with a thread.
#[derive(Debug)]
enum Begun {
    /// It is getting memory for the arguments of an exec, whose registers these were.
    Memory(Registers),
    /// It has that memory, and comes to its exec again.
    Room(u64),
    /// It executes this, and these were its registers.
    Exec(Box<Prepared>, Registers),
}

/// Follows all processes of a step.
#[derive(Debug)]
pub(super) struct Tracer<'w> {
    world: &'w Arc<World>,
    main: Pid,
    begun: HashMap<Pid, Begun>,
    /// Stopped at their very beginning, before the event that says whose they are.
    early: HashSet<Pid>,
    outcome: Option<Outcome>,
}

impl<'w> Tracer<'w> {
    /// For a step whose first process, seized already, is `main`.
    pub(super) fn new(world: &'w Arc<World>, main: Pid) -> Self {
        let (begun, early) = (HashMap::new(), HashSet::new());
        Self { world, main, begun, early, outcome: None }
    }

    /// Follows them until none is left. When the first process ends, so do all others.
    pub(super) fn run(mut self) -> io::Result<Outcome> {
        while let Some((thread, event)) = ptrace::wait()? {
            // A thread that is killed at any moment makes all of this fail; it has one event to come.
            let _ = self.handle(thread, event);
        }
        Ok(self.outcome.unwrap_or(Outcome::Lost))
    }

    fn handle(&mut self, thread: Pid, event: Event) -> Result<(), Errno> {
        match event {
            Event::Exited(_) | Event::Killed(_) => {
                self.ended(thread, event);
                Ok(())
            }
            Event::Started(child) => self.started(thread, child),
            Event::New if self.world.processes.of(thread).is_none() => {
                self.early.insert(thread);
                // Nobody may be left who would say whose it is.
                if self.world.is_ending() { kill_process(thread, Signal::KILL) } else { Ok(()) }
            }
            Event::New => ptrace::resume(thread, None),
            Event::Halted => ptrace::leave_halted(thread),
            Event::Signal(signal) => {
                hide_interruption(thread)?;
                ptrace::resume(thread, Some(signal))
            }
            Event::Filtered => self.filtered(thread),
            Event::EndOfCall => self.end_of_call(thread),
            Event::Executed(former) => self.executed(thread, former),
        }
    }

    fn ended(&mut self, thread: Pid, event: Event) {
        self.begun.remove(&thread);
        self.early.remove(&thread);
        if let Some(process) = self.world.processes.of(thread) {
            self.adopt(&process);
        }
        self.world.processes.remove(thread);
        if thread == self.main {
            self.outcome = Some(match event {
                Event::Exited(code) => Outcome::Exited(code),
                Event::Killed(signal) => Outcome::Signaled(signal),
                _ => Outcome::Lost,
            });
            self.world.end();
            for child in &self.early {
                // One that has ended by itself is as good.
                let _ = kill_process(*child, Signal::KILL);
            }
        }
    }

    /// Lets the children of a killed process go on that it did not live to tell of.
    fn adopt(&mut self, dead: &Arc<Process>) {
        let is_orphan = |child: &&Pid| {
            let path = format!("/proc/{}/stat", child.as_raw_pid());
            let stat = std::fs::read_to_string(path).unwrap_or_default();
            // After the name, which may hold anything: state, parent.
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split(' ').nth(2));
            parent.and_then(|parent| parent.parse().ok()) == Some(std::process::id())
        };
        let orphans: Vec<Pid> = self.early.iter().filter(is_orphan).copied().collect();
        for child in orphans {
            self.early.remove(&child);
            let process = Process::new(child, dead.with(|state| state.clone()));
            self.world.processes.insert(child, Arc::new(process));
            let _ = ptrace::resume(child, None);
        }
    }

    /// A process has made another or a thread, which waits for us.
    fn started(&mut self, parent: Pid, child: Pid) -> Result<(), Errno> {
        let process = self.world.processes.of(parent).ok_or(Errno::SRCH)?;
        let registers = ptrace::registers(parent)?;
        let is_thread = registers.call() == CLONE && registers.argument(0) & CLONE_THREAD != 0;
        let process = if is_thread {
            process
        } else {
            Arc::new(Process::new(child, process.with(|state| state.clone())))
        };
        self.world.processes.insert(child, process);
        if self.world.is_ending() {
            kill_process(child, Signal::KILL)?;
        }
        if self.early.remove(&child) {
            ptrace::resume(child, None)?;
        }
        ptrace::resume(parent, None)
    }

    fn filtered(&mut self, thread: Pid) -> Result<(), Errno> {
        let before = ptrace::registers(thread)?;
        let room = match self.begun.remove(&thread) {
            Some(Begun::Room(address)) => Some(address),
            _ => None,
        };
        match self.exec(thread, &before, room) {
            Ok(()) => ptrace::resume_to_end_of_call(thread),
            Err(errno) => {
                let mut after = before;
                after.refuse(errno);
                ptrace::set_registers(thread, &after)?;
                ptrace::resume(thread, None)
            }
        }
    }

    /// Changes the registers of an exec, or makes the thread get memory first.
    fn exec(&mut self, thread: Pid, before: &Registers, room: Option<u64>) -> Result<(), Errno> {
        let process = self.world.processes.of(thread).ok_or(Errno::SRCH)?;
        let arguments: [u64; 5] = std::array::from_fn(|index| before.argument(index));
        let (from, path, list, environment, flags) = match before.call() {
            EXECVE => (HERE, arguments[0], arguments[1], arguments[2], 0),
            EXECVEAT => {
                let [from, path, list, environment, flags] = arguments;
                (low(from).cast_signed(), path, list, environment, low(flags))
            }
            _ => return Err(Errno::NOSYS),
        };
        let path = remote::read_string(thread, path, PATH_MAX)?;
        if path.is_empty() && flags & libc::AT_EMPTY_PATH.unsigned_abs() == 0 {
            return Err(Errno::NOENT);
        }
        let asked = Notification { id: Call::TRACED, thread, call: 0, arguments: [0; 6] };
        let call = Call { world: self.world, process, asked };
        let prepared = exec::prepare(&call, from, &path, flags)?;
        let block = Block::new(thread, &prepared, list)?;
        let mut after = *before;
        if room.is_none() && block.size() > ON_STACK {
            let length = block.size().next_multiple_of(4096) as u64;
            after.set_call(MMAP, [0, length, READ_WRITE]);
            after.set_more([PRIVATE_ANONYMOUS, u64::MAX, 0]);
            self.begun.insert(thread, Begun::Memory(*before));
            return ptrace::set_registers(thread, &after);
        }
        let (path, new_list) = block.write(thread, before.stack(), room)?;
        after.set_call(EXECVE, [path, new_list.unwrap_or(list), environment]);
        ptrace::set_registers(thread, &after)?;
        self.begun.insert(thread, Begun::Exec(Box::new(prepared), *before));
        Ok(())
    }

    /// The end of an exec that has failed, or of getting memory for one.
    fn end_of_call(&mut self, thread: Pid) -> Result<(), Errno> {
        let now = ptrace::registers(thread)?;
        let failed = i64::from(-4095).cast_unsigned();
        match self.begun.remove(&thread) {
            Some(Begun::Memory(before)) if now.result() < failed => {
                self.begun.insert(thread, Begun::Room(now.result()));
                ptrace::set_registers(thread, &before.repeat())?;
            }
            Some(Begun::Memory(before) | Begun::Exec(_, before)) => {
                let mut after = before;
                after.set_result(now.result());
                ptrace::set_registers(thread, &after)?;
            }
            Some(Begun::Room(_)) | None => {}
        }
        ptrace::resume(thread, None)
    }

    /// A process has become another program, and has not run yet.
    fn executed(&mut self, pid: Pid, former: Pid) -> Result<(), Errno> {
        if former != pid {
            self.world.processes.remove(former);
        }
        let process = self.world.processes.of(pid).ok_or(Errno::SRCH)?;
        let Some(Begun::Exec(prepared, _)) = self.begun.remove(&former) else {
            // Nothing may be executed that was not prepared here.
            return kill_process(pid, Signal::KILL);
        };
        if !exec::is_running(self.world, pid, prepared.file) {
            return kill_process(pid, Signal::KILL);
        }
        let became = process.change(|who| Ok(who.execute(prepared.setuid, prepared.setgid)))?;
        process.with(|state| state.program = prepared.name.as_slice().into());
        let stack = ptrace::registers(pid)?.stack();
        let who = process.credentials();
        introduce(pid, stack, &who, &prepared.name, &prepared.host, became)?;
        ptrace::resume(pid, None)
    }
}

/// Lets a call that a signal has interrupted begin again after the handler, whatever the handler's flags
/// say, if it has only waited for the supervisor: the kernel would have carried it out at once, and
/// programs take "interrupted" from such a call for a failure.
fn hide_interruption(thread: Pid) -> Result<(), Errno> {
    let mut now = ptrace::registers(thread)?;
    let call = u32::try_from(now.call()).unwrap_or(u32::MAX);
    if now.result() == RESTART_IF_WANTED && calls::waits_only_here(call) {
        now.set_result(RESTART_ALWAYS);
        ptrace::set_registers(thread, &now)?;
    }
    Ok(())
}

/// What the kernel takes of an `int` argument.
fn low(argument: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "that is what the kernel does")]
    let low = argument as u32;
    low
}
