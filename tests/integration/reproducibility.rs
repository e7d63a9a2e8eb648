//! The same build gives the same image: twice, by another user, in another directory.

use crate::support::Coracle;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::coracle::Who;
use crate::support::requirement::require;

/// Owners, modes, links, devices of the file system's own, removal: what could differ by user.
const DOCKERFILE: &str = "FROM busybox
WORKDIR /work
COPY --chown=builder:builder hello deep/hello
RUN mkdir -m 1777 open && echo a > a && ln a b && ln -s a c && chown 1234:1235 a \\
    && chmod 4755 a && mkfifo fifo && rm /etc/group && touch -d @86400 old
USER builder
RUN echo mine > /work/open/mine
";

fn digest(who: Who, registry: &Registry) -> Result<String, String> {
    let mut coracle = Coracle::run_by(who)?;
    coracle.set("SOURCE_DATE_EPOCH", "0");
    let context = Scratch::new();
    context.write("Dockerfile", DOCKERFILE);
    context.write("hello", "hello");
    let image = coracle.build(context.path(), &registry.as_docker_hub(), &["--no-cache"]);
    let files = image.files();
    assert_eq!(files["work/deep/hello"].summary(), "- 644 1234:1235");
    assert_eq!(files["work/a"].summary(), "- 4755 1234:1235");
    assert_eq!(files["work/open/mine"].summary(), "- 644 1234:1235");
    assert!(!files.contains_key("etc/group"));
    coracle.assert_nothing_left();
    Ok(image.digest)
}

#[test]
fn two_builds_by_one_user_in_two_directories() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let first = require!(digest(Who::Subordinate, &registry));
    assert_eq!(first, require!(digest(Who::Subordinate, &registry)));
}

#[test]
fn builds_by_root_and_by_an_ordinary_user() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let root = require!(digest(Who::Root, &registry));
    assert_eq!(root, require!(digest(Who::Subordinate, &registry)));
}

#[test]
fn a_user_with_one_id_gets_the_same_image_where_no_step_changes_identity() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let context = Scratch::new();
    context.write("Dockerfile", "FROM busybox\nRUN mkdir /made && echo hello > /made/hello\n");
    let mut digests = Vec::new();
    for who in [Who::Single, Who::Subordinate] {
        let mut coracle = require!(Coracle::run_by(who));
        coracle.set("SOURCE_DATE_EPOCH", "0");
        let image = coracle.build(context.path(), &registry.as_docker_hub(), &["--no-cache"]);
        assert_eq!(image.top()["made/hello"].summary(), "- 644 0:0");
        digests.push(image.digest);
        coracle.assert_nothing_left();
    }
    assert_eq!(digests[0], digests[1]);
}
