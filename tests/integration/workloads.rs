//! What people do in steps comes out the same everywhere as it does for the root of a machine: owners,
//! modes, links, contents.

use std::collections::BTreeMap;

use crate::support::Image;
use crate::support::Place;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::debs;
use crate::support::debs::Package;
use crate::support::place::Kind;
use crate::support::requirement::require;
use crate::support::stand_in;

/// Three packages: one with a library that the next needs, one with a setuid program, and one whose
/// script makes a user and gives it files.
const PACKAGES: [Package<'_>; 3] = [
    Package {
        name: "coracle-one",
        control: "",
        files: &[
            ("usr/lib/coracle-one/library", 0o644, "one\n"),
            ("etc/coracle-one.conf", 0o640, "setting = 1\n"),
            ("DEBIAN/conffiles", 0o644, "/etc/coracle-one.conf\n"),
        ],
        postinst: None,
    },
    Package {
        name: "coracle-two",
        control: "Depends: coracle-one\n",
        files: &[("usr/bin/coracle-two", 0o4755, "#!/bin/sh\ncat /usr/lib/coracle-one/library\n")],
        postinst: Some("#!/bin/sh\nset -e\nln -sf coracle-two /usr/bin/coracle-deux\nldconfig\n"),
    },
    Package {
        name: "coracle-three",
        control: "Depends: coracle-two\n",
        files: &[("var/lib/coracle-three/state", 0o600, "three\n")],
        postinst: Some(
            "#!/bin/sh\nset -e\nuseradd --system --home-dir /var/lib/coracle-three --shell /usr/sbin/nologin \
             coracle-three\nchown -R coracle-three:coracle-three /var/lib/coracle-three\n\
             chmod 2770 /var/lib/coracle-three\ncoracle-two > /var/lib/coracle-three/ran\n",
        ),
    },
];

/// What a package manager writes down of the hour and of the disk is of no interest.
const APT: &str = "RUN rm -rf /etc/apt/sources.list.d/* && \
     echo 'deb [trusted=yes] http://@DEBS@ ./' > /etc/apt/sources.list && apt-get update -q && \
     DEBIAN_FRONTEND=noninteractive apt-get install -q -y coracle-one coracle-two coracle-three && \
     coracle-two | grep one && stat -c '%U:%G %a' /var/lib/coracle-three | grep '^coracle-three:coracle-three 2770$' && \
     rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/ldconfig/* /var/cache/debconf/*-old /var/lib/dpkg/*-old \
     /etc/*- /var/cache/apt/* /var/lib/apt/extended_states\n";
const USERS: &str = "RUN useradd --create-home --uid 4242 worker && groupadd --gid 4300 crew && \
     usermod --append --groups crew worker && mkdir -p /srv/data/deep && touch /srv/data/one /srv/data/deep/two && \
     ln -s one /srv/data/link && ln /srv/data/one /srv/data/hard && mkfifo /srv/data/pipe && \
     chown -R worker:crew /srv/data && chown -h 7:8 /srv/data/link && chmod 4750 /srv/data/one && \
     chmod 1777 /srv/data/deep && stat -c '%u:%g %a' /srv/data/one | grep '^4242:4300 4750$' && rm /etc/*-\n\
     RUN su worker -c 'id -un; id -G; touch ~/mine; mkdir -m 700 ~/closed; ! touch /etc/not-mine; ! cat /etc/shadow' \
     && stat -c '%U %a' /home/worker/closed | grep '^worker 700$'\n\
     USER worker\nRUN test $(id -u) = 4242 && touch /home/worker/by-user && ! touch /usr/not-mine\nUSER root\n";
const PIP: &str = "RUN mkdir /wheels && cd /wheels && python3 -c \"import zipfile; \
     w = zipfile.ZipFile('sample-1.0-py3-none-any.whl', 'w'); i = zipfile.ZipInfo; \
     d = 'sample-1.0.dist-info/'; \
     w.writestr(i('sample/__init__.py'), 'def main(): print(42)\\n'); \
     w.writestr(i(d + 'METADATA'), 'Metadata-Version: 2.1\\nName: sample\\nVersion: 1.0\\n'); \
     w.writestr(i(d + 'WHEEL'), 'Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n'); \
     w.writestr(i(d + 'entry_points.txt'), '[console_scripts]\\nsample = sample:main\\n'); \
     w.writestr(i(d + 'RECORD'), ''); w.close()\" && \
     pip install --no-cache-dir --no-index /wheels/*.whl && sample | grep 42 && python3 -m compileall -q -j 2 \
     --invalidation-mode unchecked-hash /usr/local/lib/python3*/dist-packages\n";
const SHELL: &str = "RUN seq 1 2000 | sed 's/$/ x/' | awk '{ s += $1 } END { print s }' > /sum && grep 2001000 /sum\n\
     RUN find / -path /proc -prune -o -path /sys -prune -o -path /dev -prune -o ! -name found -print | sort > /found && \
     test $(find / 2> /dev/null | wc -l) -gt $(wc -l < /found) && wc -l < /found\n\
     RUN mkdir /d && cd /d && for n in 1 2 3 4 5 6 7 8 9; do mkdir -p $n/a/b && echo $n > $n/a/b/c & done; wait; \
     mv 1 moved && rm -r 2 && ln 3/a/b/c hard && stat -c %h hard | grep '^2$'\n";
const TAR: &str = "COPY many.tar /\nRUN mkdir /out && tar -xf /many.tar -C /out && \
     stat -c '%u:%g %a' /out/file-7 | grep '^7:17 4711$' && stat -c %h /out/hard-3 | grep '^2$' && rm /many.tar\n";

