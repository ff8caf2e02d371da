//! Calico's selector expressions over labels: `role == 'db' && !has(old)`.
//!
//! Grammar as Calico documents it: `all()`, `global()`, `has(k)`, `k == 'v'`, `k != 'v'`, `k in {'a','b'}`,
//! `k not in {…}`, `k contains 'v'`, `k starts with 'v'`, `k ends with 'v'`, `!`, `&&`, `||` and parentheses.
//! `!=` and `not in` hold for a label that is absent. An empty expression selects everything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

mod token;

use token::{Token, tokens};

/// A selector expression, parsed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expression {
    /// Everything.
    All,
    /// The label is there.
    Has(String),
    /// The label is there and its value passes.
    Value(String, Test),
    /// The inner expression does not hold.
    Not(Box<Expression>),
    /// All hold.
    And(Vec<Expression>),
    /// At least one holds.
    Or(Vec<Expression>),
}

/// A test of a label's value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Test {
    /// One of these.
    In(BTreeSet<String>),
    /// Has this in it.
    Contains(String),
    /// Begins with this.
    StartsWith(String),
    /// Ends with this.
    EndsWith(String),
}

/// Text that is not a selector expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("selector {text:?}: {reason}")]
pub struct InvalidExpression {
    text: String,
    reason: String,
}

/// Deeper nesting than this is refused: the parser recurses.
const DEEPEST: usize = 64;

impl Expression {
    /// Whether something with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::All => true,
            Self::Has(key) => labels.contains_key(key),
            Self::Value(key, test) => labels.get(key).is_some_and(|value| test.passes(value)),
            Self::Not(inner) => !inner.matches(labels),
            Self::And(parts) => parts.iter().all(|part| part.matches(labels)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(labels)),
        }
    }
}

impl Test {
    fn passes(&self, value: &str) -> bool {
        match self {
            Self::In(values) => values.contains(value),
            Self::Contains(part) => value.contains(part.as_str()),
            Self::StartsWith(part) => value.starts_with(part.as_str()),
            Self::EndsWith(part) => value.ends_with(part.as_str()),
        }
    }
}

impl FromStr for Expression {
    type Err = InvalidExpression;

    fn from_str(text: &str) -> Result<Self, InvalidExpression> {
        parse(text).map_err(|reason| InvalidExpression { text: text.to_owned(), reason })
    }
}

