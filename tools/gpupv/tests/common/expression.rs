// SPDX-License-Identifier: MIT OR Apache-2.0

//! The little language in which the layout data states lengths: whole numbers, variables, `+`, `*`,
//! `align8(x)`, `max(x, y)`, and `x if condition else y`.

use std::collections::BTreeMap;

/// Values of variables.
pub type Variables = BTreeMap<&'static str, usize>;

/// The value of an expression.
pub fn evaluate(text: &str, variables: &Variables) -> usize {
    let spaced = ["(", ")", "+", "*", ","]
        .iter()
        .fold(text.to_owned(), |text, sign| {
            text.replace(sign, &format!(" {sign} "))
        });
    let mut parser = Parser {
        tokens: spaced.split_whitespace().collect(),
        at: 0,
        variables,
    };
    let value = parser.choice();
    assert_eq!(parser.at, parser.tokens.len(), "left over in {text}");
    value
}

struct Parser<'a> {
    tokens: Vec<&'a str>,
    at: usize,
    variables: &'a Variables,
}

impl Parser<'_> {
    fn accept(&mut self, token: &str) -> bool {
        let found = self.tokens.get(self.at) == Some(&token);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, token: &str) {
        assert!(self.accept(token), "{token} expected in {:?}", self.tokens);
    }

    fn choice(&mut self) -> usize {
        let value = self.sum();
        if !self.accept("if") {
            return value;
        }
        let left = self.sum();
        let condition = if self.accept("==") {
            left == self.sum()
        } else {
            left != 0
        };
        self.expect("else");
        let other = self.choice();
        if condition {
            value
        } else {
            other
        }
    }

    fn sum(&mut self) -> usize {
        let mut value = self.product();
        while self.accept("+") {
            value += self.product();
        }
        value
    }

    fn product(&mut self) -> usize {
        let mut value = self.factor();
        while self.accept("*") {
            value *= self.factor();
        }
        value
    }

    fn factor(&mut self) -> usize {
        if self.accept("align8") {
            self.expect("(");
            let value = self.choice();
            self.expect(")");
            return value.div_ceil(8) * 8;
        }
        if self.accept("max") {
            self.expect("(");
            let first = self.choice();
            self.expect(",");
            let second = self.choice();
            self.expect(")");
            return first.max(second);
        }
        let token = self.tokens[self.at];
        self.at += 1;
        token.parse().unwrap_or_else(|_| {
            let value = self.variables.get(token);
            *value.unwrap_or_else(|| panic!("no value for {token}"))
        })
    }
}
