//! The index of a layer that comes with a table of contents: `zstd:chunked`.
//!
//! Such a layer is a tar compressed with zstd, in whose last frames, which decompressors skip, stands
//! what its archive says of files.
//!
//! It does not say where in the archive a file begins; whoever wants contents needs the layer itself.
//!
//! Spec: <https://github.com/containers/storage/blob/main/docs/containers-storage-zstd-chunked.md>.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::layer::index::table::{Form, LIMIT, ROOM, TableOfContents};
use crate::layer::index::{Member, Members, NOWHERE};
use crate::layer::{Entry, Kind, whiteout};
use crate::oci::{Descriptor, ImagePath, Timestamp};

/// What the annotations of a layer begin with; the second was in use until 2023.
const PREFIXES: [&str; 2] =
    ["io.github.containers.zstd-chunked.manifest-", "io.containers.zstd-chunked.manifest-"];

/// The only type of table that there is.
const CRFS: u64 = 1;

/// The only version of it.
const VERSION: u64 = 1;

/// The table.
#[derive(Deserialize)]
struct Table {
    version: u64,
    #[serde(deserialize_with = "members")]
    entries: Vec<Member>,
}

/// One row of it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Row {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    link_name: String,
    mode: u32,
    size: u64,
    uid: u32,
    gid: u32,
    modtime: Option<Timestamp>,
    dev_major: u32,
    dev_minor: u32,
    xattrs: BTreeMap<String, String>,
}

/// Where the annotations say that the table is.
pub(super) fn announced(layer: &Descriptor) -> Option<TableOfContents> {
    let annotation = |prefix: &str, name| layer.annotations.get(&format!("{prefix}{name}"));
    let (position, checksum) = PREFIXES
        .iter()
        .find_map(|prefix| annotation(prefix, "position").zip(annotation(prefix, "checksum")))?;
    let numbers: Result<Vec<u64>, _> = position.split(':').map(str::parse).collect();
    let [offset, length, unpacked, kind] = numbers.ok()?[..] else { return None };
    let digest = checksum.parse().ok()?;
    let table = TableOfContents { offset, length, digest, form: Form::Chunked };
    (kind == CRFS && unpacked <= LIMIT).then_some(table)
}

/// The entries that the table names.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<Member>> {
    let mut text = Vec::new();
    let unpacked = zstd::Decoder::with_buffer(bytes).ok()?;
    unpacked.take(LIMIT).read_to_end(&mut text).ok()?;
    let table: Table = serde_json::from_slice(&text).ok()?;
    (table.version == VERSION).then_some(table.entries)
}

/// Reads the rows, and keeps no more of them than there is room for.
fn members<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<Member>, D::Error> {
    struct Rows;

    impl<'de> Visitor<'de> for Rows {
        type Value = Vec<Member>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("rows of files")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Self::Value, A::Error> {
            let mut members = Members::within(ROOM);
            while let Some(row) = rows.next_element::<Row>()? {
                let entry = row.entry().map_err(|Malformed| A::Error::custom("a row is wrong"))?;
                let Some(entry) = entry else { continue };
                let added = members.push(Member { entry, start: NOWHERE, content: None });
                added.ok_or_else(|| A::Error::custom("there are too many rows"))?;
            }
            Ok(members.all)
        }
    }

    input.deserialize_seq(Rows)
}

/// A row that makes no sense.
struct Malformed;

