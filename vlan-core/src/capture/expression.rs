//! The expression of a filter, as people write it, read into a program.
//!
//! ```text
//! expression = term { "or" term }
//! term       = factor { [ "and" ] factor }
//! factor     = "not" factor | "(" expression ")" | test
//! ```

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use crate::address::MacAddress;
use crate::capture::program::{FILTER_OCTETS_MAX, Filter, Side, Step, Test};
use crate::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6};

/// Parentheses and negations inside one another at most.
pub const NESTING_MAX: usize = 16;

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionError {
    /// Where in the text, in octets from its beginning.
    pub at: usize,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (column {})", self.what, self.at + 1)
    }
}

impl core::error::Error for ExpressionError {}

/// Reads an expression; one without a word keeps everything. `members` gives the addresses of a member, or none when
/// there is none of that name.
///
/// # Errors
/// When the text is no expression, or becomes a program that is too long.
pub fn compile(
    text: &str,
    members: &dyn Fn(&str) -> Option<Vec<MacAddress>>,
) -> Result<Filter, ExpressionError> {
    let mut parser = Parser { text, words: words(text), next: 0, steps: Vec::new(), members };
    if !parser.words.is_empty() {
        parser.expression(0)?;
        if let Some(word) = parser.peek() {
            return Err(error(word.at, "there is no \"(\" for this \")\""));
        }
    }
    let filter = Filter::from_steps(parser.steps).map_err(|filter| error(0, &filter.to_string()))?;
    match filter.emit().len() {
        0..=FILTER_OCTETS_MAX => Ok(filter),
        _ => Err(error(0, "the expression is too long")),
    }
}

#[derive(Clone, Copy)]
struct Word<'a> {
    at: usize,
    text: &'a str,
}

/// Cuts the text into words and parentheses.
fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut begin = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        let is_paren = matches!(c, '(' | ')');
        if is_paren || c.is_whitespace() {
            if let Some(begin) = begin.take() {
                words.push(Word { at: begin, text: &text[begin..at] });
            }
            if is_paren {
                words.push(Word { at, text: &text[at..=at] });
            }
        } else if begin.is_none() {
            begin = Some(at);
        }
    }
    words
}

struct Parser<'a> {
    text: &'a str,
    words: Vec<Word<'a>>,
    next: usize,
    steps: Vec<Step>,
    members: &'a dyn Fn(&str) -> Option<Vec<MacAddress>>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Word<'a>> {
        self.words.get(self.next).copied()
    }

    fn take_if(&mut self, text: &str) -> bool {
        let is_it = self.peek().is_some_and(|word| word.text == text);
        self.next += usize::from(is_it);
        is_it
    }

    fn word(&mut self, wanted: &str) -> Result<Word<'a>, ExpressionError> {
        let word = self.peek().ok_or_else(|| error(self.text.len(), &[wanted, " is missing"].concat()))?;
        self.next += 1;
        Ok(word)
    }

    fn expression(&mut self, depth: usize) -> Result<(), ExpressionError> {
        self.term(depth)?;
        while self.take_if("or") {
            self.term(depth)?;
            self.steps.push(Step::Or);
        }
        Ok(())
    }

    fn term(&mut self, depth: usize) -> Result<(), ExpressionError> {
        self.factor(depth)?;
        while self.take_if("and") || self.peek().is_some_and(|word| !matches!(word.text, "or" | ")")) {
            self.factor(depth)?;
            self.steps.push(Step::And);
        }
        Ok(())
    }

    fn factor(&mut self, depth: usize) -> Result<(), ExpressionError> {
        let word = self.word("a test")?;
        if depth >= NESTING_MAX {
            return Err(error(word.at, "too many parentheses and negations inside one another"));
        }
        match word.text {
            "not" => {
                self.factor(depth + 1)?;
                self.steps.push(Step::Not);
                Ok(())
            }
            "(" => {
                self.expression(depth + 1)?;
                if self.take_if(")") { Ok(()) } else { Err(error(word.at, "this \"(\" is not closed")) }
            }
            "src" => self.sided(Side::Source),
            "dst" => self.sided(Side::Destination),
            _ => self.test(word, Side::Either),
        }
    }

    /// A test behind `src` or `dst`.
    fn sided(&mut self, side: Side) -> Result<(), ExpressionError> {
        let word = self.word("what follows src or dst")?;
        match word.text {
            "mac" | "host" | "net" | "port" | "member" => self.test(word, side),
            _ => Err(error(word.at, "src and dst stand before mac, host, net, port or member")),
        }
    }

    fn test(&mut self, word: Word<'a>, side: Side) -> Result<(), ExpressionError> {
        let test = match word.text {
            "arp" => Test::EtherType(ETHERTYPE_ARP),
            "ip" => Test::EtherType(ETHERTYPE_IPV4),
            "ip6" => Test::EtherType(ETHERTYPE_IPV6),
            "icmp" => Test::Protocol(1),
            "tcp" => Test::Protocol(6),
            "udp" => Test::Protocol(17),
            "icmp6" => Test::Protocol(58),
            "sctp" => Test::Protocol(132),
            "broadcast" => Test::Broadcast,
            "multicast" => Test::Group,
            "control" => Test::Control,
            "ethertype" => Test::EtherType(self.number("an EtherType such as 0x0806")?),
            "proto" => Test::Protocol(self.number("a protocol number such as 17")?),
            "port" => Test::Port(side, self.number("a port number")?),
            "less" => Test::Less(self.number("a number of octets")?),
            "greater" => Test::Greater(self.number("a number of octets")?),
            "mac" => Test::Mac(side, self.operand("a MAC address such as 02:00:01:00:00:01")?),
            "host" | "net" => self.host(side)?,
            "member" => return self.member(side),
            other => return Err(error(word.at, &["there is no test \"", other, "\""].concat())),
        };
        self.steps.push(Step::Ask(test));
        Ok(())
    }

    fn operand<T: FromStr>(&mut self, wanted: &str) -> Result<T, ExpressionError> {
        let word = self.word(wanted)?;
        let wrong = || error(word.at, &["\"", word.text, "\" is not ", wanted].concat());
        word.text.parse().map_err(|_| wrong())
    }

    /// A number, decimal or behind `0x`.
    fn number<T: TryFrom<u32>>(&mut self, wanted: &str) -> Result<T, ExpressionError> {
        let word = self.word(wanted)?;
        let number = match word.text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => word.text.parse(),
        };
        let wrong = || error(word.at, &["\"", word.text, "\" is not ", wanted].concat());
        number.ok().and_then(|number| T::try_from(number).ok()).ok_or_else(wrong)
    }

    fn host(&mut self, side: Side) -> Result<Test, ExpressionError> {
        let wanted = "an address such as 10.1.0.2 or fd00::/64";
        let word = self.word(wanted)?;
        let wrong = || error(word.at, &["\"", word.text, "\" is not ", wanted].concat());
        let (address, prefix) = match word.text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (word.text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(bits), |prefix| prefix.parse::<u8>().map_err(|_| wrong()))?;
        if prefix > bits { Err(wrong()) } else { Ok(Test::Host(side, address, prefix)) }
    }

    /// All addresses of a member, any of which will do.
    fn member(&mut self, side: Side) -> Result<(), ExpressionError> {
        let word = self.word("a member's name")?;
        let addresses = (self.members)(word.text).unwrap_or_default();
        if addresses.is_empty() {
            return Err(error(word.at, &["there is no member \"", word.text, "\""].concat()));
        }
        for (place, mac) in addresses.into_iter().enumerate() {
            self.steps.push(Step::Ask(Test::Mac(side, mac)));
            if place > 0 {
                self.steps.push(Step::Or);
            }
        }
        Ok(())
    }
}

