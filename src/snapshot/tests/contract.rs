//! What a step changes becomes the same layer, whether it ran on an overlay or in a directory.

use super::*;

/// Later than what is in the base layers, earlier than now: what a step makes gets this time.
const CLAMP: i64 = 1_500_000_000;

/// A root file system of one shape, and the layers that steps have put on it.
struct Subject {
    bench: Bench,
    stack: Committed,
}

impl Subject {
    fn new(style: Style, layers: &[Entries]) -> Self {
        let mut bench = Bench::styled(Owners::Real, OverlayFormat::User, style);
        for entries in layers {
            let (bytes, diff_id) = archive(entries);
            bench.add(bytes, diff_id);
        }
        let stack = bench.ensure().expect("valid layers");
        Self { bench, stack }
    }

    /// Runs a script as a step. Gives the layer, and what the next step would see.
    fn step(&mut self, script: &str) -> (Vec<u8>, String) {
        let active = self.bench.snapshotter.prepare(&self.stack).expect("prepared");
        run(&active.root(), script);
        let clamp = Some(Timestamp::from_seconds(CLAMP));
        let mut writer = LayerWriter::new(Vec::new(), Compression::None, clamp);
        active.diff(&mut writer).expect("readable");
        let written = writer.finish().expect("a Vec takes all");
        self.stack = active.commit(written.diff_id).expect("published");
        let mut next = self.bench.snapshotter.prepare(&self.stack).expect("prepared");
        let seen = run(&next.root(), LIST);
        let seen = sorted(&seen).join("\n");
        if self.bench.snapshotter.0.style != Style::Overlay {
            // It saw the tree of the step before; the next step is to have that too.
            next.whole.take().expect("a tree").keep(&self.bench.snapshotter, &self.stack, &[]);
        }
        (written.sink, seen)
    }

