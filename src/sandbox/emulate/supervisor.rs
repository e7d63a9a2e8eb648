//! The life of an emulated step: what is prepared, who watches, what is left.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, RwLock};

use rustix::fs::{CWD, Mode, OFlags, XattrFlags, fstat, mkdirat, openat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::PipeFlags;
use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::layer::HELD;
use crate::sandbox::answering::answer_from_now_on;
use crate::sandbox::emulate::call::{Call, HERE};
use crate::sandbox::emulate::credentials::Credentials;
use crate::sandbox::emulate::exec::programs::Programs;
use crate::sandbox::emulate::known::Known;
use crate::sandbox::emulate::notifications::Desk;
use crate::sandbox::emulate::process::{Process, Processes, State};
use crate::sandbox::emulate::procfs::NodeKind;
use crate::sandbox::emulate::proxies::Proxies;
use crate::sandbox::emulate::records::Records;
use crate::sandbox::emulate::resolve::Walked;
use crate::sandbox::emulate::scratch::Scratch;
use crate::sandbox::emulate::sockets::Sockets;
use crate::sandbox::emulate::start;
use crate::sandbox::emulate::start_point::Base;
use crate::sandbox::emulate::surroundings::{self, MadeIn, Surroundings};
use crate::sandbox::emulate::trace::Tracer;
use crate::sandbox::emulate::world::World;
use crate::sandbox::error::{Failure, While as _};
use crate::sandbox::protocol::{Order, Outcome};
use crate::sandbox::{RootFs, User, WholeTree};
use crate::sys::notify::{self, Listener, Notification};
use crate::sys::process::{Fork, exit_now, fork, poll};
use crate::sys::{beneath, ptrace};

/// What new files are like: readable by all, writable by the owner.
const UMASK: u32 = 0o022;
/// Carries out the order; `orders` closing means that the sandbox is to end.
pub(super) fn serve(order: &Order, orders: File) -> Result<Outcome, Failure> {
    let unsupported =
        |action: &str| Err(Failure { action: action.to_owned(), source: Errno::OPNOTSUPP.into() });
    if order.spec.insecure {
        return unsupported(
            "run an insecure step without namespaces: use `--isolation namespaces`",
        );
    }
    let RootFs::Directory(tree) = &order.spec.root else {
        return unsupported("emulate a root file system that is in layers");
    };
    prepare_self().to("prepare the supervisor")?;
    let parent = tree.directory.parent().unwrap_or(&tree.directory);
    let scratch = Scratch::new(parent).to("make a directory beside the root file system")?;
    let (world, made) = build(order, tree, scratch)?;
    let world = Arc::new(world);
    let outcome = run(order, &world, orders);
    world.end();
    world.close();
    let saved = world.records.save(&world.mounts.tree(), &tree.records);
    let tidied = surroundings::tidy(&made);
    world.scratch.remove().to("remove what the emulation has made")?;
    saved.to("save the owners of links")?;
    tidied.to("remove mount points from the root file system")?;
    outcome
}

/// Gives up what the step must not gain, and takes what many processes need.
fn prepare_self() -> io::Result<()> {
    rustix::process::umask(Mode::empty());
    let empty = CapabilitySet::empty();
    let none = CapabilitySets { effective: empty, permitted: empty, inheritable: empty };
    rustix::thread::set_capabilities(None, none)?;
    // The orphans of the step come here to be buried, and not to whoever is the first process.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let files = rustix::process::getrlimit(Resource::Nofile);
    let most = Rlimit { current: files.maximum, ..files };
    Ok(rustix::process::setrlimit(Resource::Nofile, most)?)
}

fn build(
    order: &Order,
    tree: &WholeTree,
    scratch: Scratch,
) -> Result<(World, Vec<MadeIn>), Failure> {
    let spec = &order.spec;
    let directory = &tree.directory;
    let root = beneath::open_root(directory).to("open the root file system")?;
    let programs = scratch.directory("programs", 0o700).to("make a directory for programs")?;
    check_attributes(&programs).to(format!(
        "keep owners beside `{}`: its file system has no extended attributes; put the store on \
         another volume",
        directory.display()
    ))?;
    let records = Records::default();
    records.load(&root, &tree.records).to("read the owners of links")?;
    let surroundings = Surroundings::new(root, &records, &scratch);
    let mut surroundings = surroundings.to("open the root file system")?;
    let shown = surroundings.add_kernel(spec.shm_size).and_then(|devices| {
        surroundings.add_all(spec)?;
        Ok(devices)
    });
    let (mounts, made, file_devices, locked) = surroundings.into_parts();
    let devices = match shown {
        Ok(devices) => devices,
        Err(failure) => {
            // What is first wrong is what to tell.
            let _ = (surroundings::tidy(&made), scratch.remove());
            return Err(failure);
        }
    };
    let path = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
    let proc = openat(CWD, "/proc", path, Mode::empty()).to("open `/proc`")?;
    let proxies = scratch.directory("proxies", 0o700).to("make a directory for proxies")?;
    let unique = format!("coracle-{}-{:x}", rustix::process::getpid().as_raw_pid(), noise());
    let world = World {
        mounts,
        records,
        known: Known::default(),
        processes: Processes::default(),
        programs: Programs::new(programs).to("make a directory for programs")?,
        proxies: Proxies::new(proxies),
        sockets: Sockets::new(&unique),
        devices,
        proc_device: fstat(&proc).to("open `/proc`")?.st_dev,
        proc,
        file_devices,
        hostname: spec.hostname.clone(),
        network: spec.host_network,
        listener: OnceLock::new(),
        ending: AtomicBool::new(false),
        closed: RwLock::new(false),
        _locked: locked,
        scratch,
    };
    Ok((world, made))
}

/// A number that others do not guess.
fn noise() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0)
}

