//! `--call=targets` for people: the stages that can be built.

use crate::plan::Target;

/// A line a stage.
pub(crate) fn table(targets: &[Target]) -> String {
    let rows = targets.iter().map(|target| {
        let mark = if target.is_default { " (default)" } else { "" };
        let name = target.name.as_deref().unwrap_or("(no name)");
        let platform = target.platform.as_deref().map(|it| format!(" on {it}"));
        vec![
            format!("{name}{mark}"),
            format!("{}{}", target.base, platform.unwrap_or_default()),
            target.description.clone().unwrap_or_default(),
        ]
    });
    columns(&["TARGET", "BASE", "DESCRIPTION"], rows.collect())
}

/// Rows under a head, each column as wide as its longest cell.
pub(crate) fn columns(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let head = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let mut widths = vec![0; rows[0].len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::Span;

    #[test]
    fn the_default_is_marked() {
        let target = |name: Option<&str>, base: &str, is_default: bool| Target {
            name: name.map(str::to_owned),
            description: is_default.then(|| "the image".to_owned()),
            base: base.to_owned(),
            platform: (!is_default).then(|| "linux/amd64".to_owned()),
            is_default,
            span: Span::default(),
        };
        let targets = [target(None, "golang:1", false), target(Some("out"), "scratch", true)];
        let expected = "\
TARGET         BASE                     DESCRIPTION
(no name)      golang:1 on linux/amd64
out (default)  scratch                  the image
";
        assert_eq!(table(&targets), expected);
    }
}