    /// Puts a layer on top that no step made.
    fn copy(&mut self, entries: &[(Entry, &'static str)]) {
        let (bytes, diff_id) = archive(entries);
        self.bench.add(bytes, diff_id);
        let layers: Vec<Layer> = self.bench.blobs.iter().map(|(layer, _)| layer.clone()).collect();
        let last = layers.last().expect("it was added").clone();
        // Those in between are there, as steps have made them.
        let path = self.stack.lower().to_vec();
        let directory = self.bench.snapshotter.temporary("unpack").expect("writable");
        let into = directory.join("fs");
        fs::create_dir(&into).expect("writable");
        let lower = self.stack.view();
        let (owners, format) = (Owners::Real, OverlayFormat::User);
        let target = Target { directory: &into, owners, format, lower: Some(&lower) };
        let blob = self.bench.blobs.last().expect("it was added").1.clone();
        let applied = apply(Cursor::new(blob), &target, last.diff_id).expect("a valid layer");
        crate::layer::settle(&target, &applied.implied, &lower).expect("settled");
        let chain = above(self.stack.chain(), last.diff_id);
        self.bench.snapshotter.publish(&directory, chain).expect("published");
        self.stack = self.bench.snapshotter.stack(&self.stack, last.diff_id).expect("there");
        assert_eq!(self.stack.lower().len(), path.len() + 1);
    }
}

/// Runs scripts one after the other in both shapes. The names in the layers are `expected`.
#[track_caller]
fn check(scripts: &[&str], expected: &[&str]) {
    if !is_root() {
        return;
    }
    let layers = three_layers();
    let mut overlay = Subject::new(Style::Overlay, &layers);
    let mut directory = Subject::new(Style::Directory, &layers);
    let mut all = Vec::new();
    for script in scripts {
        let (one, wanted) = overlay.step(script);
        let (other, seen) = directory.step(script);
        let shown = names(&one);
        assert_eq!(names(&other), shown, "{script}");
        assert!(one == other, "the same names, but not the same layer: {script}");
        assert_eq!(seen, wanted, "{script}");
        all.extend(shown);
    }
    assert_eq!(all, expected);
}

#[test]
fn what_changes_in_all_ways_at_once() {
    let expected = [
        "/brand",
        "/brand/b",
        "/brand/link",
        "/brand/link2 = /brand/link",
        "/brand/new",
        "/dir-or-link",
        "/etc",
        "/etc/.wh.a",
        "/etc/c2",
        "/lib",
        "/lib/null",
        "/lib/pipe",
        "/n\u{fffd}",
        "/srv",
        "/srv/.wh..wh..opq",
        "/srv/1",
        "/srv/2 = /srv/1",
        "/usr",
        "/usr/lib",
        "/usr/lib/libc.so",
    ];
    check(&[CHANGES], &expected);
}

#[test]
fn content_with_the_old_time_and_size() {
    check(&["touch -r etc/c t; printf C > etc/c; touch -r t etc/c; rm t"], &["/etc", "/etc/c"]);
}

#[test]
fn nothing_but_touching() {
    check(
        &["(exec 3>>etc/b 4>>etc/c); touch usr/x; rm usr/x; ln etc/c y; rm y; mkdir e; rmdir e"],
        &[],
    );
}

#[test]
fn one_of_two_names_of_a_file() {
    check(
        &["echo more >> etc/b", "ln etc/c etc/c2; ln etc/c c3", "chmod 600 c3", "rm etc/c"],
        &["/etc", "/etc/b", "/c3", "/etc", "/etc/c2 = /c3", "/c3", "/etc", "/etc/.wh.c"],
    );
}

#[test]
fn a_directory_becomes_a_file_and_comes_back() {
    check(
        &[
            "rm -r srv; echo file > srv",
            "rm srv; mkdir srv; echo 1 > srv/new",
            "rm -r srv; mkdir srv; echo 1 > srv/old",
            "mkdir -p usr/lib/deep/er; echo 1 > usr/lib/deep/er/f",
            "rm -r usr/lib/deep/er; mkdir usr/lib/deep/er; echo 2 > usr/lib/deep/er/g",
        ],
        &[
            "/srv",
            "/srv",
            "/srv/new",
            "/srv",
            "/srv/.wh..wh..opq",
            "/srv/old",
            "/usr",
            "/usr/lib",
            "/usr/lib/deep",
            "/usr/lib/deep/er",
            "/usr/lib/deep/er/f",
            "/usr",
            "/usr/lib",
            "/usr/lib/deep",
            "/usr/lib/deep/er",
            "/usr/lib/deep/er/.wh..wh..opq",
            "/usr/lib/deep/er/g",
        ],
    );
}

#[test]
fn directories_that_are_moved() {
    check(
        &[
            "mv srv usr/moved",
            "mv usr/moved srv",
            // In the place of another one that was there, with a name that was there too.
            "mkdir other; echo 1 > other/new; chmod 700 other; rm -r srv; mv other srv",
            "mkdir two; mv srv two/srv; mv two srv",
        ],
        &[
            "/.wh.srv",
            "/usr",
            "/usr/moved",
            "/usr/moved/new",
            "/usr/moved/newer",
            "/srv",
            "/srv/new",
            "/srv/newer",
            "/usr",
            "/usr/.wh.moved",
            "/srv",
            "/srv/.wh..wh..opq",
            "/srv/new",
            "/srv",
            "/srv/.wh..wh..opq",
            "/srv/srv",
            "/srv/srv/new",
        ],
    );
}

#[test]
fn files_that_take_the_place_of_others() {
    check(
        &[
            "echo new > etc/t; mv etc/t etc/c; mv etc/b etc/bb; ln -sfn nowhere lib",
            "rm lib; mkfifo lib; rm pipe; ln -s x pipe",
            "rm file-or-dir/in; rmdir file-or-dir; ln -s etc file-or-dir",
        ],
        &["/etc", "/etc/.wh.b", "/etc/bb", "/etc/c", "/lib", "/lib", "/pipe", "/file-or-dir"],
    );
}

#[test]
fn a_socket_hides_what_it_replaces_and_is_in_no_layer() {
    let bind = "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"etc/c\")'";
    check(&[&format!("rm etc/c; {bind}")], &["/etc", "/etc/.wh.c"]);
}

#[test]
fn metadata_alone() {
    check(
        &[
            "chmod 0700 srv; chown 5:6 etc/c; \
             python3 -c 'import os; os.setxattr(\"usr/lib/libc.so\", \"user.x\", b\"y\")'",
            "touch -d @1400000000 etc/c; touch -d @1400000000 usr; chmod 4755 etc/b",
            "chmod 711 .",
            "python3 -c 'import os; os.removexattr(\"usr/lib/libc.so\", \"user.x\")'",
        ],
        &[
            "/etc",
            "/etc/c",
            "/srv",
            "/usr",
            "/usr/lib",
            "/usr/lib/libc.so",
            "/etc",
            "/etc/b",
            "/etc/c",
            "/",
            "/usr",
            "/usr/lib",
            "/usr/lib/libc.so",
        ],
    );
}

#[test]
fn deep_trees() {
    let name = "d".repeat(30);
    let make = format!(
        "p=deep; i=0; while [ $i -lt 100 ]; do p=$p/{name}; i=$((i+1)); done; mkdir -p $p; \
         echo x > $p/f; echo y > $p/g"
    );
    let change = format!("d=$(find deep -name f | head -1); rm $d; echo {name} > ${{d%f}}h");
    if !is_root() {
        return;
    }
    let mut overlay = Subject::new(Style::Overlay, &three_layers());
    let mut directory = Subject::new(Style::Directory, &three_layers());
    for (script, entries) in [(make, 103), (change, 103)] {
        let (one, _) = overlay.step(&script);
        let (other, _) = directory.step(&script);
        assert_eq!(names(&one).len(), entries);
        assert!(one == other);
    }
}

#[test]
fn a_layer_between_two_steps_is_added_to_the_tree_of_the_first() {
    if !is_root() {
        return;
    }
    let mut overlay = Subject::new(Style::Overlay, &three_layers());
    let mut directory = Subject::new(Style::Directory, &three_layers());
    let copied = [
        file("/etc/c", "copied"),
        whiteout("/etc/b"),
        directory_with_mode("/srv"),
        opaque("/srv"),
        file("/srv/only", "1"),
        file("/lib", "was a link"),
        directory_with_mode("/file-or-dir"),
        file("/new/deep/file", "x"),
    ];
    for subject in [&mut overlay, &mut directory] {
        subject.step("echo 1 > etc/first");
        subject.copy(&copied);
    }
    let script = "echo 2 > etc/second; rm srv/only; echo x >> new/deep/file";
    let (one, wanted) = overlay.step(script);
    let (other, seen) = directory.step(script);
    assert_eq!(names(&other), names(&one));
    assert!(one == other);
    assert_eq!(seen, wanted);
    assert!(seen.contains("-644 0:0 /etc/first 1"), "{seen}");
}

fn directory_with_mode(path: &str) -> (Entry, &'static str) {
    let (entry, content) = super::directory(path);
    (Entry { mode: 0o1711, uid: 3, ..entry }, content)
}

#[test]
fn two_steps_on_one_stack_have_a_tree_each() {
    if !is_root() {
        return;
    }
    let mut first = Subject::new(Style::Directory, &three_layers());
    first.step("echo 1 > etc/first");
    let prepare = || first.bench.snapshotter.prepare(&first.stack).expect("prepared");
    let (one, other) = (prepare(), prepare());
    run(&one.root(), "echo changed > etc/c; rm etc/first");
    assert_eq!(run(&other.root(), "cat etc/c etc/first"), "c1\n");
    drop((one, other));
    let left = fs::read_dir(first.bench.directory.path().join("tmp")).expect("readable");
    let left: Vec<_> = left.flatten().map(|entry| entry.file_name()).collect();
    let left: Vec<_> =
        left.iter().filter(|name| !name.to_string_lossy().starts_with("unpack")).collect();
    assert!(left.is_empty(), "what is dropped is removed, but {left:?}");
}