/// Children end while the shell is busy with the next: it must not notice that calls are answered by
/// somebody who may be slow.
const SIGNALS: &str = "RUN set -e; n=0; while [ $n -lt 300 ]; do n=$((n+1)); \
     true | cat /etc/passwd | tail -n 1 > /last; (true) & : < /etc/group; : > /made; done 2> /errors; wait; \
     test ! -s /errors; rm /errors\n";

/// An archive with many owners, and all kinds of files that need no privilege to make.
fn many_owners() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, owner: u64, mode: u32, link: &str| {
        let mut header = tar::Header::new_ustar();
        let content: &[u8] = if kind.is_file() { b"content" } else { b"" };
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner + 10);
        header.set_mtime(1_500_000_000 + owner);
        header.set_size(content.len() as u64);
        if !link.is_empty() {
            header.set_link_name(link).expect("a short name");
        }
        archive.append_data(&mut header, path, content).expect("memory can be written");
    };
    for owner in 0..60 {
        use tar::EntryType::{Directory, Fifo, Link, Regular, Symlink};
        add(&format!("dir-{owner}/"), Directory, owner, 0o2751, "");
        add(&format!("dir-{owner}/inner"), Regular, owner * 1000, 0o640, "");
        add(&format!("file-{owner}"), Regular, owner, 0o4711, "");
        add(&format!("hard-{owner}"), Link, owner, 0o4711, &format!("file-{owner}"));
        add(&format!("link-{owner}"), Symlink, owner, 0o777, &format!("dir-{owner}/inner"));
        add(&format!("pipe-{owner}"), Fifo, owner, 0o620, "");
    }
    archive.into_inner().expect("memory can be written")
}

/// Every layer of the image's own, as a list that can be compared and read.
fn listing(image: &Image, of_base: usize) -> Vec<BTreeMap<String, String>> {
    let describe = |file: &crate::support::archive::File| {
        let digest = coracle::oci::Digest::of(&file.content).short();
        // What is short can be read, and is worth more than its digest then.
        let content = if file.content.len() < 4096 { file.text() } else { digest };
        format!("{} -> {:?} {content:?}", file.summary(), file.link)
    };
    let layer = |files: &crate::support::archive::Files| {
        files.iter().map(|(path, file)| (path.clone(), describe(file))).collect()
    };
    image.layers[of_base..].iter().map(layer).collect()
}

/// Builds `dockerfile` for the root of a machine and in a place of that kind, and compares.
fn check(kind: Kind, dockerfile: &str) {
    let registry = require!(Registry::open());
    let is_big = dockerfile.contains("python");
    let of_base = if is_big { 3 } else { 2 };
    if is_big {
        require!(stand_in::push(&registry, &[]));
    } else {
        require!(base::push_busybox(&registry));
    }
    let debs = require!(debs::mirror(&PACKAGES));
    let context = Scratch::new();
    context.write("Dockerfile", dockerfile.replace("@DEBS@", &debs.address()));
    context.write("many.tar", many_owners());
    let mirror = registry.as_docker_hub();
    let mut images = Vec::new();
    for kind in [Kind::Root, kind] {
        let mut place = require!(Place::new(kind));
        place.set("SOURCE_DATE_EPOCH", "0");
        let directory = place.copy(context.path(), "context");
        let tag = format!("{kind:?}").to_lowercase();
        let name = format!("{}/team/work:{tag}", registry.address());
        let build = ["build", "--registry-mirror", &mirror, "-t", &name, "--push", &directory];
        let output = place.run(&build).ok();
        let isolation = format!("isolation: {},", kind.isolation());
        assert!(output.text().contains(&isolation), "{output}");
        images.push(Image::from_registry(&registry, "team/work", &tag));
        place.assert_nothing_left();
    }
    let [root, other] = [&images[0], &images[1]].map(|image| listing(image, of_base));
    assert_eq!(root.len(), other.len(), "{kind:?}");
    for (index, (root, other)) in root.iter().zip(&other).enumerate() {
        let paths: std::collections::BTreeSet<&String> = root.keys().chain(other.keys()).collect();
        let different: Vec<String> = paths
            .into_iter()
            .filter(|path| root.get(*path) != other.get(*path))
            .map(|path| format!("{path}: {:?} and not {:?}", other.get(path), root.get(path)))
            .collect();
        assert!(different.is_empty(), "{kind:?}, layer {index}: {different:#?}");
    }
    assert_eq!(images[0].digest, images[1].digest, "{kind:?}");
}

fn debian() -> String {
    format!("FROM python:3.6-slim\n{APT}{USERS}{PIP}{TAR}")
}

fn busybox() -> String {
    format!("FROM busybox\n{SIGNALS}{SHELL}{TAR}")
}

macro_rules! workloads {
    ($($place:ident: $kind:expr),*) => {$(
        mod $place {
            use super::*;

            #[test]
            fn packages_users_wheels_and_archives_on_debian() { check($kind, &debian()) }
            #[test]
            fn pipelines_and_archives_on_a_static_busybox() { check($kind, &busybox()) }
        }
    )*};
}

workloads! {
    with_subordinate_ids: Kind::Subordinate,
    in_a_pod: Kind::RootPod,
    in_a_restricted_pod: Kind::RestrictedPod,
    in_a_pod_with_own_users: Kind::OwnUsersPod,
    without_namespaces: Kind::NoNamespaces
}
