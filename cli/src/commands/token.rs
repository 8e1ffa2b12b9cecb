//! `minka token` and `minka xpu token`: the files that say who may ask over the network.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::args::token::{Token, TokenFile};
use crate::failure::Failure;
use crate::output::{Output, Table};

/// Where a node's own tokens are, unless somebody says otherwise.
const TOKENS: &str = "/etc/minka/tokens.toml";

pub(super) fn of_node(command: &Token, output: &mut Output) -> Result<(), Failure> {
    token(command, Path::new(TOKENS), output.is_json(), output)
}

/// Changes or shows a file of tokens: the one that was named, or the usual one.
pub(super) fn token(command: &Token, usual: &Path, json: bool, output: &mut Output) -> Result<(), Failure> {
    let path = |file: &TokenFile| -> PathBuf { file.tokens.clone().unwrap_or_else(|| usual.to_owned()) };
    match command {
        Token::Add(add) => {
            let token = minka_access::add(&path(&add.file), &add.name, add.role)?;
            if json {
                return output.json(&json!({"name": add.name, "role": add.role, "token": token}));
            }
            output.remark(&output.text.get("token-once"));
            output.line(&token)
        }
        Token::List(file) => {
            let entries = minka_access::read(&path(file))?;
            if json {
                let one = |entry: &minka_access::Entry| json!({"name": entry.name, "role": entry.role});
                return output.json(&entries.iter().map(one).collect::<Vec<_>>());
            }
            let headings = ["token-name", "token-role"].map(|id| output.text.get(id)).to_vec();
            let mut table = Table::new(headings, vec![false, false]);
            for entry in entries {
                table.row(vec![entry.name, format!("{:?}", entry.role).to_lowercase()]);
            }
            table.lines().iter().try_for_each(|line| output.line(line))
        }
        Token::Remove(remove) => {
            let found = minka_access::remove(&path(&remove.file), &remove.name)?;
            found.then_some(()).ok_or_else(|| Failure::NoSuchToken { name: remove.name.clone() })
        }
    }
}