fn check_attributes(directory: &OwnedFd) -> Result<(), Errno> {
    let name = [HELD, b"test"].concat();
    rustix::fs::fsetxattr(directory, &*name, b"", XattrFlags::empty())?;
    rustix::fs::fremovexattr(directory, &*name)
}

fn run(order: &Order, world: &Arc<World>, orders: File) -> Result<Outcome, Failure> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .to("make a pair of sockets")?;
    let (failure, failed) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).to("open a pipe")?;
    let main = match fork().to("start the command's process")? {
        Fork::Parent(pid) => pid,
        Fork::Child => {
            drop((orders, ours, failure));
            exit_now(start::main(order, world, &theirs, &failed))
        }
    };
    drop((theirs, failed));
    let outcome = match supervise(order, world, main, &ours, orders) {
        Ok(outcome) => outcome,
        Err(error) => {
            let _ = rustix::process::kill_process(main, Signal::KILL);
            let _ = rustix::process::waitpid(Some(main), rustix::process::WaitOptions::empty());
            // The process's own words say more than that it did not come back.
            let words = words(failure).to("hear from the command's process")?;
            return words.ok_or(error);
        }
    };
    Ok(words(failure).to("hear from the command's process")?.unwrap_or(outcome))
}

/// What the command's process has said before it became the command.
fn words(failure: OwnedFd) -> io::Result<Option<Outcome>> {
    let mut said = Vec::new();
    File::from(failure).read_to_end(&mut said)?;
    if said.is_empty() { Ok(None) } else { Ok(Some(serde_json::from_slice(&said)?)) }
}

fn supervise(
    order: &Order,
    world: &Arc<World>,
    main: Pid,
    socket: &OwnedFd,
    orders: File,
) -> Result<Outcome, Failure> {
    ptrace::seize(main).to("trace the command's process")?;
    // From here on nobody of this user looks into this process's memory.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .to("hide from the step")?;
    rustix::io::write(socket, b"x").to("speak to the command's process")?;
    let listener = notify::receive_descriptor(socket).to("receive the filter's listener")?;
    let lost = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let listener = listener.ok_or_else(lost).to("receive the filter's listener")?;
    let listener = Listener::from_descriptor(listener);
    listener.take_turns();
    world.listener.get_or_init(|| listener);
    let process = first_process(order, world, main)?;
    world.processes.insert(main, process);
    let desk = Desk(Arc::clone(world));
    answer_from_now_on(Arc::new(desk)).to("start a thread")?;
    let watching = Arc::clone(world);
    let watch = move || {
        // The builder sends nothing after its order, so this is its end or its wish.
        let _ = poll([Some(orders.as_fd())]);
        watching.end();
    };
    std::thread::Builder::new().spawn(watch).to("start a thread")?;
    rustix::io::write(socket, b"x").to("speak to the command's process")?;
    Tracer::new(world, main).run().to("trace the step")
}

/// What is known of the first process, with its working directory, which is made if it is missing.
fn first_process(order: &Order, world: &Arc<World>, pid: Pid) -> Result<Arc<Process>, Failure> {
    let state = |user: &User, directory: Base| State {
        credentials: Arc::new(Credentials::of_user(user)),
        directory: Arc::new(directory),
        umask: UMASK,
        program: Arc::from(&b"/"[..]),
    };
    let top = || world.open_place(b"").to("open the root file system");
    let root = Arc::new(Process::new(pid, state(&User::default(), top()?)));
    let cwd = &order.spec.cwd;
    let directory = working_directory(world, root, cwd.as_bytes())
        .to(format!("make the working directory `{cwd}`"))?;
    Ok(Arc::new(Process::new(pid, state(&order.spec.user, directory))))
}

fn working_directory(
    world: &Arc<World>,
    process: Arc<Process>,
    path: &[u8],
) -> Result<Base, Errno> {
    let thread = process.pid;
    let asked = Notification { id: Call::TRACED, thread, call: 0, arguments: [0; 6] };
    let call = Call { world, process, asked };
    let path = [b"/", path].concat();
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let mut directory = world.open_place(b"")?;
    for end in ends.skip(1).chain([path.len()]) {
        directory = match world.walk(&call, &directory, &path[..end], true)? {
            Walked::Found(found) => world.base_at(found.fd)?,
            Walked::Node(node) if node.kind == NodeKind::Directory => Base::Processes(node.path),
            Walked::Node(_) => return Err(Errno::NOTDIR),
            Walked::Missing(around, name) => {
                let name =
                    std::ffi::OsStr::new(std::str::from_utf8(&name).map_err(|_| Errno::ILSEQ)?);
                mkdirat(&around.fd, name, Mode::from_raw_mode(0o755))?;
                match world.find(&call, HERE, &path[..end], true)? {
                    Walked::Found(found) => world.base_at(found.fd)?,
                    _ => return Err(Errno::NOTDIR),
                }
            }
        };
    }
    Ok(directory)
}
