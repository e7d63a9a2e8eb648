//! The build cache: finds the layer of a step that has run before.
//!
//! # What a result depends on
//!
//! A [`CacheKey`] names everything that the layer of a step depends on, and nothing else. What is
//! forgotten in it gives wrong images; what is too much in it gives slow builds. So here is every
//! input that a step has, and why it is in the key or not. "Via" means that something else in the
//! key changes whenever this does.
//!
//! | input | `RUN` | `COPY` | `ADD` | `WORKDIR` | why |
//! |---|---|---|---|---|---|
//! | version of this encoding, and of how steps are carried out | in | in | in | in | a newer coracle that makes other layers must not find the old ones |
//! | layers below (chain ID) | in | in¹ | in¹ | in | a command reads them; a copy goes through their links and makes what is missing |
//! | tables of contents of the base's layers | no | in¹ | in¹ | in | what they say may be wrong, and shows for steps that unpack nothing |
//! | the image's `/etc/passwd`, `/etc/group` | via layers | via layers | via layers | via layers | they are files like others |
//! | name or digest of the base image | no | no | no | no | only its files matter: a base that was tagged anew or rebuilt alike changes nothing |
//! | config of the base image | via env, user, … | via cwd | via cwd | via path, user | what of it reaches the step is listed below |
//! | platform | in | no | no | no | a command can ask for it; files are the same everywhere |
//! | command and arguments | in | – | – | – | |
//! | `SHELL` | via arguments | – | – | – | it is the first of them |
//! | environment: `ENV`, and `ARG` in scope | in | no² | no² | no² | a command can read all of it, whether it does or not |
//! | proxy variables (rule A046) | no | – | – | – | how to reach the network is not what is there |
//! | user | in | no³ | no³ | in | `WORKDIR` gives it what it makes |
//! | working directory | in | in | in | via path | relative destinations start there |
//! | `HOME`, groups | via layers and user | – | – | – | both are read from the image's user database |
//! | network mode | in | – | – | – | a command can tell |
//! | what the network answers | no | – | – | – | nobody can know it beforehand: run with `--no-cache` |
//! | `--mount` kinds, targets, options, in order | in | – | – | – | a command sees them |
//! | files mounted with `type=bind` | in | – | – | – | by content, like copied files: one digest of all |
//! | what a new `type=cache` starts with (`from`) | in | – | – | – | likewise |
//! | what a `type=cache` holds | no | – | – | – | it is there to make a step faster, not to make it another (rule A157) |
//! | values of secrets, whether there are any; SSH agents | no | – | – | – | a token is renewed, and what it opens stays the same (A158, A159) |
//! | `--security`, `--shm-size`, `--ulimit` | in | – | – | – | a command can tell, and may fail for it |
//! | `--add-host`: names | in | – | – | – | |
//! | `--add-host`: addresses | no | – | – | – | as with proxies: a service that a CI job starts has a new one each time; BuildKit does the same |
//! | `--allow`, `--no-cache-filter` | no | no | no | no | they say whether a step is carried out, not what it does |
//! | files for scripts (`#!` in heredocs) | in | – | – | – | by content |
//! | source patterns, `--exclude`, `--parents`, `--link`, `--chmod` | – | in | in | – | they decide what goes where |
//! | copied files: names, kinds, modes, content | – | in | in | – | one digest of all |
//! | their owners | – | in⁴ | in⁴ | – | |
//! | their times | – | no | no | – | a fresh checkout has new ones, and would never find anything |
//! | which stage or image they come from | – | no | no | – | only the files matter |
//! | text of inline files (heredocs) | – | in | in | – | part of the digest of copied files |
//! | destination | – | in | in | in | |
//! | `--chown` | – | in | in | – | |
//! | `--unpack` | – | – | in | – | and `ADD` itself, which unpacks, is told from `COPY` |
//! | `SOURCE_DATE_EPOCH` | in | in | in | in | all times in the layer depend on it |
//! | compression of layers | in | in | in | in | the blob that is found is used as it is |
//! | time, host name, user, umask, file system of the builder | no | no | no | no | a step never sees them |
//! | how the sandbox works here | no | no | no | no | every way gives the same layer |
//! | title, line number, comments, case of the keyword | no | no | no | no | they are for people |
//! | labels, `CMD`, `EXPOSE`, … | no | no | no | no | they change the config alone |
//!
//! ¹ Not with `--link`, unless `--chown` has a name to look up: such a layer does not depend on
//! what lies below (rule A127). ² They reach a copy only expanded, in what is listed here. ³ Copies
//! belong to root or to `--chown`. ⁴ Not from the build context, whose files come in as root's.
//!
//! This is not perfect. A command whose result changes by itself (`apt-get update`) is found again
//! for ever; files that differ only in time are taken for equal, as `BuildKit` takes them, although
//! a copy keeps times.
//!
//! # What is kept
//!
//! [`LocalCache`] keeps one small file for each key in the store's `cache/`, published by rename.
//! It holds the parts of the key too, so that [`LocalCache::explain`] can say what has changed.
//! A record is only ever believed as a whole: one that is damaged, of another version, or whose
//! layer is gone is as good as none.

mod explain;
pub mod key;
mod local;

pub use explain::{Change, Explanation};
pub use key::{CacheKey, Part, Surroundings};
pub use local::{CachedLayer, LocalCache};
