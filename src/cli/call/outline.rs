//! `--call=outline` for people: what the build of a target takes.

use crate::cli::call::targets::columns;
use crate::plan::Outline;
use crate::plan::OutlineMount;

/// The target, and a table of each kind of thing that there is.
pub(crate) fn table(outline: &Outline) -> String {
    let name = outline.name.as_deref().unwrap_or("(default)");
    let mut text = ["TARGET:       ", name, "\n"].concat();
    if let Some(description) = &outline.description {
        text.extend(["DESCRIPTION:  ", description, "\n"]);
    }
    let args = outline.args.iter().map(|arg| {
        let value = arg.value.clone().unwrap_or_default();
        let default = arg.default.clone().unwrap_or_default();
        let given = if value == default { String::new() } else { value };
        vec![arg.name.clone(), default, given, arg.description.clone().unwrap_or_default()]
    });
    let args = args.collect::<Vec<_>>();
    add(&mut text, &["BUILD ARG", "DEFAULT", "VALUE", "DESCRIPTION"], args);
    let required = |mount: &OutlineMount| {
        vec![mount.id.clone(), if mount.required { "required" } else { "" }.to_owned()]
    };
    add(&mut text, &["SECRET", "REQUIRED"], outline.secrets.iter().map(required).collect());
    add(&mut text, &["SSH", "REQUIRED"], outline.ssh.iter().map(required).collect());
    let caches = outline.caches.iter().map(|mount| vec![mount.id.clone()]);
    add(&mut text, &["CACHE"], caches.collect());
    text
}

fn add(text: &mut String, head: &[&str], rows: Vec<Vec<String>>) {
    if !rows.is_empty() {
        *text += "\n";
        *text += &columns(head, rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::Span;
    use crate::plan::OutlineArg;

    #[test]
    fn each_kind_of_thing_is_a_table() {
        let arg = OutlineArg {
            name: "VERSION".into(),
            description: Some("what to fetch".into()),
            default: Some("1".into()),
            value: Some("2".into()),
            span: Span::default(),
        };
        let token = OutlineMount { id: "token".into(), required: true, span: Span::default() };
        let outline = Outline {
            name: Some("build".into()),
            args: vec![arg],
            secrets: vec![token],
            ..Outline::default()
        };
        let expected = "\
TARGET:       build

BUILD ARG  DEFAULT  VALUE  DESCRIPTION
VERSION    1        2      what to fetch

SECRET  REQUIRED
token   required
";
        assert_eq!(table(&outline), expected);
    }
}