fn parse(text: &str) -> Result<Expression, String> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0, depth: 0 };
    if parser.tokens.is_empty() {
        return Ok(Expression::All);
    }
    let expression = parser.or()?;
    match parser.take() {
        None => Ok(expression),
        Some(token) => Err(format!("unexpected {token} after the end")),
    }
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn take(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.next).cloned();
        self.next += 1;
        token
    }

    fn accept(&mut self, token: &Token) -> bool {
        let there = self.tokens.get(self.next) == Some(token);
        self.next += usize::from(there);
        there
    }

    fn expect(&mut self, token: &Token) -> Result<(), String> {
        match self.take() {
            Some(found) if found == *token => Ok(()),
            Some(found) => Err(format!("expected {token}, found {found}")),
            None => Err(format!("expected {token}, found the end")),
        }
    }

    fn or(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.and()?];
        while self.accept(&Token::Or) {
            parts.push(self.and()?);
        }
        Ok(one_or(parts, Expression::Or))
    }

    fn and(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.unary()?];
        while self.accept(&Token::And) {
            parts.push(self.unary()?);
        }
        Ok(one_or(parts, Expression::And))
    }

    fn unary(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(format!("nested deeper than {DEEPEST}"));
        }
        let expression = if self.accept(&Token::Not) {
            Expression::Not(Box::new(self.unary()?))
        } else if self.accept(&Token::Open) {
            let inner = self.or()?;
            self.expect(&Token::Close)?;
            inner
        } else {
            self.term()?
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn term(&mut self) -> Result<Expression, String> {
        let word = self.word()?;
        if self.accept(&Token::Open) {
            return self.call(&word);
        }
        if self.accept(&Token::Equal) {
            return Ok(value_is_one_of(word, [self.text()?]));
        }
        if self.accept(&Token::NotEqual) {
            return Ok(not(value_is_one_of(word, [self.text()?])));
        }
        let operator = self.word()?;
        match operator.as_str() {
            "in" => Ok(value_is_one_of(word, self.list()?)),
            "not" => {
                self.expect(&Token::Word("in".to_owned()))?;
                Ok(not(value_is_one_of(word, self.list()?)))
            }
            "contains" => Ok(Expression::Value(word, Test::Contains(self.text()?))),
            "starts" => {
                self.expect(&Token::Word("with".to_owned()))?;
                Ok(Expression::Value(word, Test::StartsWith(self.text()?)))
            }
            "ends" => {
                self.expect(&Token::Word("with".to_owned()))?;
                Ok(Expression::Value(word, Test::EndsWith(self.text()?)))
            }
            other => Err(format!("{other:?} is not an operator")),
        }
    }

    fn call(&mut self, function: &str) -> Result<Expression, String> {
        let expression = match function {
            "all" | "global" => Expression::All,
            "has" => Expression::Has(self.word()?),
            other => return Err(format!("there is no function {other}()")),
        };
        self.expect(&Token::Close)?;
        Ok(expression)
    }

    fn word(&mut self) -> Result<String, String> {
        match self.take() {
            Some(Token::Word(word)) => Ok(word),
            Some(found) => Err(format!("expected a label, found {found}")),
            None => Err("expected a label, found the end".to_owned()),
        }
    }

    fn text(&mut self) -> Result<String, String> {
        match self.take() {
            Some(Token::Text(text)) => Ok(text),
            Some(found) => Err(format!("expected a quoted value, found {found}")),
            None => Err("expected a quoted value, found the end".to_owned()),
        }
    }

    fn list(&mut self) -> Result<Vec<String>, String> {
        self.expect(&Token::OpenSet)?;
        let mut values = Vec::new();
        if self.accept(&Token::CloseSet) {
            return Ok(values);
        }
        loop {
            values.push(self.text()?);
            if !self.accept(&Token::Comma) {
                self.expect(&Token::CloseSet)?;
                return Ok(values);
            }
        }
    }
}

fn one_or(mut parts: Vec<Expression>, many: fn(Vec<Expression>) -> Expression) -> Expression {
    if parts.len() == 1 { parts.remove(0) } else { many(parts) }
}

fn not(expression: Expression) -> Expression {
    Expression::Not(Box::new(expression))
}

fn value_is_one_of(key: String, values: impl IntoIterator<Item = String>) -> Expression {
    Expression::Value(key, Test::In(values.into_iter().collect()))
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |f: &mut fmt::Formatter<'_>, parts: &[Self], between: &str| {
            for (number, part) in parts.iter().enumerate() {
                if number > 0 {
                    f.write_str(between)?;
                }
                write!(f, "({part})")?;
            }
            Ok(())
        };
        match self {
            Self::All => f.write_str("all()"),
            Self::Has(key) => write!(f, "has({key})"),
            Self::Value(key, Test::In(values)) => {
                let quoted: Vec<String> = values.iter().map(|value| quote(value)).collect();
                write!(f, "{key} in {{{}}}", quoted.join(","))
            }
            Self::Value(key, Test::Contains(part)) => write!(f, "{key} contains {}", quote(part)),
            Self::Value(key, Test::StartsWith(part)) => {
                write!(f, "{key} starts with {}", quote(part))
            }
            Self::Value(key, Test::EndsWith(part)) => write!(f, "{key} ends with {}", quote(part)),
            Self::Not(inner) => write!(f, "!({inner})"),
            Self::And(parts) => join(f, parts, " && "),
            Self::Or(parts) => join(f, parts, " || "),
        }
    }
}

fn quote(text: &str) -> String {
    let mark = if text.contains('\'') { '"' } else { '\'' };
    format!("{mark}{text}{mark}")
}

#[cfg(test)]
mod tests;
