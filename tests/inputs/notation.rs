//! How tables are written: a row is a line with ` | ` in it, and signs stand for what is not seen.

/// A row, and its number in the file for whoever has to find it.
pub(crate) struct Row {
    /// Counted from 1.
    pub(crate) line: usize,
    /// With newlines in place of `␤` and so on.
    pub(crate) cells: Vec<String>,
}

/// All rows of a table, which must be at least so many: a table that is not read holds nobody.
#[track_caller]
pub(crate) fn rows(table: &str, least: usize) -> Vec<Row> {
    let numbered = table.lines().zip(1..).filter(|(text, _)| text.contains(" | "));
    let rows: Vec<Row> = numbered
        .map(|(text, line)| Row { line, cells: text.split(" | ").map(cell).collect() })
        .collect();
    assert!(rows.len() >= least, "{} rows", rows.len());
    rows
}

/// Blanks at the end of a cell do not count, unless written as `␠`.
fn cell(text: &str) -> String {
    let signs = [("␤", "\n"), ("␉", "\t"), ("␍", "\r"), ("␠", " ")];
    signs.iter().fold(text.trim_end().to_owned(), |text, (sign, meant)| text.replace(sign, meant))
}

/// Compares all rows, and shows every one that differs.
#[track_caller]
pub(crate) fn compare(differences: &[(usize, String, String)]) {
    let mut text = String::new();
    for (line, expected, found) in differences {
        text += &format!("line {line}:\n  expected {expected:?}\n     found {found:?}\n");
    }
    assert!(differences.is_empty(), "{} rows differ\n{text}", differences.len());
}