impl Row {
    /// The entry, as the archive has it; `None` for what is no file.
    fn entry(self) -> Result<Option<Entry>, Malformed> {
        let is_broken = |name: &str| name.is_empty() || name.contains('\0');
        if is_broken(&self.name) {
            return Err(Malformed);
        }
        let kind = match &*self.kind {
            "dir" => Kind::Directory,
            "reg" => Kind::File { size: self.size },
            "symlink" if !is_broken(&self.link_name) => {
                Kind::Symlink { target: self.link_name.clone().into_bytes() }
            }
            "hardlink" => Kind::Hardlink { target: ImagePath::new(&self.link_name) },
            "char" => Kind::CharDevice { major: self.dev_major, minor: self.dev_minor },
            "block" => Kind::BlockDevice { major: self.dev_major, minor: self.dev_minor },
            "fifo" => Kind::Fifo,
            // A further piece of the file above.
            "chunk" => return Ok(None),
            _ => return Err(Malformed),
        };
        let mut path = ImagePath::new(&self.name);
        let Ok(marker) = whiteout::interpret(&mut path) else { return Ok(None) };
        let mut xattrs = BTreeMap::new();
        for (name, value) in self.xattrs {
            xattrs.insert(name.into_bytes(), STANDARD.decode(value).map_err(|_| Malformed)?);
        }
        Ok(Some(Entry {
            path,
            kind: marker.unwrap_or(kind),
            mode: self.mode & 0o7777,
            uid: self.uid,
            gid: self.gid,
            mtime: self.modtime.unwrap_or(Timestamp::EPOCH),
            xattrs,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Compression, Digest, MediaType};

    fn descriptor(position: &str, checksum: &str) -> Descriptor {
        let media_type = MediaType::OciLayer(Compression::Zstd);
        let mut descriptor = Descriptor::new(media_type, Digest::of("layer"), 1000);
        for (name, value) in [("position", position), ("checksum", checksum)] {
            descriptor.annotations.insert(format!("{}{name}", PREFIXES[0]), value.to_owned());
        }
        descriptor
    }

    #[test]
    fn annotations_say_where_the_table_is() {
        let digest = Digest::of("table").to_string();
        let check = |position: &str, checksum: &str, expected: Option<(u64, u64)>| {
            let found = TableOfContents::of(&descriptor(position, checksum));
            assert_eq!(found.map(|it| (it.offset, it.length)), expected, "{position}");
        };
        check("100:50:200:1", &digest, Some((100, 50)));
        check("950:50:200:1", &digest, Some((950, 50)));
        check("951:50:200:1", &digest, None);
        check("100:50:200:2", &digest, None);
        check("100:50:200", &digest, None);
        check("100:0:200:1", &digest, None);
        check("-1:50:200:1", &digest, None);
        check("18446744073709551615:50:200:1", &digest, None);
        check("100:50:100000000000:1", &digest, None);
        check("100:50:200:1", "sha256:x", None);
    }

    /// The entries of a table with these rows, one a line.
    fn lines(rows: &str) -> Option<String> {
        let table = format!("{{\"version\": 1, \"entries\": [{rows}]}}");
        let bytes = zstd::encode_all(table.as_bytes(), 1).expect("memory can be written");
        let line = |member: &Member| {
            let Entry { path, kind, mode, uid, gid, mtime, xattrs } = &member.entry;
            format!("{path} {kind:?} {mode:o} {uid}:{gid} {} {xattrs:?}\n", mtime.seconds)
        };
        Some(read(&bytes)?.iter().map(line).collect())
    }

    #[test]
    fn rows_are_what_the_archive_says() {
        let check = |row: &str, expected: &str| {
            assert_eq!(lines(row).as_deref(), Some(expected), "{row}");
        };
        check(
            r#"{"type": "dir", "name": "tmp/", "mode": 1023, "modtime": "1970-01-01T00:00:09.5Z"}"#,
            "/tmp Directory 1777 0:0 9 {}\n",
        );
        check(
            r#"{"type": "reg", "name": "./a", "size": 5, "mode": 33188, "uid": 1, "gid": 2,
                "xattrs": {"user.x": "AQI="}, "digest": "sha256:00", "chunkSize": 3},
               {"type": "chunk", "name": "a", "offset": 9}"#,
            "/a File { size: 5 } 644 1:2 0 {[117, 115, 101, 114, 46, 120]: [1, 2]}\n",
        );
        check(
            r#"{"type": "symlink", "name": "l", "linkName": "x"}"#,
            "/l Symlink { target: [120] } 0 0:0 0 {}\n",
        );
        check(
            r#"{"type": "reg", "name": "d/.wh.gone"}, {"type": "reg", "name": "d/.wh..wh..opq"}"#,
            "/d/gone Whiteout 0 0:0 0 {}\n/d OpaqueWhiteout 0 0:0 0 {}\n",
        );
    }

    #[test]
    fn what_makes_no_sense_is_no_table() {
        for row in [
            r#"{"type": "reg", "name": ""}"#,
            r#"{"type": "symlink", "name": "l"}"#,
            r#"{"type": "door", "name": "d"}"#,
            r#"{"type": "reg", "name": "x", "size": -1}"#,
            r#"{"type": "reg", "name": "x", "xattrs": {"a": "%"}}"#,
            "[",
        ] {
            assert_eq!(lines(row), None, "{row}");
        }
    }
}