fn error(at: usize, what: &str) -> ExpressionError {
    ExpressionError { at, what: what.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn members(name: &str) -> Option<Vec<MacAddress>> {
        (name == "web1").then(|| vec![MacAddress([2, 0, 1, 0, 0, 1]), MacAddress([2, 0, 1, 0, 0, 9])])
    }

    fn steps(text: &str) -> Vec<u8> {
        compile(text, &members).unwrap_or_else(|error| panic!("{text}: {error}")).emit()
    }

    fn refused(text: &str) -> (usize, String) {
        let error = compile(text, &members).expect_err(text);
        (error.at, error.what)
    }

    #[test]
    fn or_binds_less_than_and_which_may_be_left_out() {
        let joined = steps("arp or tcp and port 80");
        assert_eq!(joined, [0x10, 6, 8, 0x14, 6, 0x15, 3, 80, 0, 1, 2]);
        assert_eq!(steps("arp or tcp port 80"), joined);
        assert_eq!(steps("(arp or tcp)port 80"), [0x10, 6, 8, 0x14, 6, 2, 0x15, 3, 80, 0, 1]);
        assert_eq!(steps("not arp tcp"), [0x10, 6, 8, 3, 0x14, 6, 1]);
        assert_eq!(steps(" \t"), []);
    }

    #[test]
    fn each_test_reads_its_operand() {
        assert_eq!(steps("ethertype 0x88b5"), [0x10, 0xb5, 0x88]);
        assert_eq!(steps("src mac 02:00:01:00:00:07"), [0x11, 1, 2, 0, 1, 0, 0, 7]);
        assert_eq!(steps("dst host 10.1.0.2"), [0x12, 2, 10, 1, 0, 2, 32]);
        assert_eq!(steps("net fd00::/8")[..3], [0x13, 3, 0xfd]);
        assert_eq!(steps("src port 53"), [0x15, 1, 53, 0]);
        assert_eq!(steps("less 64 greater 60"), [0x18, 64, 0, 0, 0, 0x19, 60, 0, 0, 0, 1]);
        assert_eq!(steps("proto 58 or control"), [0x14, 58, 0x1a, 2]);
        let two = [0x11, 2, 2, 0, 1, 0, 0, 1, 0x11, 2, 2, 0, 1, 0, 0, 9, 2];
        assert_eq!(steps("dst member web1"), two);
    }

    #[test]
    fn a_mistake_is_shown_where_it_is() {
        let cases = [
            ("tcp prot 80", 4, "no test \"prot\""),
            ("port", 4, "a port number is missing"),
            ("port 65536", 5, "not a port number"),
            ("tcp and", 7, "a test is missing"),
            ("(tcp or udp", 0, "not closed"),
            ("tcp)", 3, "no \"(\""),
            ("src tcp", 4, "src and dst stand before"),
            ("host 10.1.0.0/33", 5, "not an address"),
            ("member web7", 7, "no member \"web7\""),
            ("or", 0, "no test \"or\""),
        ];
        for (text, at, what) in cases {
            let (found, said) = refused(text);
            assert!(found == at && said.contains(what), "{text}: {found} {said}");
        }
    }

    #[test]
    fn nesting_and_length_are_bounded() {
        let nested = |depth: usize| ["(".repeat(depth), "tcp".into(), ")".repeat(depth)].concat();
        assert_eq!(steps(&nested(NESTING_MAX - 1)), [0x14, 6]);
        assert!(refused(&nested(NESTING_MAX)).1.contains("too many parentheses"));
        assert!(refused(&"not ".repeat(5000)).1.contains("too many"));
        assert!(refused(&"tcp ".repeat(500)).1.contains("too long"));
        assert!(refused(&"(".repeat(5000)).1.contains("too many"));
    }
}
