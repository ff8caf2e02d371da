//! Words of a selector expression.

use std::fmt;

/// One word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    Text(String),
    Open,
    Close,
    OpenSet,
    CloseSet,
    Comma,
    Equal,
    NotEqual,
    Not,
    And,
    Or,
}

/// Splits text into words.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '{' => (Token::OpenSet, 1),
            '}' => (Token::CloseSet, 1),
            ',' => (Token::Comma, 1),
            '\'' | '"' => quoted(rest, first)?,
            _ if rest.starts_with("==") => (Token::Equal, 2),
            _ if rest.starts_with("!=") => (Token::NotEqual, 2),
            _ if rest.starts_with("&&") => (Token::And, 2),
            _ if rest.starts_with("||") => (Token::Or, 2),
            '!' => (Token::Not, 1),
            _ => word(rest, first)?,
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn quoted(rest: &str, mark: char) -> Result<(Token, usize), String> {
    let inner = &rest[1..];
    let end = inner.find(mark).ok_or_else(|| format!("no closing {mark} after {inner:?}"))?;
    Ok((Token::Text(inner[..end].to_owned()), end + 2))
}

fn word(rest: &str, first: char) -> Result<(Token, usize), String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
    let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    if end == 0 {
        return Err(format!("unexpected {first:?}"));
    }
    Ok((Token::Word(rest[..end].to_owned()), end))
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Word(word) => return write!(f, "{word:?}"),
            Self::Text(text) => return write!(f, "the value {text:?}"),
            Self::Open => "(",
            Self::Close => ")",
            Self::OpenSet => "{",
            Self::CloseSet => "}",
            Self::Comma => ",",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Not => "!",
            Self::And => "&&",
            Self::Or => "||",
        };
        f.write_str(text)
    }
}
