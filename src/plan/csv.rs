//! One line of comma-separated values, as Go's `encoding/csv` reads it (rule A156).

/// Why a line is not comma-separated values, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// Nothing there.
    #[error("EOF")]
    Empty,
    /// A quote within a field that does not begin with one.
    #[error("parse error on line 1, column {0}: bare \" in non-quoted field")]
    BareQuote(usize),
    /// A quoted field that does not end, or goes on after its end.
    #[error("parse error on line 1, column {0}: extraneous or missing \" in quoted-field")]
    Quote(usize),
}

/// Splits the line.
pub(crate) fn fields(line: &str) -> Result<Vec<String>, CsvError> {
    if line.is_empty() {
        return Err(CsvError::Empty);
    }
    let mut fields = Vec::new();
    let mut rest = Some(line);
    while let Some(text) = rest {
        let column = line.len() - text.len() + 1;
        let (field, next) = if let Some(quoted) = text.strip_prefix('"') {
            quoted_field(quoted, column)?
        } else {
            plain_field(text, column)?
        };
        fields.push(field);
        rest = next;
    }
    Ok(fields)
}

/// Reads up to the closing quote; a doubled quote stands for one.
fn quoted_field(mut text: &str, column: usize) -> Result<(String, Option<&str>), CsvError> {
    let mut field = String::new();
    loop {
        let (part, after) = text.split_once('"').ok_or(CsvError::Quote(column))?;
        field.push_str(part);
        match after.as_bytes().first() {
            Some(b'"') => {
                field.push('"');
                text = &after[1..];
            }
            None => return Ok((field, None)),
            Some(b',') => return Ok((field, Some(&after[1..]))),
            Some(_) => return Err(CsvError::Quote(column)),
        }
    }
}

/// Reads up to the next comma.
fn plain_field(text: &str, column: usize) -> Result<(String, Option<&str>), CsvError> {
    let (field, rest) =
        text.split_once(',').map_or((text, None), |(field, rest)| (field, Some(rest)));
    match field.find('"') {
        Some(quote) => Err(CsvError::BareQuote(column + quote)),
        None => Ok((field.to_owned(), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a156_fields_are_split_as_go_splits_them() {
        let check = |line: &str, expected: Result<&[&str], CsvError>| {
            let expected = expected.map(|it| it.iter().map(|x| (*x).to_owned()).collect());
            assert_eq!(fields(line), expected, "{line}");
        };
        check("type=bind,ro", Ok(&["type=bind", "ro"]));
        check("a,", Ok(&["a", ""]));
        check(r#"type=bind,"source=with,comma",x"#, Ok(&["type=bind", "source=with,comma", "x"]));
        check(r#""a""b""#, Ok(&[r#"a"b"#]));
        check("", Err(CsvError::Empty));
        check(r#"a,b"c"#, Err(CsvError::BareQuote(4)));
        check(r#"a,"b"#, Err(CsvError::Quote(3)));
        check(r#""a"b"#, Err(CsvError::Quote(1)));
    }
}
